package grant

import (
	"fmt"
	"time"
)

// Status is a grant's state for people: no token, times by Redis' clock.
type Status struct {
	Key
	State      State
	Reason     string // why it must be reauthorized, or is suspect
	Generation int64
	Epoch      time.Time // of the consent

	IssuedAt, ExpiresAt, RefreshAt, RefreshTokenExpiresAt time.Time
	UsedAt                                                time.Time // coarse
	WarnedAt                                              time.Time // of the fixed end of its refresh token
	AccessTokenFingerprint, RefreshTokenFingerprint       string
	By                                                    string // who stored this state

	ClaimBy                 string // who presents the refresh token; empty for nobody
	ClaimAt, ClaimUntil     time.Time
	UnresolvedPresentations int64

	Fails            int64
	RetryAt, ErrorAt time.Time
	Error            string // class/code/status

	Rejects  int64     // exchanges in a row that refused access tokens have forced
	RejectAt time.Time // before it no other is

	Now time.Time // Redis' clock
}

// String is one line for people.
func (s Status) String() string {
	text := fmt.Sprintf("%s %s generation %d, access token until %s by a clock that says %s", s.Key, s.State, s.Generation,
		s.ExpiresAt.Format(time.RFC3339), s.Now.Format(time.RFC3339))
	if s.Reason != "" {
		text += ", reason " + s.Reason
	}
	if s.Error != "" {
		text += ", last failure " + s.Error
	}
	if s.ClaimBy != "" {
		text += ", presented by " + s.ClaimBy
	}
	return text
}

// Status returns what people see of the grant's record, at Redis' time now.
func (k Key) Status(r *Record, now int64) Status {
	return Status{
		Key: k, State: r.State, Reason: r.Reason, Generation: r.Generation, Epoch: Time(r.Epoch),
		IssuedAt: Time(r.IssuedAt), ExpiresAt: Time(r.ExpiresAt), RefreshAt: Time(r.RefreshAt),
		RefreshTokenExpiresAt: Time(r.RefreshTokenExpiresAt),
		UsedAt:                Time(r.UsedAt), WarnedAt: Time(r.WarnedAt),
		AccessTokenFingerprint: r.AccessFP, RefreshTokenFingerprint: r.RefreshFP, By: r.By,
		ClaimBy: r.Claim.By, ClaimAt: Time(r.Claim.At), ClaimUntil: Time(r.Claim.Until),
		UnresolvedPresentations: r.Claim.N,
		Fails:                   r.Fails, RetryAt: Time(r.RetryAt), ErrorAt: Time(r.ErrorAt), Error: r.Error,
		Rejects: r.Rejects, RejectAt: Time(r.RejectAt),
		Now: Time(now),
	}
}

// Time is a time of Redis' clock, unix ms, for people; 0 is the zero time.
func Time(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
