package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/inbox"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// change runs a script that changes base's grant and takes the result into memory.
// pair is what belongs to the record if the script stored it or left it as it was.
func (g Grant) change(pair grant.Pair, run func() (answer, error)) (grant.Outcome, *Snapshot, error) {
	a, err := run()
	if errors.Is(err, grant.ErrDamaged) { // perhaps this process can put it right
		s, err := g.Read(context.Background())
		return grant.OutcomeMoved, s, err
	}
	if err != nil {
		return "", nil, err
	}
	switch {
	case a.Snap == nil:
	case a.Status == string(grant.OutcomeMoved), a.Status == string(grant.OutcomeReplaced):
		a.Snap.NeedsPair()
	default:
		a.Snap.Pair = pair
	}
	ctx, cancel := context.WithTimeout(context.Background(), inbox.MendTimeout)
	defer cancel()
	snap, err := g.in().Reconcile(ctx, a)
	if err = cmp.Or(err, a.Lacks); err != nil {
		return grant.Outcome(a.Status), nil, err
	}
	return grant.Outcome(a.Status), snap, nil
}

// Claim notes that holder `by` presents base's generation within ttl. Anything but OK
// means: do not present. The snapshot is the grant as it is then. An unresolved claim is taken over only
// if base has it: whether its time is over is known by this process's clock, too, and Redis' can be set. If base is dead it is claimed for a
// revival, once its RetryAt has come.
func (g Grant) Claim(ctx context.Context, base *Snapshot, id string, ttl time.Duration, t grant.Takeover, opts ...ChangeOption) (grant.Outcome, *Snapshot, error) {
	ks, revival, over := g.keys(), "", ""
	if base.State == grant.Reauthorize {
		revival = "revival"
	}
	if base.Ended() {
		over = "over"
	}
	return g.change(base.Pair, func() (answer, error) {
		a, err := g.store(ctx, "claim", store.ClaimScript, []string{ks.Grant(), ks.Secret(), ks.Journal()}, opts,
			ks.Events(), g.c.journal, id, grant.Clip(g.by), base.Epoch, base.Generation, ttl.Milliseconds(), t.Millis(), grant.Fingerprint(base.Pair.RefreshToken.Reveal()), base.Judged(),
			revival, base.Claim.ID, over, grant.Clip(noteOf(g).Why))
		if a.Status != string(grant.OutcomeOK) {
			a.Lacks = nil // nothing is claimed
		}
		if a.Status == string(grant.OutcomeReplaced) {
			g.c.servers.Forget()
		}
		return a, err
	})
}

// Extend says that the exchange under base's claim is still under way, and puts the claim's hard
// deadline off to ttl from now. With an error (class/code/status) callers get that meanwhile, and may
// ask again after retry; without one they wait. Moved: the grant has moved on. Claimed: that claim
// does not stand any more.
func (g Grant) Extend(ctx context.Context, base *Snapshot, ttl time.Duration, failure string, retry time.Duration) (grant.Outcome, *Snapshot, error) {
	ks := g.keys()
	return g.change(base.Pair, func() (answer, error) {
		return g.run(ctx, "extend", store.ExtendScript, []string{ks.Grant(), ks.Secret(), ks.Journal()},
			ks.Events(), g.c.journal, grant.Clip(g.by), base.Epoch, base.Generation, base.Claim.ID, ttl.Milliseconds(), grant.Clip(failure), retry.Milliseconds())
	})
}

// Commit stores the pair that the exchange of base's generation brought. OK: it is
// stored, by this or an earlier call with this id. Moved: refused, since a newer
// consent or a sibling is stored, which the snapshot is. spare says that the pair is
// the grant's spare, which is spent by this; used, that somebody has asked for it.
func (g Grant) Commit(ctx context.Context, base *Snapshot, id string, pair grant.Pair, spare, used bool, opts ...ChangeOption) (grant.Outcome, *Snapshot, error) {
	kind := ""
	if spare {
		kind = "spare"
	}
	ks, pair := g.keys(), pair.Bounded(base.Now())
	fields, note := pair.Fields(), noteOf(g)
	if used {
		fields = append(fields, "used_at", grant.Millis(base.Now()))
	}
	return g.change(pair, func() (a answer, err error) {
		// A late pair of a grant that has died since follows the generation that is stored.
		for {
			generation := base.Generation + 1
			if a.Snap != nil { // or Redis has lost what died, meanwhile
				generation = max(generation, a.Snap.Generation+1)
			}
			sealed, err := g.c.sealer.Seal(base.Key, base.Epoch, generation, pair)
			if err != nil {
				return answer{}, err
			}
			args := append([]any{ks.Events(), g.c.journal, id, grant.Clip(g.by), base.Epoch, base.Generation, sealed, generation, kind, grant.WarnAgain.Milliseconds(),
				note.Millis(), grant.Clip(note.RequestID), grant.Clip(note.Why)}, fields...)
			a, err = g.store(ctx, "commit", store.CommitScript, []string{ks.Grant(), ks.Secret(), ks.Spare(), ks.Journal()}, opts, args...)
			if err != nil || a.Status != "reseal" {
				return a, err
			}
		}
	})
}

// KeepPending takes a pair that could not be committed yet into memory, so that this process
// serves its access token and never presents the old refresh token again. It changes the record as
// commit.lua does.
func (g Grant) KeepPending(base *Snapshot, id string, pair grant.Pair) *Snapshot {
	pair = pair.Bounded(base.Now())
	s := memory.Next(base)
	s.Pair, s.Pending = pair, true
	s.Generation++
	s.Rev++
	s.State, s.Reason, s.By, s.CommitID = grant.Active, "", grant.Clip(g.by), id
	s.IssuedAt, s.ExpiresAt = pair.IssuedAt, pair.ExpiresAt
	s.RefreshAt, s.RefreshTokenExpiresAt = pair.RefreshAt, pair.RefreshTokenExpiresAt
	s.AccessFP, s.RefreshFP = grant.Fingerprint(pair.AccessToken.Reveal()), grant.Fingerprint(pair.RefreshToken.Reveal())
	s.Spent = base.Spend(s.RefreshFP)
	s.Claim, s.Fails, s.RetryAt, s.Error, s.ErrorAt = grant.Claim{}, 0, 0, "", 0
	s.RefusedAt, s.Revivals = 0, 0
	s.Schema, s.SpareEpoch = grant.Schema, 0
	if base.Foreign > 0 && base.ForeignGen != base.Generation && base.State == grant.Active {
		s.Foreign, s.ForeignGen = 0, 0
	}
	s.Lived = grant.LivedAfter(base.Lived, base.Refused(), pair.ExpiresAt-pair.IssuedAt)
	if base.WarnedAt != 0 && pair.RefreshTokenExpiresAt > base.RefreshTokenExpiresAt+grant.WarnAgain.Milliseconds() {
		s.WarnedAt = 0
	}
	return g.c.mem.Adopt(s.Finish())
}

// Fail publishes that the exchange under base's claim failed. Claimed: another holder
// took over; what it brings counts.
func (g Grant) Fail(ctx context.Context, base *Snapshot, f grant.Failure) (grant.Outcome, *Snapshot, error) {
	deadline, unknown := "", ""
	if f.Deadline {
		deadline = "deadline"
	}
	if f.Unknown {
		unknown = "unknown"
	}
	ks := g.keys()
	return g.change(base.Pair, func() (answer, error) {
		return g.run(ctx, "fail", store.FailScript, []string{ks.Grant(), ks.Secret(), ks.Journal()},
			ks.Events(), g.c.journal, f.ID, grant.Clip(g.by), base.Epoch, base.Generation, base.Claim.ID,
			string(f.Verdict), grant.Clip(f.Error), grant.Clip(f.Reason), f.Retry.Milliseconds(), deadline, unknown, f.Over.Milliseconds(),
			noteOf(g).Millis(), grant.Clip(noteOf(g).RequestID))
	})
}

// Reject notes that an API refused base's access token. OK: an exchange may be forced,
// because of this report or an earlier one of the same generation. Wait: not before the
// record's RejectAt, since several in a row did not help.
func (g Grant) Reject(ctx context.Context, base *Snapshot, r grant.Refusals) (grant.Outcome, *Snapshot, error) {
	ks := g.keys()
	args := []any{ks.Events(), g.c.journal, grant.Clip(g.by), base.Epoch, base.Generation, grant.Fingerprint(base.Pair.AccessToken.Reveal()), r.Forget.Milliseconds(), r.Fresh.Milliseconds(), r.Early, r.Foreign, r.LeastLife.Milliseconds(), r.SameAge, r.LifeShare}
	for _, w := range r.Waits {
		args = append(args, w.Milliseconds())
	}
	return g.change(base.Pair, func() (answer, error) {
		return g.run(ctx, "reject", store.RejectScript, []string{ks.Grant(), ks.Secret(), ks.Journal()}, args...)
	})
}

const (
	// callbacksApart is how close two consents of one tenant can come that their callbacks may
	// arrive in the other order.
	callbacksApart = 10 * time.Minute
)

var (
	// ErrSpent: Connect brought a refresh token that this fleet has redeemed already.
	ErrSpent = errors.New("tokencache: this refresh token has been redeemed already: what is stored is newer")
	// ErrEnded: Connect brought the pair of a consent that Disconnect has ended since.
	ErrEnded = errors.New("tokencache: this consent has been ended by Disconnect: the tenant must consent anew")
	// ErrExists: Import found a grant, or what Disconnect left of one.
	ErrExists = errors.New("tokencache: the tenant has a grant already")
)

// Connect stores the first pair of a consent under a new epoch, which wins over
// everything older. make builds the pair, given Redis' time in unix ms.
//
// A repeat changes nothing, whatever has happened in between, and returns what is stored: one by
// go-redis, whose reply was lost, and one by a caller that got an error, which brings the same
// pair. The error is ErrSpent or ErrEnded where that pair is over.
func (g Grant) Connect(ctx context.Context, make func(now int64) grant.Pair, opts ...ChangeOption) (*Snapshot, error) {
	return g.connect(ctx, "", make, opts)
}

// Import is Connect for a tenant that has no grant. The error is ErrExists if it has one.
func (g Grant) Import(ctx context.Context, make func(now int64) grant.Pair, opts ...ChangeOption) (*Snapshot, error) {
	return g.connect(ctx, "import", make, opts)
}

func (g Grant) connect(ctx context.Context, mode string, make func(now int64) grant.Pair, opts []ChangeOption) (*Snapshot, error) {
	id := NewID() // of all attempts: they are one call
	for range 100 {
		// The pair is sealed with epoch and generation, so these must be known first.
		at, err := g.nextConsent(ctx)
		if err != nil {
			return nil, err
		}
		pair := make(at.now).Bounded(at.now)
		sealed, err := g.c.sealer.Seal(g.key, at.epoch, at.generation, pair)
		if err != nil {
			return nil, err
		}
		ks := g.keys()
		args := append([]any{ks.Events(), g.c.journal, id, grant.Clip(g.by), at.epoch, sealed, at.generation, mode, callbacksApart.Milliseconds()}, pair.Fields()...)
		a, err := g.store(ctx, "connect", store.ConnectScript, []string{ks.Grant(), ks.Secret(), ks.Spare(), ks.Journal()}, opts, args...)
		if err != nil {
			return nil, err
		}
		if a.Damaged != nil {
			return nil, a.Damaged
		}
		switch a.Status {
		case string(grant.OutcomeOK):
			if err := g.Schedule(ctx, pair.RefreshAt); err != nil {
				g.c.log.Warn().Err(err).Stringer("grant", g.key).Msg("connected, but not scheduled for renewal: Repair will")
			}
			a.Snap.Pair = pair
			return g.c.mem.Adopt(a.Snap.Finish()), a.Lacks
		case "repeat":
			a.Snap.NeedsPair()
			s, err := g.in().Reconcile(ctx, a)
			return s, cmp.Or(err, a.Lacks)
		case "spent":
			return nil, fmt.Errorf("%w (%s)", ErrSpent, g.key)
		case "ended":
			return nil, fmt.Errorf("%w (%s)", ErrEnded, g.key)
		case "exists":
			if a.Lacks != nil { // it may be what an earlier attempt of the caller's has stored
				return nil, a.Lacks
			}
			return nil, fmt.Errorf("%w (%s)", ErrExists, g.key)
		}
	}
	return nil, errors.New("tokencache: connect " + g.key.String() + ": other consents of this grant keep coming; try again")
}

// consent is the place of a new consent among a grant's states.
type consent struct{ now, epoch, generation int64 }

// nextConsent comes after whatever is stored or remembered.
func (g Grant) nextConsent(ctx context.Context) (consent, error) {
	a, err := g.in().Fetch(ctx)
	if err == nil && a.Snap == nil && g.Recall() == nil {
		if told, _ := g.in().Inquire(ctx); told {
			a, err = g.in().Fetch(ctx)
		}
	}
	if err != nil {
		return consent{}, err
	}
	// Redis must know again what this process remembers, or the repeat of an old consent is taken for
	// a new one.
	if better := g.in().Better(a); better != nil {
		if _, err = g.in().Restore(ctx, better); err == nil {
			a, err = g.in().Fetch(ctx)
		}
		if err != nil {
			return consent{}, err
		}
	}
	next := consent{now: a.Now, epoch: a.Now, generation: 1}
	if a.Snap != nil && max(a.Snap.Generation, a.Snap.Rev) > 8e15 { // as in connect.lua
		next.epoch = max(next.epoch, a.Snap.Epoch+1)
	} else if a.Snap != nil {
		next.epoch, next.generation = max(next.epoch, a.Snap.Epoch+1), a.Snap.Generation+1
	}
	if mem := g.Recall(); mem != nil {
		next.epoch = max(next.epoch, mem.Epoch+1)
	}
	return next, nil
}

// Disconnect ends the grant and leaves a tombstone, for 90 days. Where there is no grant, and this
// process remembers none, it leaves nothing. The note's Why becomes the tombstone's reason.
func (g Grant) Disconnect(ctx context.Context, opts ...ChangeOption) error {
	ks, known := g.keys(), int64(0)
	if mem := g.Recall(); mem != nil {
		known = mem.Epoch
		_, _ = g.Read(ctx) // gives back what Redis has lost: the tombstone must tell which consent it ended
	}
	end := func(id string) (answer, error) {
		return g.store(ctx, "disconnect", store.DisconnectScript, []string{ks.Grant(), ks.Secret(), ks.Spare(), ks.Journal(), ks.Unread()}, opts,
			ks.Events(), g.c.journal, id, grant.Clip(g.by), known, inbox.TombstoneLife.Milliseconds(), grant.Clip(noteOf(g).Why))
	}
	id := NewID()
	a, err := end(id)
	if err == nil && a.Snap == nil { // another process may remember a grant that Redis has lost
		if told, _ := g.in().Inquire(ctx); told {
			a, err = end(id)
		}
	}
	switch {
	case err != nil:
		return err
	case a.Snap == nil: // there is none
		return nil
	case a.Status != string(grant.OutcomeOK): // a repeat
		a.Snap.NeedsPair()
		_, err := g.in().Reconcile(ctx, a)
		return cmp.Or(err, a.Lacks)
	}
	_ = g.due().Remove(ctx, g.key.Tenant) // else the process that finds it there removes it
	if err := g.due().ScheduleAfter(ctx, g.key.Tenant, &a.Snap.Record); err != nil {
		g.c.log.Warn().Err(err).Stringer("grant", g.key).Msg("disconnected; if it was connected again meanwhile, Repair will schedule it for renewal")
	}
	g.c.mem.Adopt(a.Snap.Finish())
	return a.Lacks
}

// Spare returns the grant's spare: a genuine successor that lost against a sibling, or the pair of a
// consent that another one replaced a moment after.
func (g Grant) Spare(ctx context.Context, base *Snapshot) (grant.Pair, bool, error) {
	sealed, err := g.c.rdb.GetRange(ctx, g.keys().Spare(), 0, grant.MaxSealed).Bytes()
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"), err == nil && len(sealed) == 0:
		return grant.Pair{}, false, nil
	case err != nil:
		return grant.Pair{}, false, err
	}
	epoch, err := grant.EpochOf(sealed)
	if err != nil || epoch != base.Epoch && epoch != base.SpareEpoch {
		return grant.Pair{}, false, nil // of a consent that is over
	}
	p, err := g.c.sealer.Open(base.Key, epoch, grant.AnyGeneration, sealed)
	return p, err == nil, err
}

// Alive tells the waiters that the holder still has the lease, for ttl from now.
func (g Grant) Alive(ctx context.Context, ttl time.Duration) error {
	_, err := g.in().Publish(ctx, grant.AliveEvent(g.c.clock.Told(), ttl))
	return err
}

// Stalled tells all who watch the app's grants that the holder of s's claim has gone silent, and reports whether
// it has: nobody has the lease, and the claim stands. s is as it was read.
func (g Grant) Stalled(ctx context.Context, s *Snapshot) (bool, error) {
	a, err := g.run(ctx, "stalled", store.StalledScript, []string{g.keys().Grant(), g.LockKey()}, g.EventsChannel(), s.Claim.ID)
	if err != nil || a.Snap == nil || a.Status != string(grant.OutcomeOK) {
		return false, err
	}
	return true, nil
}

// CapLease lets a grant's lease end within d, unless it is extended.
func (g Grant) CapLease(ctx context.Context, d time.Duration) error {
	return g.c.rdb.ExpireLT(ctx, g.LockKey(), d).Err()
}

// CanSeal seals s's pair once more, and forgets it: an AEAD that opens need not seal, and that is to
// be known before the refresh token is presented.
func (g Grant) CanSeal(s *Snapshot) error {
	_, err := g.c.sealer.Seal(s.Key, s.Epoch, s.Generation, s.Pair)
	return err
}
