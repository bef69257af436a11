package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/settings"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

// secretCanary is in the client secret: where it shows, that has leaked.
const secretCanary = canary + "secret"

// world is an app that is configured: a provider, a keyset, a file, and a worker of its own.
type world struct {
	t        testing.TB
	provider *refreshtest.Server
	rdb      redis.UniversalClient
	cache    *tokencache.Cache
	config   string // the file
}

// newWorld makes an app "zoom" in a directory, whose provider obeys that profile.
func newWorld(t testing.TB, dir string, server *redistest.Server, profile provider.Profile) *world {
	t.Helper()
	return newWorldOn(t, dir, server.Client(t), profile)
}

func newWorldOn(t testing.TB, dir string, rdb redis.UniversalClient, profile provider.Profile) *world {
	t.Helper()
	keyset, err := seal.Generate()
	if err != nil {
		t.Fatal(err)
	}
	p, err := refreshtest.New(refreshtest.Config{Profile: profile, ClientSecret: secretCanary, TokenPrefix: canary})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	w := &world{t: t, provider: p, rdb: rdb, config: filepath.Join(dir, "tokenlatch.yaml")}
	w.write("keyset.json", string(keyset))
	w.write("secret", secretCanary+"\n")
	w.write("tokenlatch.yaml", fmt.Sprintf(`keyset: {file: keyset.json}
apps:
  zoom:
    profile: {name: zoom, replay: %s, access_token_life: 1h}
    token_url: %s
    auth_style: header
    client_id: client
    client_secret: {file: secret}
    exchange_timeout: 5s
    commit_patience: 1s
`, profile.Replay, p.TokenURL()))
	w.cache = w.newCache()
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(w.config), name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) newCache() *tokencache.Cache {
	w.t.Helper()
	file, err := settings.Read(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	aead, err := file.AEAD()
	if err != nil {
		w.t.Fatal(err)
	}
	cache, err := tokencache.New(w.rdb, tokencache.Config{AEAD: aead})
	if err != nil {
		w.t.Fatal(err)
	}
	return cache
}

// connect has tenants consent, and stores what that brings.
func (w *world) connect(tenants ...string) {
	w.t.Helper()
	p, err := provider.OAuth2(w.provider.OAuth2Config(), provider.Profile{Name: "zoom"})
	if err != nil {
		w.t.Fatal(err)
	}
	tokens, err := refresh.New(refresh.Config{App: "zoom", Cache: w.cache, Provider: p, Name: "web-1/4710"})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, tenant := range tenants {
		if err := tokens.Connect(context.Background(), tenant, w.provider.Grant(tenant)); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := tokens.Close(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// claim has a worker claim a grant for so long, and go silent.
func (w *world) claim(tenant string, ttl time.Duration) {
	w.t.Helper()
	g := w.cache.Grant(grant.Key{App: "zoom", Tenant: tenant}).As("web-2/4711")
	s, err := g.Read(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	if o, _, err := g.Claim(context.Background(), s, engine.NewID(), ttl, grant.AfterDeadline); err != nil || o != grant.OutcomeOK {
		w.t.Fatalf("claim: %s, %v", o, err)
	}
	if err := w.cache.App("zoom").Forget(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// configured is a Redis with the grants of a configured app, for which this process's environment is set. A
// consent lies on its stdin.
func configured(t *testing.T) *redistest.Server {
	t.Helper()
	server, dir := redistest.Own(t), t.TempDir()
	w := newWorld(t, dir, server, provider.Profile{AuthStyle: oauth2.AuthStyleInHeader})
	w.connect("acme", "other")
	t.Setenv(settings.Variable, w.config)
	w.write("answer.json", `{"tenant":"moved","access_token":"`+canary+`","refresh_token":"`+canary+`","expires_in":3600}`)
	stdin, was := filepath.Join(dir, "answer.json"), os.Stdin
	f, err := os.Open(stdin)
	if err != nil {
		t.Fatal(err)
	}
	os.Stdin = f
	t.Cleanup(func() { os.Stdin = was; _ = f.Close() })
	return server
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value("world").(*world) }

// prepareApp is the script command "app [REPLAY]": an app zoom with its file, and a provider of that kind.
func prepareApp(t *testing.T, ts *testscript.TestScript, args []string) {
	p := provider.Profile{AuthStyle: oauth2.AuthStyleInHeader}
	if len(args) > 0 && args[0] == "harmless" {
		p.Replay = provider.ReplayHarmless
	}
	w := newWorld(t, ts.Getenv("WORK"), serverOf(ts), p)
	ts.Setenv(settings.Variable, w.config)
	ts.Setenv("TOKEN_URL", w.provider.TokenURL())
	*worldOf(ts) = *w
}

// connectAll is the script command "grants TENANT…".
func connectAll(ts *testscript.TestScript, tenants []string) { worldOf(ts).connect(tenants...) }

// failNext is the script command "fails STATUS [BODY]": exchanges are answered so from now on.
func failNext(ts *testscript.TestScript, args []string) {
	step := refreshtest.Step{Times: -1}
	step.Status, _ = strconv.Atoi(args[0])
	if len(args) > 1 {
		step.Body = args[1]
	}
	worldOf(ts).provider.ClearScript()
	if step.Status != 200 {
		worldOf(ts).provider.Script(step)
	}
}

// claimSilently is the script command "claims TENANT DURATION": a worker claims the grant and goes silent.
func claimSilently(ts *testscript.TestScript, args []string) {
	ttl, err := time.ParseDuration(args[1])
	ts.Check(err)
	worldOf(ts).claim(args[0], ttl)
}

// writeAnswer is the script command "answer TENANT FILE [MEMBER=TEXT…]": the tenant consents, and the answer
// goes into a file, with those members over it.
func writeAnswer(ts *testscript.TestScript, args []string) {
	tok := worldOf(ts).provider.Grant(args[0])
	answer := map[string]any{"access_token": tok.AccessToken, "refresh_token": tok.RefreshToken, "token_type": "Bearer", "expires_in": 3599}
	for _, arg := range args[2:] {
		name, text, _ := strings.Cut(arg, "=")
		answer[name] = text
	}
	text, err := json.Marshal(answer)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), text, 0o600))
}

// untilOver is the script command "until-over TENANT": the hard deadline of its claim has passed by Redis' clock.
func untilOver(ts *testscript.TestScript, tenant string) {
	w, ctx := worldOf(ts), context.Background()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		until, err := w.rdb.HGet(ctx, "tl:{zoom:"+tenant+"}:grant", "claim_until").Int64()
		ts.Check(err)
		now, err := w.rdb.Time(ctx).Result()
		ts.Check(err)
		if now.UnixMilli() > until {
			return
		}
	}
	ts.Fatalf("the claim of %s does not end", tenant)
}

// respend is the script command "respend FROM TO": an answer with the same refresh token, and another access
// token.
func respend(ts *testscript.TestScript, from, to string) {
	var answer map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(from)), &answer))
	answer["access_token"] = canary + "other"
	text, err := json.Marshal(answer)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(to), text, 0o600))
}
