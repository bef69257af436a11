package engine

import (
	"context"
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

// Status reads a grant's state. The error is ErrNone, or says why Redis did not answer.
func (c *Cache) Status(ctx context.Context, k Key) (Status, error) {
	a, err := c.read(ctx, k)
	if err != nil {
		return Status{}, err
	}
	if a.damaged != nil {
		return Status{}, a.damaged
	}
	if a.snap == nil {
		return Status{}, ErrNone
	}
	r := a.snap.Record
	return Status{
		Key: k, State: r.State, Reason: r.Reason, Generation: r.Generation, Epoch: at(r.Epoch),
		IssuedAt: at(r.IssuedAt), ExpiresAt: at(r.ExpiresAt), RefreshAt: at(r.RefreshAt),
		RefreshTokenExpiresAt: at(r.RefreshTokenExpiresAt),
		UsedAt:                at(r.UsedAt), WarnedAt: at(r.WarnedAt),
		AccessTokenFingerprint: r.AccessFP, RefreshTokenFingerprint: r.RefreshFP, By: r.By,
		ClaimBy: r.Claim.By, ClaimAt: at(r.Claim.At), ClaimUntil: at(r.Claim.Until),
		UnresolvedPresentations: r.Claim.N,
		Fails:                   r.Fails, RetryAt: at(r.RetryAt), ErrorAt: at(r.ErrorAt), Error: r.Error,
		Rejects: r.Rejects, RejectAt: at(r.RejectAt),
		Now: at(a.now),
	}, nil
}

func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
