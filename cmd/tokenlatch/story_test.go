package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// canary starts every token: where it shows, one has leaked.
const canary = "canary7d1f"

// pairFor is a pair with ms to live from now.
func pairFor(tenant string, life int64) func(now int64) grant.Pair {
	return func(now int64) grant.Pair {
		return grant.Pair{
			AccessToken: grant.Hide(canary + "at" + tenant), RefreshToken: grant.Hide(canary + "rt" + tenant), TokenType: "Bearer",
			IssuedAt: now, ExpiresAt: now + life, RefreshAt: now + life - life/10,
		}
	}
}

// teller makes grants that have been through something. Tokens stand readable in Redis: a reader that looked
// at them could show them.
type teller struct {
	testing.TB
	ctx   context.Context
	rdb   redis.UniversalClient
	cache *tokencache.Cache
}

// tell fills a Redis with one grant of each kind.
func tell(t testing.TB, rdb redis.UniversalClient) {
	t.Helper()
	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: tokencache.Plaintext})
	if err != nil {
		t.Fatal(err)
	}
	s := teller{t, context.Background(), rdb, cache}
	s.connect("zoom", "fine")
	s.connect("hubspot", "fine too")
	s.fail("dead", grant.Failure{Verdict: grant.VerdictDead, Error: "reauthorize/invalid_grant/400", Reason: "invalid_grant"})
	s.fail("lost", grant.Failure{Verdict: grant.VerdictDead, Error: "reauthorize/invalid_grant/400", Reason: "lost_response"})
	s.fail("shared", grant.Failure{Verdict: grant.VerdictDead, Error: "reauthorize/invalid_grant/400", Reason: "external_rotation"})
	s.fail("down", grant.Failure{Verdict: grant.VerdictClear, Error: "ambiguous/http_500/500", Retry: time.Hour})
	s.hset("down", "expires_at", "1000", "refresh_at", "1000")
	s.fail("odd", grant.Failure{Verdict: grant.VerdictClear, Error: "refused/odd/418", Reason: "suspect", Retry: time.Hour})
	s.claim("busy", "web-2/4711")
	s.lock("busy", "web-2/4711")
	s.claim("silent", "web-3/4712")
	s.connect("zoom", "gone")
	if err := cache.Grant(grant.Key{App: "zoom", Tenant: "gone"}).As("ops").Disconnect(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.connect("zoom", "broken")
	s.hset("broken", "expires_at", "soon")
	s.connect("zoom", "future")
	s.hset("future", "v", "3")
	if _, _, err := cache.App("zoom").As("w").Throttle(s.ctx, engine.NewID(), "throttled//429", "a", time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, app := range []string{"zoom", "hubspot"} {
		if err := cache.App(app).Forget(s.ctx); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(30 * time.Second); len(rdb.PubSubChannels(s.ctx, "tl:heartbeat:*").Val()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("who told the story still listens")
		}
	}
}

func (s teller) connect(app, tenant string) *engine.Snapshot {
	s.Helper()
	snap, err := s.cache.Grant(grant.Key{App: app, Tenant: tenant}).As("web-1/4710").Connect(s.ctx, pairFor(tenant, 3_600_000))
	if err != nil {
		s.Fatal(err)
	}
	return snap
}

func (s teller) claim(tenant, by string) *engine.Snapshot {
	s.Helper()
	snap := s.connect("zoom", tenant)
	o, snap, err := s.cache.Grant(snap.Key).As(by).Claim(s.ctx, snap, engine.NewID(), time.Minute, grant.AfterDeadline)
	if err != nil || o != grant.OutcomeOK {
		s.Fatalf("claim: %s, %v", o, err)
	}
	return snap
}

func (s teller) fail(tenant string, f grant.Failure) {
	s.Helper()
	snap := s.claim(tenant, "web-2/4711")
	f.ID = engine.NewID()
	if o, _, err := s.cache.Grant(snap.Key).As("web-2/4711").Fail(s.ctx, snap, f); err != nil || o != grant.OutcomeOK {
		s.Fatalf("fail: %s, %v", o, err)
	}
}

func (s teller) hset(tenant string, values ...any) {
	s.Helper()
	if err := s.rdb.HSet(s.ctx, "tl:{zoom:"+tenant+"}:grant", values...).Err(); err != nil {
		s.Fatal(err)
	}
}

func (s teller) lock(tenant, by string) {
	s.Helper()
	if err := s.rdb.Set(s.ctx, "tl:{zoom:"+tenant+"}:lock", by+"/"+strings.Repeat("N", 26), time.Hour).Err(); err != nil {
		s.Fatal(err)
	}
}

// loseData marks the app's data as lost, as workers do.
func loseData(t testing.TB, rdb redis.UniversalClient) {
	t.Helper()
	if err := rdb.HSet(context.Background(), "tl:app:zoom", "lost_at", "1795595714771", "born", "b", "rev", "1").Err(); err != nil {
		t.Fatal(err)
	}
}

// told runs the command in this process, on a Redis, and looks for tokens in what it says.
func told(t testing.TB, s *redistest.Server, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	code, stdout, stderr = shown(t, s, args...)
	if strings.Contains(stdout, canary) {
		t.Errorf("tokenlatch %s shows a token:\n%s", strings.Join(args, " "), stdout)
	}
	return code, stdout, stderr
}

// shown is told for a command that may print a token, to stdout alone.
func shown(t testing.TB, s *redistest.Server, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, talk bytes.Buffer
	if s != nil {
		args = append(args, "--redis", s.Addr())
	}
	_, _ = os.Stdin.Seek(0, io.SeekStart) // what lies there is read again
	code = run(args, &out, &talk)
	if strings.Contains(talk.String(), canary) {
		t.Errorf("tokenlatch %s shows a token:\n%s", strings.Join(args, " "), &talk)
	}
	return code, out.String(), talk.String()
}
