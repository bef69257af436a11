package memory

import (
	"fmt"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// Snapshot is what this process knows of a grant: one moment of its record, with
// the opened pair. It does not change.
type Snapshot struct {
	// What a reader in a hurry looks at stands first, in one cache line.
	session uint64         // subscription session in which it was read or pushed; 0 none
	calm    mono.Time      // until this tick it is fresh for sure
	fresh   mono.Time      // until then neither due nor expired
	ends    mono.Time      // until then not expired
	token   **oauth2.Token // two steps away: fmt follows one, also where it cannot call Format

	grant.Key
	grant.Record
	// Pair is empty while the grant is disconnected.
	Pair grant.Pair
	// Err says why the sealed pair did not open; the record is good all the same.
	Err error
	// Pending: the pair is genuine but not yet in Redis.
	Pending bool

	heard bool      // known from a push alone, without a sealed pair of this state that opened
	solid *Snapshot // with heard: the last state before it that was read or made here; may be nil

	claimEnds mono.Time // when the claim's hard deadline is, by what was first known of it

	behind int64 // ms by which the pair has aged more than now says: Redis' clock was set back

	now     int64 // Redis' clock at `at`; never early
	at      mono.Time
	doubt   mono.Time // by how much `at` may be too early for now
	home    *Entry    // hot when the request was sent, or the event came
	knownAt mono.Time // when this process knew it

	judged string // the server on which it may be claimed; "" for any
}

// Draft is a state as a reply or a push tells it, which nobody else knows yet. Finish makes the snapshot of it.
type Draft Snapshot

// NewDraft is of a grant of which is known, at a moment, what time it is in Redis, unix ms; never early.
func NewDraft(k grant.Key, now int64, at mono.Time) *Draft { return &Draft{Key: k, now: now, at: at} }

// Next is a draft of what follows s: its record, as known when s was.
func Next(s *Snapshot) *Draft {
	return &Draft{Key: s.Key, Record: s.Record, now: s.now, at: s.at, doubt: s.doubt}
}

// Now is Redis' clock when the draft's state was known, unix ms.
func (d *Draft) Now() int64 { return d.now }

// From says where the grant was in memory, and in which session subscribed, when the request for the state
// was sent, or the event came; nil and 0 for neither.
func (d *Draft) From(home *Entry, session uint64) { d.home, d.session = home, session }

// AgeBy notes by how many ms more the pair has aged than Redis' clock tells, since that was set back.
func (d *Draft) AgeBy(behind int64) { d.behind = behind }

// Doubt notes by how much later than at the time given Redis' clock may have said now: a slow reply does not tell.
func (d *Draft) Doubt(by mono.Time) { d.doubt = by }

// MarkHeard notes that the state is known from a push alone, without a sealed pair of it that opened. before is
// the last one that was read or made here; nil for none.
func (d *Draft) MarkHeard(before *Snapshot) { d.heard, d.solid = true, before }

// MarkMade notes that the state was read or made, or came with a sealed pair that opened.
func (d *Draft) MarkMade() { d.heard, d.solid = false, nil }

// NeedsPair makes a record that was read without its pair say so.
func (d *Draft) NeedsPair() {
	if (*Snapshot)(d).Incomplete() {
		d.Err = ErrNoPair
	}
}

// Supersedes reports whether the state takes the place of old in this process's memory: generations never go
// backwards, but a pair that never reached Redis yields to the one that did.
func (d *Draft) Supersedes(old *Snapshot) bool { return (*Snapshot)(d).supersedes(old) }

// Finish computes what readers need on their fast path. The draft must not be used any more.
func (d *Draft) Finish() *Snapshot {
	s := (*Snapshot)(d)
	s.knownAt = mono.Now()
	s.claimEnds = s.at + clock.Span(s.Claim.Until-s.now)
	if s.token = nil; s.Pair.AccessToken.Reveal() == "" || s.State == grant.Reauthorize && s.Refused() {
		return s // there is none, or two have said that it is dead: an API, and the provider of the grant
	}
	s.ends = s.at + clock.Span(s.Pair.ExpiresAt-s.now-s.behind)
	s.fresh = min(s.ends, s.at+clock.Span(s.Pair.RefreshAt-s.now-s.behind))
	s.calm = s.fresh - 3*hub.TickEvery // a tick may be late, though not by so much
	left := s.ends - mono.Now()
	token := (&oauth2.Token{
		AccessToken: s.Pair.AccessToken.Reveal(),
		TokenType:   s.Pair.TokenType,
		Expiry:      time.Now().Add(left),
	}).WithExtra(s.Pair.Extra)
	s.token = &token
	return s
}

// Now is Redis' time at this moment, unix ms, as far as this process can tell; it
// may be ahead by the duration of one request, never behind.
func (s *Snapshot) Now() int64 {
	return s.now + (mono.Now() - s.at).Milliseconds()
}

// At is the Redis time, unix ms, at which this was read or pushed.
func (s *Snapshot) At() int64 { return s.now }

// Until returns how long it is from now to a time of Redis' clock; never negative. It knows at once that
// the machine was suspended.
func (s *Snapshot) Until(t int64) time.Duration {
	mono.Wake()
	return max(0, s.at+clock.Span(t-s.now)-mono.Now())
}

// Valid reports whether the access token has not expired.
func (s *Snapshot) Valid() bool { return s.token != nil && mono.Now() < s.ends }

// ClaimUntil is the Redis time, unix ms, at which the claim's hard deadline passes by this process's
// clock: what it first knew of it counts, should Redis' clock be set.
func (s *Snapshot) ClaimUntil() int64 {
	if s.claimEnds == 0 {
		return s.Claim.Until
	}
	return s.now + int64((s.claimEnds-s.at+time.Millisecond-1)/time.Millisecond)
}

// Ended reports whether the access token is known to have expired: where Redis' time is not known well, a
// while after it is no longer valid.
func (s *Snapshot) Ended() bool { return s.token != nil && mono.Now() >= s.ends+s.doubt }

// expires is the Redis time, unix ms, at which the access token has expired.
func (s *Snapshot) expires() int64 {
	if s.Ended() {
		return min(s.ExpiresAt, s.now)
	}
	return s.ExpiresAt - s.behind
}

// Behind returns by how much more the pair has aged than Redis' clock says, since that was set back.
func (s *Snapshot) Behind() time.Duration { return clock.Span(s.behind) }

// keepDates takes over what old has of the deadlines that both have: they are turned into such of our clock
// once. Redis' may have been set in between. It changes s, which nobody else knows.
func (s *Snapshot) keepDates(old *Snapshot) {
	if s.Claim.Unresolved() && s.Claim.ID == old.Claim.ID && s.Claim.Until == old.Claim.Until {
		s.claimEnds = old.claimEnds
	}
	const differ = grant.ClockTolerance * time.Millisecond // else the last one to be asked knows it best
	if s.Epoch == old.Epoch && s.Generation == old.Generation && s.AccessFP == old.AccessFP && old.token != nil && s.token != nil && s.ends > old.ends+old.doubt+differ {
		s.ends, s.fresh, s.calm, s.token, s.doubt = old.ends, old.fresh, old.calm, old.token, old.doubt
		s.behind = max(s.behind, old.behind+(old.now-s.now)+(s.at-old.at).Milliseconds())
	}
}

// Fresh reports whether the access token is neither due nor expired.
func (s *Snapshot) Fresh() bool { return s.token != nil && mono.Now() < s.fresh }

// Token is the access token, without the refresh token; nil where there is none.
// It is shared: do not change it.
func (s *Snapshot) Token() *oauth2.Token {
	if s.token == nil {
		return nil
	}
	return *s.token
}

// Incomplete reports that only the record was pushed: the pair must be read.
func (s *Snapshot) Incomplete() bool {
	return s.Pair.AccessToken.Reveal() == "" && s.Err == nil && s.State != grant.Disconnected
}

// Sure is the newest state that this process has read, made, or been sent with a sealed pair that
// opens: what it may give back to Redis. A tombstone that was only heard of is none, and what was
// there before it is over. Nil for none.
func (s *Snapshot) Sure() *Snapshot {
	switch {
	case s == nil || s.heard && s.State == grant.Disconnected:
		return nil
	case s.heard:
		return s.solid
	}
	return s
}

// ErrNoPair says that Redis has the record, but not the pair.
var ErrNoPair = fmt.Errorf("%w (Redis has the record, but not the pair: a key was deleted or evicted)", grant.ErrSealed)

// ahead returns how far Redis' clock is ahead of ours by this snapshot, at most.
func (s *Snapshot) ahead() mono.Time { return time.Duration(s.now)*time.Millisecond - s.at }

// supersedes is [Draft.Supersedes].
func (s *Snapshot) supersedes(old *Snapshot) bool {
	if old == nil {
		return true
	}
	if old.Pending && !s.Pending && s.Epoch == old.Epoch && s.Generation == old.Generation {
		return true
	}
	return s.Compare(&old.Record) > 0
}

// KnownBefore reports whether this process knew the state before a moment: a request that was sent then cannot
// honestly have found less.
func (s *Snapshot) KnownBefore(at mono.Time) bool { return at > s.knownAt }

// HeardOnly reports whether the state is known from a push alone, without a sealed pair of it that opened.
func (s *Snapshot) HeardOnly() bool { return s.heard }

// ChangedWithin reports whether the grant had been changed within d before a moment.
func (s *Snapshot) ChangedWithin(d time.Duration, at mono.Time) bool {
	return time.Duration(s.now-s.ChangedAt())*time.Millisecond+at-s.at < d
}

// JudgedOn is the same state as it may be claimed on one server, and nowhere else.
func JudgedOn(server string, s *Snapshot) *Snapshot {
	own := *s
	own.judged = server
	return &own
}

// Judged is the server on which the state may be claimed; "" for any.
func (s *Snapshot) Judged() string { return s.judged }

// OpensAt is the Redis time, unix ms, from which a grant's unresolved claim may be
// taken over; the script decides, this tells a waiter when to ask.
func (s *Snapshot) OpensAt(t grant.Takeover) int64 {
	now := s.Now()
	if t < 0 || t > 0 && now < s.Claim.At+t.Millis() && now >= s.Claim.At-grant.ClockTolerance {
		return now
	}
	if s.Refused() {
		return s.ClaimUntil()
	}
	return max(s.ClaimUntil(), s.expires())
}
