package integration

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// fleet is one app on one Redis with one strict provider. Its workers are processes.
type fleet struct {
	t      testing.TB
	redis  *redistest.Server
	server *refreshtest.Server
	setup  setup // of its workers, but for the name
	ops    *refresh.Coordinator
	rdb    *redis.Client
	names  int

	launched []*process
}

// newFleet takes timings that a test can wait for; alter changes them.
func newFleet(t testing.TB, rs *redistest.Server, cfg refreshtest.Config, alter ...func(*setup)) *fleet {
	t.Helper()
	commandPath(t) // before any time is measured
	f := &fleet{t: t, redis: rs, server: refreshtest.Start(t, cfg), rdb: rs.Client(t)}
	o := f.server.OAuth2Config()
	f.setup = setup{
		Redis: rs.Addr(), Prefix: redistest.Prefix(t),
		TokenURL: o.Endpoint.TokenURL, ClientID: o.ClientID, ClientSecret: o.ClientSecret,
		AuthStyle: int(o.Endpoint.AuthStyle), Profile: cfg.Profile,
		Lease: 5 * time.Second, Exchange: 10 * time.Second, Claim: 12 * time.Second, Patience: time.Minute,
	}
	for _, a := range alter {
		a(&f.setup)
	}
	f.ops = f.operator()
	return f
}

// operator is a coordinator in this process: it connects tenants and looks at grants,
// and asks for no token.
func (f *fleet) operator() *refresh.Coordinator {
	f.t.Helper()
	w := &worker{log: io.Discard}
	cfg := f.setup
	cfg.Name = "operator"
	if err := w.start(cfg); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := w.Close(f.ctx()); err != nil {
			f.t.Errorf("close: %v", err)
		}
		_ = w.rdb.Close()
	})
	return w.Coordinator
}

// worker starts one more process.
func (f *fleet) worker() *process {
	f.t.Helper()
	f.names++
	cfg := f.setup
	cfg.Name = fmt.Sprintf("worker-%d", f.names)
	p := launch(f.t, cfg)
	f.launched = append(f.launched, p)
	return p
}

func (f *fleet) workers(n int) []*process {
	f.t.Helper()
	all := make([]*process, n)
	for i := range all {
		all[i] = f.worker()
	}
	return all
}

// ctx bounds one step of a test.
func (f *fleet) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	f.t.Cleanup(cancel)
	return ctx
}

// connect lets the tenant consent. Its access token has already expired, so that the
// next caller needs a new one.
func (f *fleet) connect(tenant string) { f.t.Helper(); f.consent(tenant, -time.Second) }

// consent is connect with an access token that lives that long.
func (f *fleet) consent(tenant string, life time.Duration) {
	f.t.Helper()
	tok := f.server.Grant(tenant)
	if life < 0 {
		f.server.ExpireAccessTokens(tenant)
	}
	tok.Expiry = time.Now().Add(life)
	if err := f.ops.Connect(f.ctx(), tenant, tok); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) status(tenant string) tokencache.Status {
	f.t.Helper()
	st, err := f.ops.Status(f.ctx(), tenant)
	if err != nil {
		f.t.Fatal(err)
	}
	return st
}

func (f *fleet) key(tenant, what string) string {
	return f.setup.Prefix + ":{" + app + ":" + tenant + "}:" + what
}

// herd lets callers in all processes ask for a token at once and waits for their results.
func herd(workers []*process, tenant string, callers int) report {
	return gather(ask(workers, tenant, callers))
}

func ask(workers []*process, tenant string, callers int) []*sent {
	var all []*sent
	for _, w := range workers {
		all = append(all, w.token(tenant, callers))
	}
	return all
}

// gather adds up reports.
func gather(all []*sent) report {
	total := report{Tokens: map[string]int{}, Errors: map[string]int{}}
	for _, s := range all {
		s.p.t.Helper()
		total.add(s.report())
	}
	return total
}

func (r *report) add(o report) {
	for k, n := range o.Tokens {
		r.Tokens[k] += n
	}
	for k, n := range o.Errors {
		r.Errors[k] += n
	}
	r.Texts = append(r.Texts, o.Texts...)
	r.Took = append(r.Took, o.Took...)
	if o.Last.After(r.Last) {
		r.Last = o.Last
	}
	if o.RetryMin != 0 && (r.RetryMin == 0 || o.RetryMin < r.RetryMin) {
		r.RetryMin = o.RetryMin
	}
	r.RetryMax = max(r.RetryMax, o.RetryMax)
}

// served asserts that every one of n callers has a token that lives at the provider.
func (f *fleet) served(r report, n int) {
	f.t.Helper()
	if r.served() != n || len(r.Errors) > 0 {
		f.t.Errorf("%d of %d callers have a token; errors: %v %v", r.served(), n, r.Errors, r.Texts)
	}
	for fp := range r.Tokens {
		if raw := f.issued(fp); raw == "" || !f.server.AccessAlive(raw) {
			f.t.Errorf("a dead access token was handed out: %s", fp)
		}
	}
}

// refused asserts that every one of n callers got one of these kinds/codes.
func (f *fleet) refused(r report, n int, kinds ...string) {
	f.t.Helper()
	got, all := 0, 0
	for kind, callers := range r.Errors {
		all += callers
		if slices.Contains(kinds, kind) {
			got += callers
		}
	}
	if got != n || all != n || r.served() > 0 {
		f.t.Errorf("want %d × %v, got errors %v and %d tokens; %v", n, kinds, r.Errors, r.served(), r.Texts)
	}
}

// issued is the token with that fingerprint, or "".
func (f *fleet) issued(fingerprint string) string {
	for _, raw := range f.server.Issued() {
		if refreshtest.Fingerprint(raw) == fingerprint {
			return raw
		}
	}
	return ""
}

// presented asserts how often the tenant's refresh tokens were presented, and that none
// of it was against the profile.
func (f *fleet) presented(tenant string, n int) {
	f.t.Helper()
	f.ledger(tenant, n, n, 0)
}

// ledger asserts the least and most presentations, and how many of them were of a spent
// token where the profile does not permit it: a lawful recovery (rule 6.7) is one.
func (f *fleet) ledger(tenant string, least, most, violations int) {
	f.t.Helper()
	l := f.server.Ledger().Presentations(tenant)
	if len(l) < least || len(l) > most {
		f.t.Errorf("%d presentations, want %d to %d:\n%s", len(l), least, most, l)
	}
	if v := l.Violations(f.setup.Profile); len(v) != violations {
		f.t.Errorf("%d presentations of a spent token, want %d:\n%s", len(v), violations, l)
	}
}

// living asserts that the stored pair is the provider's: its refresh token would bring a
// pair, and was not spent before, unless that does no harm.
func (f *fleet) living(tenant string) {
	f.t.Helper()
	st := f.status(tenant)
	raw := f.issued(st.RefreshTokenFingerprint)
	l := f.server.Ledger().Presentations(tenant)
	spent := l.Outcome(refreshtest.Rotated, refreshtest.Sibling, refreshtest.SamePair).PerToken()[st.RefreshTokenFingerprint] > 0
	if f.setup.Profile.Replay == provider.ReplayHarmless {
		spent = false
	}
	if st.State != tokencache.Active || raw == "" || !f.server.Alive(raw) || spent {
		f.t.Errorf("the stored pair %s (%s %s) is not a living one\n%s", st.RefreshTokenFingerprint, st.State, st.Reason, l)
	}
}

// dead asserts the state and reason of a grant that is lost.
func (f *fleet) dead(tenant, reason string) {
	f.t.Helper()
	if st := f.status(tenant); st.State != tokencache.Reauthorize || st.Reason != reason {
		f.t.Errorf("state %s (%s), want reauthorize (%s)", st.State, st.Reason, reason)
	}
	if _, alive := f.server.Living(tenant); alive && f.setup.Profile.Replay == provider.ReplayRevokesFamily {
		f.t.Error("the grant is dead while its pair lives")
	}
}

// holder is the worker whose claim stands.
func (f *fleet) holder(workers []*process, tenant string) (holder *process, index int) {
	f.t.Helper()
	by := f.status(tenant).ClaimBy
	for i, w := range workers {
		if w.name == by {
			return w, i
		}
	}
	f.t.Fatalf("no worker is called %q", by)
	return nil, 0
}

// subscribed waits until n processes listen to the tenant's events.
func (f *fleet) subscribed(tenant string, n int64) {
	f.t.Helper()
	channel := f.key(tenant, "events")
	f.eventually("the processes to listen", func() bool {
		return f.rdb.PubSubNumSub(f.ctx(), channel).Val()[channel] >= n
	})
}

// eventually probes until ready, and fails the test when patience is over.
func (f *fleet) eventually(what string, ready func() bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); !ready(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// stored waits until Redis has the generation.
func (f *fleet) stored(tenant string, generation int64) {
	f.t.Helper()
	f.eventually("the pair to be stored", func() bool {
		st, err := f.ops.Status(f.ctx(), tenant)
		return err == nil && st.Generation >= generation
	})
}

// within asserts how long something took.
func within(t testing.TB, what string, limit time.Duration, do func()) {
	t.Helper()
	clock := redistest.StartStopwatch(t)
	do()
	if took, over := clock.Over(limit); over {
		t.Errorf("%s took %v, want at most %v", what, took, limit)
	}
}
