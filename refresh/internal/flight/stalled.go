package flight

import (
	"context"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// forLong is longer than any wait.
const forLong = time.Hour

// noteStalled says, once for each claim, that the process which presents the refresh token has gone silent: its
// lease was not extended, and nobody has it. It returns after which time it is to be called again.
func noteStalled(f *flight, s *engine.Snapshot) time.Duration {
	f.waitsFor.Store(s)
	if !stands(s) || f.stalled == s.Claim.ID {
		return forLong
	}
	due := max(s.Until(s.Claim.At+(f.Locker.TTL()+policy.Slack).Milliseconds()), f.leaseHeld())
	if due > 0 {
		return due
	}
	ctx, cancel := context.WithTimeout(f.Work.Waiting, work.RedisTimeout)
	defer cancel()
	silent, err := f.grant.Stalled(ctx, s)
	switch {
	case err != nil:
		return policy.FirstRetry
	case !silent: // it has extended its lease, or has done its work
		return f.Locker.TTL() / 3
	}
	f.stalled = s.Claim.ID
	f.Log.Warn().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Str("holder", s.Claim.By).
		Time("since", time.UnixMilli(s.Claim.At).UTC()).Time("takeover_at", time.UnixMilli(s.OpensAt(f.Takeover)).UTC()).
		Msg("the process that presents the refresh token has gone silent: others wait until they may take over")
	return forLong
}

// stands reports whether a claim waits for its holder: not for a new try after an answer that says nothing.
func stands(s *engine.Snapshot) bool {
	r := &s.Record
	code, _, _ := policy.ParseErrorText(r.Error)
	return r.State == tokencache.Active && r.Claim.Unresolved() && (r.Error == "" || r.ErrorAt < r.Claim.At || code == "slow_exchange")
}

// left is the error of a caller that leaves a flight: it says for whom the flight waits.
func left(ctx context.Context, f *flight) error {
	s := f.waitsFor.Load()
	if s == nil || !s.Claim.Unresolved() {
		return work.Left(ctx, f.key)
	}
	return work.LeftWaiting(ctx, f.key, policy.Standing(&s.Record, s.OpensAt(f.Takeover)))
}
