package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/inbox"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// scene is one grant, a cache whose call is repeated, and another one by which other things happen
// between the two runs.
type scene struct {
	*testing.T
	c, other *Cache
	proxy    *redistest.Proxy
	lossy    atomic.Bool // the reply to the next call is lost
	sent     atomic.Bool // that call
	resume   chan struct{}
}

// sender notes that the call of the process under test is sent.
type sender struct {
	net.Conn
	s *scene
}

func (c sender) Write(b []byte) (int, error) {
	if c.s.lossy.Load() && bytes.Contains(b, []byte(by)) {
		c.s.sent.Store(true)
	}
	return c.Conn.Write(b)
}

// newScene is on a client with one connection. When that is lost, the next one waits for resume:
// what happens between a command and its repeat is for the test to say.
func newScene(t *testing.T) *scene {
	server, prefix := redistest.Start(t), redistest.Prefix(t)
	s := &scene{T: t, proxy: redistest.NewProxy(t, server.Addr()), resume: make(chan struct{})}
	rdb := server.ClientWith(t, func(o *redis.Options) {
		o.PoolSize, o.PoolTimeout, o.DialTimeout = 1, patience, patience
		o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
			if s.sent.Load() {
				<-s.resume
			}
			conn, err := new(net.Dialer).DialContext(ctx, network, s.proxy.Addr())
			return sender{conn, s}, err
		}
	})
	s.c, s.other = newCache(t, rdb, prefix), newCache(t, server.Client(t), prefix)
	for _, script := range []*redis.Script{store.ConnectScript, store.DisconnectScript} {
		if err := script.Load(t.Context(), s.other.rdb).Err(); err != nil { // else a NOSCRIPT would be lost
			t.Fatal(err)
		}
	}
	s.c.proof.Key(t.Context())
	return s
}

// repeated makes a call whose reply is lost, and which go-redis repeats after what is between.
func (s *scene) repeated(call func() error, between func()) error {
	s.Helper()
	eaten := s.proxy.EatReply(by)
	s.lossy.Store(true)
	done := make(chan error, 1)
	go func() { done <- call() }()
	eaten.Await(s.T)
	between()
	close(s.resume)
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		s.Fatal("the repeat hangs")
		return nil
	}
}

// all is everything that Redis has of the grant.
func (s *scene) all() map[string]string {
	s.Helper()
	ks := s.other.Grant(acme).keys()
	rdb, ctx := s.other.rdb, s.Context()
	out := rdb.HGetAll(ctx, ks.Grant()).Val()
	out["secret"], out["its spare"] = rdb.Get(ctx, ks.Secret()).Val(), rdb.Get(ctx, ks.Spare()).Val()
	out["its journal"] = fmt.Sprint(rdb.XRange(ctx, ks.Journal(), "-", "+").Val())
	return out
}

func (s *scene) unchanged(before map[string]string) {
	s.Helper()
	if now := s.all(); !maps.Equal(before, now) {
		s.Errorf("what was\n%v\nis\n%v", before, now)
	}
}

func (s *scene) refresh(times int) {
	s.Helper()
	base := read(s.T, s.other, acme)
	for range times {
		base = next(s.T, s.other, base, "refresher", 1000+int(base.Generation))
	}
}

func (s *scene) die() {
	s.Helper()
	base := claim(s.T, s.other, read(s.T, s.other, acme), "refresher")
	if o, _, err := s.other.Grant(base.Key).As("refresher").Fail(s.Context(), base, grant.Failure{ID: NewID(), Verdict: grant.VerdictDead, Reason: "invalid_grant"}); o != grant.OutcomeOK || err != nil {
		s.Fatal(o, err)
	}
}

// loseAndRestore loses what Redis has, and has it given back by a process that remembers it.
func (s *scene) loseAndRestore() {
	s.Helper()
	hot(s.T, s.other, acme)
	lose(s.T, s.other, acme)
	for !s.other.Grant(acme).Recall().KnownBefore(mono.Now()) { // the read is sent after memory knew
		time.Sleep(time.Millisecond)
	}
	read(s.T, s.other, acme)
}

// connectBetween is what can happen between a Connect and its repeat; ends: a Disconnect is last.
var connectBetween = []struct {
	name string
	ends bool
	do   func(s *scene)
}{
	{name: "nothing", do: func(*scene) {}},
	{name: "a refresh", do: func(s *scene) { s.refresh(1) }},
	{name: "40 refreshes", do: func(s *scene) { s.refresh(40) }},
	{name: "40 refreshes and a compact journal", do: func(s *scene) { s.refresh(40); s.compact() }},
	{name: "Disconnect", ends: true, do: func(s *scene) { disconnect(s.T, s.other, acme) }},
	{name: "40 refreshes and Disconnect", ends: true, do: func(s *scene) { s.refresh(40); disconnect(s.T, s.other, acme) }},
	{name: "another Connect", do: func(s *scene) { connect(s.T, s.other, acme, 50) }},
	{name: "a refresh and another Connect", do: func(s *scene) { s.refresh(1); connect(s.T, s.other, acme, 50) }},
	{name: "another Connect and 40 refreshes", do: func(s *scene) { connect(s.T, s.other, acme, 50); s.refresh(40) }},
	{name: "two other Connects and 40 refreshes", do: func(s *scene) {
		connect(s.T, s.other, acme, 50)
		connect(s.T, s.other, acme, 51)
		s.refresh(40)
	}},
	{name: "Disconnect, another Connect and 40 refreshes", do: func(s *scene) {
		disconnect(s.T, s.other, acme)
		connect(s.T, s.other, acme, 50)
		s.refresh(40)
	}},
	{name: "another Connect and Disconnect", ends: true, do: func(s *scene) {
		connect(s.T, s.other, acme, 50)
		disconnect(s.T, s.other, acme)
	}},
	{name: "death", do: func(s *scene) { s.die() }},
	{name: "40 refreshes and death", do: func(s *scene) { s.refresh(40); s.die() }},
	{name: "the loss of Redis' data, which is restored", do: func(s *scene) { s.loseAndRestore() }},
	{name: "40 refreshes and the loss of Redis' data, which is restored", do: func(s *scene) { s.refresh(40); s.loseAndRestore() }},
	{name: "another Connect and the loss of Redis' data, which is restored", do: func(s *scene) {
		connect(s.T, s.other, acme, 50)
		s.loseAndRestore()
	}},
}

func (s *scene) compact() {
	s.Helper()
	if err := s.other.Grant(acme).Compact(s.Context()); err != nil {
		s.Fatal(err)
	}
}

func TestAConnectThatIsRepeatedChangesNothing(t *testing.T) {
	t.Parallel()
	for _, b := range connectBetween {
		t.Run("by go-redis after "+b.name, func(t *testing.T) {
			s := newScene(t)
			var before map[string]string
			err := s.repeated(func() error { return s.connect(1) }, func() { b.do(s); before = s.all() })
			if err != nil && !(b.ends && errors.Is(err, ErrEnded)) {
				t.Error(err)
			}
			s.unchanged(before)
		})
		t.Run("by a caller after "+b.name, func(t *testing.T) {
			s := newScene(t)
			s.must(s.connect(1))
			b.do(s)
			before := s.all()
			if err := s.connect(1); b.ends != errors.Is(err, ErrEnded) || !b.ends && err != nil {
				t.Error(err)
			}
			s.unchanged(before)
		})
	}
}

func (s *scene) connect(n int) error {
	_, err := s.c.Grant(acme).As(by).Connect(context.Background(), pairNo(n))
	return err
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func TestADisconnectThatIsRepeatedChangesNothing(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(s *scene){
		"nothing":                     func(*scene) {},
		"Connect":                     func(s *scene) { connect(s.T, s.other, acme, 2) },
		"Connect and a refresh":       func(s *scene) { connect(s.T, s.other, acme, 2); s.refresh(1) },
		"Connect and 40 refreshes":    func(s *scene) { connect(s.T, s.other, acme, 2); s.refresh(40) },
		"Connect and death":           func(s *scene) { connect(s.T, s.other, acme, 2); s.refresh(40); s.die() },
		"Connect and Disconnect":      func(s *scene) { connect(s.T, s.other, acme, 2); disconnect(s.T, s.other, acme) },
		"two Connects and 40 refresh": func(s *scene) { connect(s.T, s.other, acme, 2); connect(s.T, s.other, acme, 3); s.refresh(40) },
		"a compact journal":           func(s *scene) { s.compact() },
		"the loss of Redis' data":     func(s *scene) { s.loseAndRestore() },
		"Connect and the loss of Redis' data": func(s *scene) {
			connect(s.T, s.other, acme, 2)
			s.refresh(40)
			s.loseAndRestore()
		},
	} {
		t.Run("after "+name, func(t *testing.T) {
			s := newScene(t)
			connect(t, s.other, acme, 1)
			var before map[string]string
			s.must(s.repeated(
				func() error { return s.c.Grant(acme).As(by).Disconnect(context.Background()) },
				func() { between(s); before = s.all() }))
			s.unchanged(before)
		})
	}
}

// A process that remembers the living pair stands for Redis, which has lost it: else the repeat of an
// old Connect, or an old row of Import, would be taken for the first.
func TestAConnectThatIsRepeatedAtAProcessWhichRemembersChangesNothingThoughRedisIsEmpty(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(s *scene) error{
		"Connect": func(s *scene) error { _, err := s.other.Grant(acme).As(by).Connect(s.Context(), pairNo(1)); return err },
		"Import": func(s *scene) error {
			_, err := s.other.Grant(acme).As(by).Import(s.Context(), pairNo(1))
			if !errors.Is(err, ErrExists) {
				return fmt.Errorf("not %w, but %w", ErrExists, err)
			}
			return nil
		},
		"Disconnect, then Connect": func(s *scene) error {
			disconnect(s.T, s.other, acme)
			_, err := s.other.Grant(acme).As(by).Connect(s.Context(), pairNo(1))
			if !errors.Is(err, ErrEnded) {
				return fmt.Errorf("not %w, but %w", ErrEnded, err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			connect(t, s.other, acme, 1)
			hot(t, s.other, acme)
			s.refresh(3)
			living := read(t, s.other, acme)
			lose(t, s.other, acme)
			for !s.other.Grant(acme).Recall().KnownBefore(mono.Now()) {
				time.Sleep(time.Millisecond)
			}
			if err := again(s); err != nil {
				t.Error(err)
			}
			if now := read(t, s.other, acme); now.State == grant.Active && now.Pair.RefreshToken.Reveal() != living.Pair.RefreshToken.Reveal() {
				t.Errorf("%s took the place of %s", now.RefreshFP, living.RefreshFP)
			}
		})
	}
}

// Refresh tokens of the fleet never leave it: one that is brought here was brought before, by a
// consent. Those are known for as long as the last few epochs; so are the last few that were redeemed.
// What comes from further back cannot be told from a new consent, and counts as one.
func TestASpentRefreshTokenIsRefused(t *testing.T) {
	t.Parallel()
	for _, ago := range []int{1, 3, 7} {
		t.Run(fmt.Sprint(ago, " generations ago"), func(t *testing.T) {
			s := newScene(t)
			connect(t, s.other, acme, 1)
			s.refresh(11)
			old := 1000 + 11 - ago // the pair of generation n+1 is that of number 1000+n
			before := s.all()
			if err := s.connect(old); !errors.Is(err, ErrSpent) {
				t.Errorf("the error is %v", err)
			}
			s.unchanged(before)
			disconnect(t, s.other, acme)
			before = s.all()
			if err := s.connect(old); !errors.Is(err, ErrSpent) {
				t.Errorf("after Disconnect the error is %v", err)
			}
			s.unchanged(before)
		})
	}
	t.Run("that of the consent, 40 generations ago", func(t *testing.T) {
		s := newScene(t)
		connect(t, s.other, acme, 1)
		s.refresh(40)
		before := s.all()
		_, err := s.c.Grant(acme).As(by).Connect(t.Context(), reconsent(1, "another access token"))
		if !errors.Is(err, ErrSpent) {
			t.Errorf("the error is %v", err)
		}
		s.unchanged(before)
	})
	t.Run("from further back it counts as a consent", func(t *testing.T) {
		s := newScene(t)
		connect(t, s.other, acme, 1)
		s.refresh(11)
		s.must(s.connect(1000 + 2))
		if p, ok, err := s.other.Grant(acme).Spare(t.Context(), read(t, s.other, acme)); !ok || err != nil || p.RefreshToken.Reveal() != "rt-1011" {
			t.Errorf("the living pair is not kept as spare: %v %v", ok, err)
		}
	})
}

// reconsent is what a provider that does not rotate answers when the tenant consents again.
func reconsent(n int, accessToken string) func(now int64) grant.Pair {
	return func(now int64) grant.Pair {
		p := pairNo(n)(now)
		p.AccessToken = grant.Hide(accessToken)
		return p
	}
}

func TestARefreshTokenThatIsNotRotatedCanBeConnectedAgain(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(s *scene){
		"while it is alive": func(*scene) {},
		"after Disconnect":  func(s *scene) { disconnect(s.T, s.other, acme) },
		"after its death":   func(s *scene) { s.die() },
		"after two consents": func(s *scene) {
			for _, at := range []string{"second", "third"} {
				if _, err := s.other.Grant(acme).As("connector").Connect(s.Context(), reconsent(1, at)); err != nil {
					s.Fatal(err)
				}
			}
			disconnect(s.T, s.other, acme)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			connect(t, s.other, acme, 1)
			base := claim(t, s.other, read(t, s.other, acme), "refresher")
			if o, _, err := s.other.Grant(base.Key).As("refresher").Commit(t.Context(), base, NewID(), reconsent(1, "refreshed")(base.At()), false, false); o != grant.OutcomeOK || err != nil {
				t.Fatal(o, err)
			}
			before(s)
			was := read(t, s.other, acme)
			_, err := s.c.Grant(acme).As(by).Connect(t.Context(), reconsent(1, "anew"))
			s.must(err)
			if now := read(t, s.other, acme); now.State != grant.Active || now.Pair.AccessToken.Reveal() != "anew" || now.Epoch <= was.Epoch {
				t.Errorf("%s %v, epoch %d after %d", now.State, now.Pair, now.Epoch, was.Epoch)
			}
		})
	}
}

func TestTheSpareOfADisplacedConsentLivesForAMomentOnly(t *testing.T) {
	t.Parallel()
	for name, law := range map[string]struct {
		after func(s *scene)
		spare bool
	}{
		"it is kept": {func(s *scene) { s.must(s.connect(2)) }, true},
		"not where the consent before is older than ten minutes": {func(s *scene) {
			age(s, callbacksApart+time.Second)
			s.must(s.connect(2))
		}, false},
		"Disconnect deletes it":              {func(s *scene) { s.must(s.connect(2)); disconnect(s.T, s.other, acme) }, false},
		"a refresh deletes it":               {func(s *scene) { s.must(s.connect(2)); s.refresh(1) }, false},
		"a consent long after it deletes it": {func(s *scene) { s.must(s.connect(2)); age(s, callbacksApart+time.Second); s.must(s.connect(3)) }, false},
		"a tombstone that is given back deletes it": {func(s *scene) {
			s.must(s.connect(2))
			ks := s.other.Grant(acme).keys()
			spare := s.other.rdb.Get(s.Context(), ks.Spare()).Val()
			backup := remember(s.T, s.other, acme)
			hot(s.T, s.other, acme)
			disconnect(s.T, s.other, acme)
			rewind(s.T, s.other, acme, backup)
			s.must(s.other.rdb.Set(s.Context(), ks.Spare(), spare, 0).Err())
			for !s.other.Grant(acme).Recall().KnownBefore(mono.Now()) {
				time.Sleep(time.Millisecond)
			}
			if r := read(s.T, s.other, acme); r.State != grant.Disconnected {
				s.Fatalf("the tombstone is not given back: %s", r.State)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			connect(t, s.other, acme, 1)
			law.after(s)
			now := read(t, s.other, acme)
			if _, ok, err := s.other.Grant(now.Key).Spare(t.Context(), now); ok != law.spare || err != nil {
				t.Errorf("there is a spare: %v (%v)", ok, err)
			}
			if n := s.other.rdb.Exists(t.Context(), s.other.Grant(acme).keys().Spare()).Val(); (n == 1) != law.spare || (now.SpareEpoch != 0) != law.spare {
				t.Errorf("%d spare keys, of epoch %d", n, now.SpareEpoch)
			}
		})
	}
}

// age makes the consent older than it is.
func age(s *scene, d time.Duration) {
	s.Helper()
	r := read(s.T, s.other, acme)
	epoch := r.Epoch - d.Milliseconds()
	hset(s.T, s.other, acme, "epoch", epoch)
	s.must(s.other.rdb.Set(s.Context(), s.other.Grant(acme).keys().Secret(), mustSeal(s.T, s.other, acme, epoch, r.Generation, r.Pair), 0).Err())
}

// A clock that is behind must not let an old consent win: the new one asks those who remember it.
func TestAConsentWinsOverOneThatOnlyAnotherProcessRemembersAndThatIsFromTheFuture(t *testing.T) {
	t.Parallel()
	for _, warm := range []int{1, 3} {
		for _, how := range []string{"Connect", "Disconnect"} {
			t.Run(fmt.Sprint(how, " with ", warm, " who remember"), func(t *testing.T) {
				s := newScene(t)
				connect(t, s.other, acme, 1)
				age(s, -time.Hour)
				ahead := read(t, s.other, acme)
				all := []*Cache{s.other}
				for range warm - 1 {
					all = append(all, newCache(t, s.other.rdb, string(s.other.names)))
				}
				for _, c := range all {
					hot(t, c, acme)
				}
				lose(t, s.other, acme)
				want := grant.Active
				if how == "Connect" {
					s.must(s.connect(2))
				} else {
					s.must(s.c.Grant(acme).As(by).Disconnect(t.Context()))
					want = grant.Disconnected
				}
				for _, c := range append(all, s.c) {
					eventually(t, "the new consent", patience, func() bool {
						now, err := c.Grant(acme).Read(t.Context())
						return err == nil && now.Epoch > ahead.Epoch && now.State == want && now.Pair.AccessToken.Reveal() != "at-1"
					})
				}
			})
		}
	}
}

func TestATombstoneEndsAfterNinetyDays(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	lives := func() []time.Duration {
		ks, rdb := s.other.Grant(acme).keys(), s.other.rdb
		return []time.Duration{rdb.PTTL(t.Context(), ks.Grant()).Val(), rdb.PTTL(t.Context(), ks.Journal()).Val()}
	}
	ends := func(when string, yes bool) {
		t.Helper()
		for _, left := range lives() {
			if yes != (left > inbox.TombstoneLife-time.Hour && left <= inbox.TombstoneLife) || !yes && left != -1 {
				t.Errorf("%s its keys have %v to live", when, lives())
			}
		}
	}
	connect(t, s.other, acme, 1)
	ends("connected", false)
	disconnect(t, s.other, acme)
	hset(t, s.other, acme, "gen", "damaged")
	connect(t, s.other, acme, 2)
	ends("connected over a damaged tombstone", false)
	disconnect(t, s.other, acme)
	ends("disconnected", true)
	s.compact()
	ends("with a compact journal", true)
	s.loseAndRestore()
	ends("restored", true)
	connect(t, s.other, acme, 3)
	ends("connected again", false)
}

func TestDisconnectOfATenantThatNeverWasWritesNothing(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	disconnect(t, s.other, acme)
	if keys := s.other.rdb.Keys(t.Context(), string(s.other.names)+":{*").Val(); len(keys) > 0 {
		t.Errorf("it wrote %v", keys)
	}
}
