package refresh

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// flight is this process's one effort about a grant, for all its callers. It runs on
// its own: callers come and go.
type flight struct {
	c       *Coordinator
	key     tokencache.Key
	grant   engine.Grant
	want    want
	started time.Time
	pin     *engine.Pin   // nil until the flight needs to hear of changes
	spent   *lock.Lease   // has done its work
	glanced bool          // it has had a short look, see glance
	brief   bool          // snap is no more than a fresh token
	busy    bool          // it has wanted the lease, or waited
	asked   time.Time     // the other processes, whether they know better than Redis; zero for never
	holder  standing      // the claim about which they were last asked
	probed  func()        // lets another flight of this process probe the app's circuit
	took    time.Duration // by its last exchange
	due     int64         // Redis time at which the pair that it committed must be looked at

	used   atomic.Bool // somebody has asked for the token
	urgent atomic.Bool // and waits for it

	looked   chan struct{} // closed when what follows is set
	lookedAt time.Time
	first    *engine.Snapshot
	firstErr error

	done chan struct{} // closed when snap and err are set, after looked
	snap *engine.Snapshot
	err  error
}

// join returns the grant's flight, a new one if there is none. The error is errClosed.
func (c *Coordinator) join(k tokencache.Key, w want) (*flight, error) {
	f, isNew, err := c.board(k, w)
	if isNew {
		c.work.Go(f.run)
		c.work.Done()
	}
	return f, err
}

// joinAndWait is join for a caller that stays until the end: it has the short look itself. Most
// tokens that memory has no room for are had without a goroutine.
func (c *Coordinator) joinAndWait(k tokencache.Key, w want) (*flight, error) {
	f, isNew, err := c.board(k, w)
	if !isNew {
		return f, err
	}
	defer c.work.Done()
	returned := false
	defer func() {
		if !returned { // an AEAD, or a hook of the Redis client, has panicked: nobody may wait for this flight
			f.land(nil, &Error{Kind: ErrUnavailable, Code: "panic", Err: errPanicked})
		}
	}()
	s, _ := f.glance()
	if returned = true; s != nil {
		f.land(s, nil)
	} else {
		c.work.Go(f.run)
	}
	return f, err
}

var errPanicked = errors.New("the goroutine that looked the grant up has panicked")

// board is join without a start of what is new; that has been added to work.
func (c *Coordinator) board(k tokencache.Key, w want) (f *flight, isNew bool, _ error) {
	if f, ok := c.flights.Load(k.Tenant); ok {
		f.noteWant(w)
		return f, false, nil
	}
	f = &flight{c: c, key: k, grant: c.app.Grant(k.Tenant), want: w, started: time.Now(), looked: make(chan struct{}), done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false, errClosed
	}
	f, flies := c.flights.LoadOrStore(k.Tenant, f)
	f.noteWant(w)
	if !flies {
		c.keepHouse()
		c.work.Add(1)
	}
	return f, !flies, nil
}

// noteWant notes what those who join it are like.
func (f *flight) noteWant(w want) {
	if w.background != nil {
		return
	}
	f.used.Store(true)
	if !w.Early {
		f.urgent.Store(true)
	}
}

// grow gives a new goroutine the stack that a command to Redis needs in one step, while next to
// nothing is on it that would have to be moved. Growing on the way took a seventh of the time of
// a Token from Redis.
//
//go:noinline
func grow() {
	var room [6 << 10]byte
	runtime.KeepAlive(&room)
}

func (f *flight) run() {
	grow()
	s, err := f.fly()
	if f.land(s, err); f.spent != nil {
		time.Sleep(handOver)
		f.release(f.spent)
	}
}

// land lets go of what the flight held, and answers the callers.
func (f *flight) land(s *engine.Snapshot, err error) {
	switch {
	case f.pin != nil && s == nil:
		defer f.pin.KeepAbsent()
	case f.pin != nil:
		defer f.pin.Unpin()
	case s != nil && !f.brief:
		f.grant.Remember(s) // subscribed from now on: the next reading is coherent
	}
	if s != nil && !f.busy {
		f.c.calmly.Do(func() { close(f.c.calm) })
	}
	f.notify(s, err)
}

// notify answers the callers, once; who comes later joins another flight. This one may go on.
func (f *flight) notify(s *engine.Snapshot, err error) {
	select {
	case <-f.done:
		return
	default:
	}
	f.noteLook(s, err) // if it has not looked, or seen nothing
	if err != nil {
		err = f.c.about(f.key, err)
	}
	f.snap, f.err = s, err
	f.c.flights.Delete(f.key.Tenant)
	close(f.done)
}

// fly goes round until the grant is as wanted or somebody else must act. Each round
// looks, decides and does one thing.
func (f *flight) fly() (*engine.Snapshot, error) {
	if f.grant.KnownAbsent() {
		return nil, tokencache.ErrNone
	}
	if s, err := f.glance(); s != nil || err != nil {
		return s, err
	}
	f.subscribeFirst()
	for {
		if err := context.Cause(f.c.waiting); err != nil {
			f.noteLook(nil, err)
			return nil, err
		}
		news := f.news() // before looking, so that nothing falls in between
		s, err := f.c.lookup(f.c.waiting, f.key)
		coherent := f.grant.Peek() != nil
		if err == nil {
			f.noteLook(s, nil)
		}
		if errors.Is(err, tokencache.ErrNone) && f.asked.IsZero() {
			if err = f.ask(&grant.Record{}); err == nil || errors.Is(err, tokencache.ErrNone) {
				continue // subscribed now: that there is none can be remembered, until a push says otherwise
			}
		}
		if errors.Is(err, tokencache.ErrNone) {
			// The app's state knows whether Redis has lost data: without it nobody can say "not connected".
			if _, unknown := f.c.app.AppState(f.c.waiting); unknown != nil {
				err = unknown
			}
		}
		if err != nil {
			return nil, cmp.Or(f.c.readyForMore(f.c.waiting, f.key), err)
		}
		d := policy.Decide(f.c.view(s, f.leaseHeld()), f.want.Want)
		switch {
		case d.Act == policy.ActServe:
			return s, nil
		case d.Act == policy.ActGiveUp:
			return s, dress(d.Trouble)
		case !coherent || f.pin == nil:
			// Subscribe, then read again: what happened in between was not pushed to us.
			err = f.subscribe()
		case d.Act == policy.ActWait:
			f.wait(news, min(d.Wait, f.c.cfg.ClaimTimeout)) // then look again: Redis may be away
		case d.Act == policy.ActReport:
			err = f.report(s)
		default:
			s, err = f.lead(s, news)
			if s != nil {
				return s, nil
			}
		}
		if err != nil {
			return nil, cmp.Or(f.c.readyForMore(f.c.waiting, f.key), err)
		}
	}
}

// subscribeWait is how long a first look waits for the subscription: a connection may have to be
// made, and one that is not to be had must not keep a valid token from its callers.
const subscribeWait = 250 * time.Millisecond

// subscribeFirst subscribes before the first look, where memory has room for the grant: read
// before, it would have to be read once more.
func (f *flight) subscribeFirst() {
	if !f.grant.HasRoom() {
		return
	}
	_ = f.c.app.PeekApp() // subscribes to its changes: the first SUBSCRIBE of a process names both
	f.pin = f.grant.Pin()
	ctx, cancel := context.WithTimeout(f.c.waiting, subscribeWait)
	defer cancel()
	_ = f.pin.Confirmed(ctx)
}

// glance is the short cut to a fresh token that memory has no room for.
func (f *flight) glance() (*engine.Snapshot, error) {
	if f.glanced || f.want != (want{}) || f.c.waiting.Err() != nil {
		return nil, nil
	}
	s, err := f.grant.ReadFresh(f.c.waiting)
	f.glanced, f.brief = true, s != nil
	return s, err
}

// noteLook notes what the first look found, for those who do not wait for more.
func (f *flight) noteLook(s *engine.Snapshot, err error) {
	select {
	case <-f.looked:
	default:
		f.lookedAt, f.first, f.firstErr = time.Now(), s, err
		close(f.looked)
	}
}

// subscribe pins the grant and waits until this process hears of its changes.
func (f *flight) subscribe() error {
	if f.pin == nil {
		f.pin = f.grant.Pin()
	}
	return f.pin.Confirmed(f.c.waiting)
}

// news is closed on the next news; nil while nothing would be heard.
func (f *flight) news() <-chan struct{} {
	if f.pin == nil {
		return nil
	}
	return f.pin.Changed()
}

func (f *flight) leaseHeld() time.Duration {
	if f.pin == nil {
		return 0
	}
	return f.pin.LeaseHeld()
}

// askWait is how long others have to restore what Redis lost.
const askWait = 300 * time.Millisecond

// standing is a claim as it stood until its hard deadline.
type standing struct {
	id    string
	until int64
}

func standingOf(s *engine.Snapshot) standing {
	if s.ClaimUntil() > s.Now() { // presenting again is harmless by now: whether the holder lives the lease tells
		return standing{id: s.Claim.ID}
	}
	return standing{s.Claim.ID, s.Claim.Until}
}

// ask gives the other processes the chance to say that they know a state after `known`:
// Redis may have lost it. The error is ErrNone if there is nobody to ask.
func (f *flight) ask(known *grant.Record) error {
	f.asked = time.Now()
	if err := f.subscribe(); err != nil {
		return err
	}
	listening, err := f.grant.Ask(f.c.waiting, known.Epoch, known.Generation, known.Rev)
	if err != nil {
		return err
	}
	if !listening {
		return tokencache.ErrNone
	}
	for end := time.Now().Add(askWait); time.Now().Before(end) && f.c.waiting.Err() == nil; {
		news := f.pin.Changed()
		if s := f.grant.Recall(); s != nil && policy.PositionOf(known).Before(&s.Record) {
			return nil
		}
		f.wait(news, time.Until(end))
	}
	return nil
}

// wait ends with news, at the time, or when the coordinator closes.
func (f *flight) wait(news <-chan struct{}, until time.Duration) {
	f.busy = true
	pause(f.c.waiting, until, news)
}

// pause ends after d, with news if there is any, or with ctx.
func pause(ctx context.Context, d time.Duration, news <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-news:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// report notes that an API refused the access token. Then the record says whether that
// may force an exchange.
func (f *flight) report(s *engine.Snapshot) error {
	outcome, now, err := f.grant.Reject(f.c.waiting, s, policy.Refusals(random()))
	if err != nil {
		return err
	}
	log := f.c.log.Info()
	if outcome == grant.OutcomeWait {
		log = f.c.log.Warn().Str("reason", policy.ReasonSuspect).Dur("retry_in_ms", now.Until(now.RejectAt))
		time.Sleep(policy.Slack) // our clock may be a little ahead of Redis': do not ask at full speed
	}
	log.Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Int64("rejects", now.Rejects).
		Str("outcome", string(outcome)).Msg("an API refused the access token")
	return nil
}

// longestLease is longer than a lease lives without being extended.
const longestLease = time.Minute

// spontaneous reports whether nobody waits for what the flight brings.
func (f *flight) spontaneous() bool { return f.want.background != nil && !f.urgent.Load() }

// lead tries the lease once and does the holder's work. Without result and error the
// grant must be looked at again.
func (f *flight) lead(s *engine.Snapshot, news <-chan struct{}) (*engine.Snapshot, error) {
	f.busy = true
	s, err := f.askBefore(s, news)
	if s == nil || err != nil {
		return nil, err
	}
	done, err := f.c.approach(f.c.waiting, f.c.applicant(f.key.Tenant, &s.Record), !f.spontaneous(), news)
	if done == nil || err != nil {
		return nil, err
	}
	f.probed = sync.OnceFunc(done)
	defer f.probed()
	if err := f.grant.CanSeal(s); err != nil {
		return nil, err // the pair that comes could not be stored
	}
	lease, err := f.tryLease()
	if lease == nil || err != nil {
		return nil, err
	}
	if err := f.c.ready(f.c.waiting, f.key); err != nil { // only the holder asks
		f.release(lease)
		return nil, err
	}
	s, err = f.refresh(lease, s)
	if s == nil && (err == nil || errors.Is(err, errNoPlace)) {
		f.release(lease) // the next round may want it
	} else {
		f.spent = lease
	}
	return s, err
}

// askBefore does what is due before a grant is led where presenting its refresh token twice does harm: a
// failover can lose a commit that other processes have seen, and the holder of a claim may live. It
// returns the grant as it was judged. Without result and error the grant must be looked at again.
func (f *flight) askBefore(s *engine.Snapshot, news <-chan struct{}) (*engine.Snapshot, error) {
	if f.c.takeover == grant.AtOnce {
		return s, nil
	}
	if f.c.underway.has(s) {
		return nil, &Error{Kind: ErrUnavailable, Code: slowExchange, RetryAfter: policy.Jitter(policy.SlowRetry, random()), Err: errSlowExchange}
	}
	if ago, set := f.c.cache.ClockSet(); s.Claim.Unresolved() && set && ago < f.c.cfg.ClaimTimeout+f.c.rules.Patience() {
		// By Redis' clock its time may be over long before its holder's is.
		f.wait(news, f.c.cfg.ClaimTimeout+f.c.rules.Patience()-ago)
		return nil, nil
	}
	judged, left, doubtful, err := f.mayHaveLost(s)
	early := f.asked.IsZero() || time.Since(f.asked) > policy.Slack-left // asked before all were back, or never
	switch {
	case err != nil:
		return nil, err
	case doubtful && f.asked.IsZero(), doubtful && left <= 0 && early:
		if err := f.ask(&s.Record); !errors.Is(err, tokencache.ErrNone) {
			return nil, err
		}
		// A process that remembers better may be where this server's PUBLISH does not count it.
		f.wait(news, askWait)
		return nil, nil
	case doubtful && left > 0:
		f.wait(news, left)
		return nil, nil
	case s.Claim.Unresolved() && f.holder != standingOf(s): // one that lives may have put it off before, and does so again
		f.holder = standingOf(s)
		if err := f.ask(&s.Record); !errors.Is(err, tokencache.ErrNone) {
			return nil, err
		}
	}
	return judged, nil
}

// tryLease tries the lease once. Without lease and error somebody else holds it.
func (f *flight) tryLease() (*lock.Lease, error) {
	told := f.pin.LeaseNews()
	lease, err := f.c.locker.Try(f.c.waiting, f.grant.LockKey())
	var held *lock.HeldError
	if !errors.As(err, &held) {
		return lease, err
	}
	if held.For > longestLease {
		// Redis' clock was set back. A holder that lives extends it.
		held.For = longestLease
		if err := f.grant.CapLease(f.c.waiting, longestLease); err != nil {
			return nil, err
		}
	}
	f.pin.SetLeaseHeld(held.For+policy.Slack, told)
	if f.spontaneous() { // somebody is about it
		return nil, &Error{Kind: ErrUnavailable, Code: "lease_held", RetryAfter: max(policy.FirstRetry, held.For/2), Err: errHeldElsewhere}
	}
	return nil, nil
}

// mayHaveLost is engine.Grant.MayHaveLost, where Redis may have lost a claim: not one that its replicas have
// acknowledged.
func (f *flight) mayHaveLost(s *engine.Snapshot) (judged *engine.Snapshot, left time.Duration, doubtful bool, err error) {
	if f.c.cfg.Replicas > 0 {
		return s, 0, false, nil
	}
	return f.grant.MayHaveLost(f.c.waiting, s)
}

// handOver is how long a lease that has done its work is kept: all processes are waking
// their callers just now, and giving it back would make each of them look up again.
const handOver = 10 * time.Millisecond

func (f *flight) release(lease *lock.Lease) {
	if err := lease.Release(context.Background()); err != nil {
		if !errors.Is(err, lock.ErrLost) {
			f.c.log.Warn().Err(err).Str("tenant", f.key.Tenant).Msg("lease not released; it runs out by itself")
		}
		return
	}
	// A process that tried it a moment ago believes that it is held for a whole TTL.
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	_ = f.grant.Released(ctx, f.due)
}
