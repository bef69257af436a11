package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// change runs a script that changes base's grant and takes the result into memory.
// pair is what belongs to the record if the script stored it or left it as it was.
func (g Grant) change(op string, base *Snapshot, pair grant.Pair, run func() (answer, error)) (grant.Outcome, *Snapshot, error) {
	a, err := run()
	if errors.Is(err, grant.ErrDamaged) { // perhaps this process can put it right
		s, err := g.Read(context.Background())
		return grant.OutcomeMoved, s, err
	}
	if err != nil {
		return "", nil, err
	}
	if kind := kindOf(op, base, a); kind != "" && a.lacks == nil {
		g.c.notifyChange(Change{base.Key, kind, a.snap.Record, a.now})
	}
	switch {
	case a.snap == nil:
	case a.status == string(grant.OutcomeMoved), a.status == string(grant.OutcomeReplaced):
		a.snap.needsPair()
	default:
		a.snap.Pair = pair
	}
	ctx, cancel := context.WithTimeout(context.Background(), mendTimeout)
	defer cancel()
	snap, err := g.reconcile(ctx, a)
	if err = cmp.Or(err, a.lacks); err != nil {
		return grant.Outcome(a.status), nil, err
	}
	return grant.Outcome(a.status), snap, nil
}

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

// Claim notes that holder `by` presents base's generation within ttl. Anything but OK
// means: do not present. The snapshot is the grant as it is then. An unresolved claim is taken over only
// if base has it: whether its time is over is known by this process's clock, too, and Redis' can be set. If base is dead it is claimed for a
// revival, once its RetryAt has come.
func (g Grant) Claim(ctx context.Context, base *Snapshot, id string, ttl time.Duration, t grant.Takeover, opts ...ChangeOption) (grant.Outcome, *Snapshot, error) {
	ks, revival, over := g.keys(), "", ""
	if base.State == grant.Reauthorize {
		revival = "revival"
	}
	if base.ended() {
		over = "over"
	}
	return g.change("claim", base, base.Pair, func() (answer, error) {
		a, err := g.store(ctx, "claim", store.ClaimScript, []string{ks.Grant(), ks.Secret(), ks.Journal()}, opts,
			ks.Events(), g.c.journal, id, grant.Clip(g.by), base.Epoch, base.Generation, ttl.Milliseconds(), t.Millis(), grant.Fingerprint(base.Pair.RefreshToken.Reveal()), base.judged,
			revival, base.Claim.ID, over, grant.Clip(noteOf(g).Why))
		if a.status != string(grant.OutcomeOK) {
			a.lacks = nil // nothing is claimed
		}
		if a.status == string(grant.OutcomeReplaced) {
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
	return g.change("extend", base, base.Pair, func() (answer, error) {
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
	return g.change("commit", base, pair, func() (a answer, err error) {
		// A late pair of a grant that has died since follows the generation that is stored.
		for {
			generation := base.Generation + 1
			if a.snap != nil { // or Redis has lost what died, meanwhile
				generation = max(generation, a.snap.Generation+1)
			}
			sealed, err := g.c.sealer.Seal(base.Key, base.Epoch, generation, pair)
			if err != nil {
				return answer{}, err
			}
			args := append([]any{ks.Events(), g.c.journal, id, grant.Clip(g.by), base.Epoch, base.Generation, sealed, generation, kind, grant.WarnAgain.Milliseconds(),
				note.Millis(), grant.Clip(note.RequestID), grant.Clip(note.Why)}, fields...)
			a, err = g.store(ctx, "commit", store.CommitScript, []string{ks.Grant(), ks.Secret(), ks.Spare(), ks.Journal()}, opts, args...)
			if err != nil || a.status != "reseal" {
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
	s := &Snapshot{Key: base.Key, Record: base.Record, Pair: pair, Pending: true, now: base.now, at: base.at}
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
	if base.WarnedAt != 0 && pair.RefreshTokenExpiresAt > base.RefreshTokenExpiresAt+grant.WarnAgain.Milliseconds() {
		s.WarnedAt = 0
	}
	return g.c.adopt(s.finish())
}

// Fail publishes that the exchange under base's claim failed. Claimed: another holder
// took over; what it brings counts.
func (g Grant) Fail(ctx context.Context, base *Snapshot, f grant.Failure) (grant.Outcome, *Snapshot, error) {
	op, deadline, unknown := "fail", "", ""
	switch {
	case base.State == grant.Reauthorize:
		op = "revival"
	case f.Verdict == grant.VerdictAgain:
		op = "refused"
	}
	if f.Deadline {
		deadline = "deadline"
	}
	if f.Unknown {
		unknown = "unknown"
	}
	ks := g.keys()
	return g.change(op, base, base.Pair, func() (answer, error) {
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
	args := []any{ks.Events(), g.c.journal, grant.Clip(g.by), base.Epoch, base.Generation, grant.Fingerprint(base.Pair.AccessToken.Reveal()), r.Forget.Milliseconds(), r.Fresh.Milliseconds(), r.Early, r.Foreign}
	for _, w := range r.Waits {
		args = append(args, w.Milliseconds())
	}
	return g.change("reject", base, base.Pair, func() (answer, error) {
		return g.run(ctx, "reject", store.RejectScript, []string{ks.Grant(), ks.Secret(), ks.Journal()}, args...)
	})
}

const (
	// mendTimeout bounds what is done about a state that Redis has lost, beside what a caller asked for.
	mendTimeout = 5 * time.Second
	// tombstoneLife is how long a disconnected grant leaves a trace: far longer than an exchange
	// that was under way can take.
	tombstoneLife = 90 * 24 * time.Hour
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
		if a.damaged != nil {
			return nil, a.damaged
		}
		switch a.status {
		case string(grant.OutcomeOK):
			g.c.notifyChange(Change{g.key, "connect", a.snap.Record, a.now})
			if err := g.Schedule(ctx, pair.RefreshAt); err != nil {
				g.c.log.Warn().Err(err).Stringer("grant", g.key).Msg("connected, but not scheduled for renewal: Repair will")
			}
			a.snap.Pair = pair
			return g.c.adopt(a.snap.finish()), a.lacks
		case "repeat":
			a.snap.needsPair()
			s, err := g.reconcile(ctx, a)
			return s, cmp.Or(err, a.lacks)
		case "spent":
			return nil, fmt.Errorf("%w (%s)", ErrSpent, g.key)
		case "ended":
			return nil, fmt.Errorf("%w (%s)", ErrEnded, g.key)
		case "exists":
			if a.lacks != nil { // it may be what an earlier attempt of the caller's has stored
				return nil, a.lacks
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
	a, err := g.read(ctx)
	if err == nil && a.snap == nil && g.Recall() == nil {
		if told, _ := g.inquire(ctx); told {
			a, err = g.read(ctx)
		}
	}
	if err == nil && g.knowsBetter(a) {
		// Redis must know again what this process remembers, or the repeat of an old consent is taken for
		// a new one.
		if _, err = g.restore(ctx, g.Recall().sure()); err == nil {
			a, err = g.read(ctx)
		}
	}
	if err != nil {
		return consent{}, err
	}
	next := consent{now: a.now, epoch: a.now, generation: 1}
	if a.snap != nil && max(a.snap.Generation, a.snap.Rev) > 8e15 { // as in connect.lua
		next.epoch = max(next.epoch, a.snap.Epoch+1)
	} else if a.snap != nil {
		next.epoch, next.generation = max(next.epoch, a.snap.Epoch+1), a.snap.Generation+1
	}
	if mem := g.Recall(); mem != nil {
		next.epoch = max(next.epoch, mem.Epoch+1)
	}
	return next, nil
}

// Disconnect ends the grant and leaves a tombstone, for 90 days. Where there is no grant, and this
// process remembers none, it leaves nothing.
func (g Grant) Disconnect(ctx context.Context, opts ...ChangeOption) error {
	ks, known := g.keys(), int64(0)
	if mem := g.Recall(); mem != nil {
		known = mem.Epoch
		_, _ = g.Read(ctx) // gives back what Redis has lost: the tombstone must tell which consent it ended
	}
	end := func(id string) (answer, error) {
		return g.store(ctx, "disconnect", store.DisconnectScript, []string{ks.Grant(), ks.Secret(), ks.Spare(), ks.Journal(), ks.Unread()}, opts,
			ks.Events(), g.c.journal, id, grant.Clip(g.by), known, tombstoneLife.Milliseconds())
	}
	id := NewID()
	a, err := end(id)
	if err == nil && a.snap == nil { // another process may remember a grant that Redis has lost
		if told, _ := g.inquire(ctx); told {
			a, err = end(id)
		}
	}
	switch {
	case err != nil:
		return err
	case a.snap == nil: // there is none
		return nil
	case a.status != string(grant.OutcomeOK): // a repeat
		a.snap.needsPair()
		_, err := g.reconcile(ctx, a)
		return cmp.Or(err, a.lacks)
	}
	g.c.notifyChange(Change{g.key, "disconnect", a.snap.Record, a.now})
	_ = g.c.rdb.ZRem(ctx, g.c.App(g.key.App).keys().Due(shardOf(g.key.Tenant)), g.key.Tenant).Err() // else the process that finds it there removes it
	if err := g.scheduleAfter(ctx, &a.snap.Record); err != nil {
		g.c.log.Warn().Err(err).Stringer("grant", g.key).Msg("disconnected; if it was connected again meanwhile, Repair will schedule it for renewal")
	}
	g.c.adopt(a.snap.finish())
	return a.lacks
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
	_, err := g.publish(ctx, grant.AliveEvent(g.c.clock.Told(), ttl))
	return err
}

// CapLease lets a grant's lease end within d, unless it is extended.
func (g Grant) CapLease(ctx context.Context, d time.Duration) error {
	return g.c.rdb.ExpireLT(ctx, g.LockKey(), d).Err()
}

// Ask asks the other processes for a grant of which Redis has no record, as after a
// restart without its data: every process that remembers it restores it. It reports whether
// anybody may be listening.
//
// epoch, generation and rev are what the caller knows; only who knows another consent, or a
// newer state, answers.
func (g Grant) Ask(ctx context.Context, epoch, generation, rev int64) (bool, error) {
	n, err := g.publish(ctx, grant.AskEvent(g.c.clock.Told(), epoch, generation, rev, g.c.id))
	if _, cluster := g.c.rdb.(*redis.ClusterClient); cluster {
		return err == nil, err // the count is that of one node
	}
	if g.c.hub.SessionOf(g.keys().Events()) != 0 {
		n-- // this process listens too
	}
	return n > 0, err
}

// CanSeal seals s's pair once more, and forgets it: an AEAD that opens need not seal, and that is to
// be known before the refresh token is presented.
func (g Grant) CanSeal(s *Snapshot) error {
	_, err := g.c.sealer.Seal(s.Key, s.Epoch, s.Generation, s.Pair)
	return err
}
