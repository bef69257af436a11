package refresh

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"
	"github.com/rs/zerolog"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Coordinator keeps one app's grants alive, together with the Coordinators of the same
// app in all other processes. It is safe for concurrent use.
type Coordinator struct {
	cfg      Config
	cache    *tokencache.Cache
	app      engine.App // signed with the locker's name
	locker   *lock.Locker
	profile  provider.Profile
	digest   string // of the profile
	rules    policy.Rules
	takeover grant.Takeover      // as the rules have it
	acked    engine.ChangeOption // Config.Replicas have acknowledged the change
	log      zerolog.Logger

	// waiting ends with Close: flights that only wait give up then. Exchanges and
	// commits do not look at it.
	waiting context.Context
	close   context.CancelCauseFunc

	grants  *engine.Grants              // the hot ones
	flights *xsync.Map[string, *flight] // by tenant
	pacer   *pacer
	events  *events

	kept     kept     // what Redis has not taken yet
	underway underway // exchanges of this process

	economy  *economy
	refused  refusals // first mints
	unopened unopened
	fitness  fitness
	tally    tally        // how its exchanges ended
	insecure lastInsecure // request that was not sent
	probing  atomic.Bool  // a flight of this process is about to probe whether the client is accepted
	fallback atomic.Bool  // the provider's Fallback is the one that is accepted
	house    sync.Once    // housekeeping has begun
	calmly   sync.Once
	calm     chan struct{} // closed when this process has served a token that needed no refresh

	mu     sync.Mutex // guards closed, after which no work begins
	closed bool
	work   sync.WaitGroup // flights, and exchanges that outlive them
}

// New returns a Coordinator. It refuses, in words, a configuration that cannot work.
func New(cfg Config) (*Coordinator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithCancelCause(context.Background())
	c := &Coordinator{
		cfg: cfg, cache: cfg.Cache, app: cfg.Cache.App(cfg.App).As(cfg.Locker.Name()), locker: cfg.Locker,
		profile: cfg.Provider.Profile, digest: profileDigest(cfg.Provider.Profile),
		rules:   cfg.rules(),
		acked:   cfg.acknowledged(),
		log:     cfg.Log.With().Str("app", cfg.App).Logger(),
		waiting: waiting, close: cancel,
		grants:  cfg.Cache.App(cfg.App).Grants(),
		flights: xsync.NewMap[string, *flight](),
		calm:    make(chan struct{}),
	}
	c.economy = newEconomy(c.log)
	c.pacer = newPacer(c)
	c.takeover = c.rules.Takeover()
	c.events = newEvents(c)
	return c, nil
}

// Format prints the app's name, whatever the verb: what is inside changes all the time.
func (c *Coordinator) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "refresh.Coordinator(%s)", c.cfg.App)
}

func (c *Coordinator) key(tenant string) tokencache.Key {
	return tokencache.Key{App: c.cfg.App, Tenant: tenant}
}

// Token returns a valid access token, waiting for a refresh if the stored one has
// expired. The token carries no refresh token. It is shared between callers: do not
// change it. A caller that leaves by its ctx leaves alone: the refresh goes on.
//
// An access token that is still valid is served whatever became of its renewal, also when
// the tenant must authorize the app again ([Coordinator.Status] tells that earlier), unless an
// API has refused it, see [Coordinator.Reject].
//
// The error is an *Error of kind ErrReauthorize, ErrClientConfig, ErrUnavailable or
// ErrNotConnected, or the cause with which ctx ended.
func (c *Coordinator) Token(ctx context.Context, tenant string) (*oauth2.Token, error) {
	if tok := c.grants.Fresh(tenant); tok != nil {
		return tok, nil
	}
	return c.token(ctx, c.key(tenant))
}

// token is Token for a pair that is not known to be fresh.
func (c *Coordinator) token(ctx context.Context, k tokencache.Key) (*oauth2.Token, error) {
	if s := c.app.Grant(k.Tenant).Peek(); s != nil && s.Valid() {
		c.renew(k, s)
		return s.Token(), nil
	}
	s, err := c.await(ctx, k, want{})
	if err != nil {
		return nil, err
	}
	c.renew(k, s)
	return s.Token(), nil
}

// handle is Token for one tenant, without the look-up while the token is hot.
func (c *Coordinator) handle(tenant string) func(context.Context) (*oauth2.Token, error) {
	hot, k := c.grants.Handle(tenant), c.key(tenant)
	return func(ctx context.Context) (*oauth2.Token, error) {
		if tok := hot.Fresh(); tok != nil {
			return tok, nil
		}
		return c.token(ctx, k)
	}
}

// TryToken is Token for callers that must not wait, such as a queue that can run the
// job again later. It reads Redis at most once, for a second at most. Where a refresh is
// needed it starts one and returns an *Error of kind ErrPending, whose RetryAfter says
// when to come back: a second or so after the refresh began, later the longer its claim has
// been standing. Callers get different ones, so that a queue's jobs do not return together.
func (c *Coordinator) TryToken(ctx context.Context, tenant string) (*oauth2.Token, error) {
	if tok := c.grants.Fresh(tenant); tok != nil {
		return tok, nil
	}
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return nil, err
	}
	s, err := c.firstLook(ctx, k)
	if err != nil {
		if mem := c.inMemory(k, want{}); mem != nil && !errors.Is(err, tokencache.ErrNone) {
			return mem.Token(), nil
		}
		return nil, c.about(k, err)
	}
	v := c.view(s, 0)
	switch d := policy.Decide(v, policy.Want{}); d.Act {
	case policy.ActServe:
		c.renew(k, s)
		return s.Token(), nil
	case policy.ActGiveUp:
		return nil, c.about(k, dress(d.Trouble))
	}
	if app := c.app.KnownApp(); app != nil {
		if g, _, e := gate(app, c.applicant(k.Tenant, &s.Record)); g == policy.PassStopped { // there is nothing to wait for
			return nil, c.about(k, e)
		}
	}
	return nil, &Error{App: k.App, Tenant: k.Tenant, Kind: ErrPending, RetryAfter: policy.PendingFor(v, random())}
}

// firstLook is what a flight sees when it first looks, or what is known meanwhile. The flight
// goes on and does what is due.
func (c *Coordinator) firstLook(ctx context.Context, k tokencache.Key) (*engine.Snapshot, error) {
	if s := c.app.Grant(k.Tenant).Peek(); s != nil && s.Valid() {
		return s, nil
	}
	f, err := c.join(k, want{})
	if err != nil {
		return nil, err
	}
	silent := time.NewTimer(patience(ctx))
	defer silent.Stop()
	select {
	case <-f.looked:
	case <-ctx.Done():
		return nil, left(ctx, k)
	case <-silent.C:
		return nil, errSlow
	}
	return c.sight(ctx, f)
}

// sight is what is known of a flight's grant once the flight has looked: what was pushed
// meanwhile, what it saw if that was lately, else what Redis says now.
func (c *Coordinator) sight(ctx context.Context, f *flight) (*engine.Snapshot, error) {
	if s := f.grant.Peek(); s != nil {
		return s, nil
	}
	if time.Since(f.lookedAt) < unreachable {
		mem := f.grant.Recall()
		if mem != nil && f.first != nil && policy.PositionOf(&f.first.Record).Before(&mem.Record) {
			return mem, nil // generations never go backwards in a process's eyes
		}
		return f.first, f.firstErr
	}
	ctx, cancel := context.WithTimeoutCause(ctx, unreachable, errSlow)
	defer cancel()
	return c.read(ctx, f.key)
}

// read reads Redis; the caller may leave by its ctx, whose cause is the error then.
func (c *Coordinator) read(ctx context.Context, k tokencache.Key) (s *engine.Snapshot, err error) {
	type answer struct {
		snap *engine.Snapshot
		err  error
	}
	got := make(chan answer, 1)
	closed := c.begin(func() { // nothing interrupts go-redis
		s, err := c.app.Grant(k.Tenant).Read(context.WithoutCancel(ctx))
		got <- answer{s, err}
	})
	if closed != nil {
		return nil, closed
	}
	select {
	case a := <-got:
		return a.snap, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Refresh forces a new pair, however fresh the stored one is, and waits for it. A
// refresh that is already under way counts.
func (c *Coordinator) Refresh(ctx context.Context, tenant string) error {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return err
	}
	s, err := c.current(ctx, k)
	if err != nil {
		return err
	}
	_, err = c.await(ctx, k, want{Want: newerThan(s)})
	return err
}

// current is the grant as it is now, valid or not. The caller may leave by its ctx.
func (c *Coordinator) current(ctx context.Context, k tokencache.Key) (*engine.Snapshot, error) {
	if s := c.app.Grant(k.Tenant).Peek(); s != nil {
		return s, nil
	}
	if c.app.Grant(k.Tenant).KnownAbsent() {
		return nil, c.absent(k)
	}
	s, err := c.read(ctx, k)
	switch {
	case err == nil:
		return s, nil
	case ctx.Err() != nil:
		return nil, left(ctx, k)
	case errors.Is(err, tokencache.ErrNone):
		return c.await(ctx, k, want{}) // another process may remember it
	default:
		return nil, c.about(k, err)
	}
}

// begin starts work that Close waits for. The error is errClosed.
func (c *Coordinator) begin(work func()) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.work.Go(work)
	return nil
}

func left(ctx context.Context, k tokencache.Key) error {
	return fmt.Errorf("refresh: %s: the caller left: %w", k, context.Cause(ctx))
}

// Status reads the grant's state from Redis, for people. The error is of kind
// ErrNotConnected where there is none; a disconnected grant has a Status.
func (c *Coordinator) Status(ctx context.Context, tenant string) (tokencache.Status, error) {
	k := c.key(tenant)
	if err := k.Validate(); err != nil {
		return tokencache.Status{}, err
	}
	s, err := c.app.Grant(k.Tenant).Status(ctx)
	if errors.Is(err, tokencache.ErrNone) { // or Redis has lost it
		if _, unknown := c.app.AppState(ctx); unknown != nil {
			err = unknown
		}
	}
	if err != nil {
		return tokencache.Status{}, c.about(k, err)
	}
	return s, nil
}

// await waits until a flight has brought what is wanted.
//
// A thousand callers stand here until one push wakes them all, and each has to fetch its own
// stack into the CPU's cache then: the wait is in this function, so that there is less of it.
func (c *Coordinator) await(ctx context.Context, k tokencache.Key, w want) (*engine.Snapshot, error) {
	if err := k.Validate(); err != nil {
		return nil, err
	}
	// A flight that is joined may have wanted less. Of those that wanted the same the first
	// may have ended for its own reasons, and a pair may have expired on its way.
	join := c.join
	if ctx.Done() == nil && w == (want{}) {
		join = c.joinAndWait
	}
	for same := 0; same < 3; {
		f, err := join(k, w)
		if err != nil {
			return nil, c.about(k, err)
		}
		var silent <-chan time.Time
		if c.inMemory(k, w) != nil {
			silent = time.After(patience(ctx))
		}
		if w == (want{}) { // a renewal goes on, but its callers need not wait for that
			var s *engine.Snapshot
			select {
			case <-f.looked:
				s = c.served(ctx, f)
			case <-ctx.Done():
				s = c.inTime(ctx, k, w)
			case <-silent:
				s = c.inMemory(k, w)
			}
			if s != nil {
				return s, nil
			}
		}
		select {
		case <-f.done:
			if f.err == nil && (c.grants.Calm(f.snap) || f.snap.Valid()) && w.After.Before(&f.snap.Record) {
				return f.snap, nil
			}
			err = f.err
		case <-ctx.Done():
			if s := c.inTime(ctx, k, w); s != nil {
				return s, nil
			}
			return nil, left(ctx, k)
		case <-silent:
		}
		// Redis unreachable, or a refresh before its time failed: what is still valid is served.
		if s := c.inMemory(k, w); s != nil && !errors.Is(err, ErrNotConnected) {
			return s, nil
		}
		if err != nil && (w.Refused || !f.want.Refused) && !(f.want.background != w.background && stoodBack(err)) {
			return nil, err // else it was about what an API had refused, or about a renewal that nobody waited for
		}
		if f.want == w {
			same++
		}
	}
	return nil, &Error{App: k.App, Tenant: k.Tenant, Kind: ErrUnavailable, Code: "short_lived",
		Err: errors.New("the provider's access tokens expire before they arrive")}
}

// stoodBack reports whether an exchange was not made since nobody waited for it.
func stoodBack(err error) bool { return errors.Is(err, errNoPlace) || errors.Is(err, errHeldElsewhere) }

// unreachable is how long a caller that could be served from memory waits for Redis.
const unreachable = time.Second

// patience is that for one caller: the token is to be there while its deadline leaves time to use it.
func patience(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return min(unreachable, time.Until(end)/2)
	}
	return unreachable
}

// inTime is what memory has for a caller whose deadline has passed, when this process was too busy to
// serve it before that. Who has left gets nothing.
func (c *Coordinator) inTime(ctx context.Context, k tokencache.Key, w want) *engine.Snapshot {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return c.inMemory(k, w)
}

// served is a token that is valid though the flight, which has looked, goes on.
func (c *Coordinator) served(ctx context.Context, f *flight) *engine.Snapshot {
	select {
	case <-f.done:
		return nil // it has the last word
	default:
	}
	if s, err := c.sight(ctx, f); err == nil && s.Valid() && s.State != tokencache.Disconnected {
		return s
	}
	return nil
}

// inMemory is what this process remembers, coherent or not, if a caller who only wants
// a valid token may have it.
func (c *Coordinator) inMemory(k tokencache.Key, w want) *engine.Snapshot {
	if s := c.app.Grant(k.Tenant).Recall(); s != nil && s.Valid() && w == (want{}) {
		return s
	}
	return nil
}

// lookup is the grant from coherent memory, else from Redis.
func (c *Coordinator) lookup(ctx context.Context, k tokencache.Key) (*engine.Snapshot, error) {
	if s := c.app.Grant(k.Tenant).Peek(); s != nil {
		return s, nil
	}
	return c.app.Grant(k.Tenant).Read(ctx)
}

// renew starts a refresh in the background if the pair is due and one makes sense now.
func (c *Coordinator) renew(k tokencache.Key, s *engine.Snapshot) {
	if c.grants.Calm(s) { // a thousand that are woken together come by here
		return
	}
	now := s.Now()
	if s.Fresh() || s.State != tokencache.Active || s.WaitsUntil(now) != 0 || c.standsStill() {
		return
	}
	if s.Claim.Unresolved() && s.ClaimUntil() <= now && s.OpensAt(c.takeover) > now {
		return // a holder died, and nobody may present before the token has expired
	}
	_, _ = c.join(k, want{Want: policy.Want{Early: true}})
}

// absent is the error about a tenant without a grant: it has never connected, unless Redis has lost
// data. That is known here from the app's state, which a flight looks at before it gives up.
func (c *Coordinator) absent(k tokencache.Key) error {
	if s := c.app.KnownApp(); s != nil && s.LostAt != 0 {
		return &Error{App: k.App, Tenant: k.Tenant, Kind: ErrUnavailable, Code: lostData, RetryAfter: policy.LostRetry, Err: errLostData}
	}
	return &Error{App: k.App, Tenant: k.Tenant, Kind: ErrNotConnected}
}

// about makes an error say which grant it is about, and who acts.
func (c *Coordinator) about(k tokencache.Key, err error) error {
	c.noteUnopened(k, err)
	var e *Error
	switch {
	case errors.As(err, &e):
		if e.App == "" {
			e.App, e.Tenant = k.App, k.Tenant
		}
		return e
	case errors.Is(err, tokencache.ErrNone):
		return c.absent(k)
	case errors.Is(err, tokencache.ErrDamaged):
		return &Error{App: k.App, Tenant: k.Tenant, Kind: ErrClientConfig, Code: "damaged_record", Err: err}
	case errors.Is(err, tokencache.ErrNewer):
		return &Error{App: k.App, Tenant: k.Tenant, Kind: ErrUnavailable, Code: "newer_version", RetryAfter: policy.FirstRetry, Err: err} // upgraded processes go on
	case errors.Is(err, engine.ErrEnded):
		return &Error{App: k.App, Tenant: k.Tenant, Kind: ErrNotConnected, Code: "disconnected", Err: err}
	case errors.Is(err, tokencache.ErrNotReplicated):
		return &Error{App: k.App, Tenant: k.Tenant, Kind: ErrUnavailable, Code: notReplicated, RetryAfter: policy.FirstRetry, Err: err}
	case errors.Is(err, tokencache.ErrSealed), errors.Is(err, tokencache.ErrSealing):
		return &Error{App: k.App, Tenant: k.Tenant, Kind: ErrClientConfig, Code: "sealed", Err: err}
	default:
		return c.aboutRedis(k, err)
	}
}
