package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

// asCommand in the environment makes the test binary the command itself, which fails if a goroutine
// outlives it.
const asCommand = "WEBHOOK_WORKER_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	main()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

// process is one worker.
type process struct {
	*exec.Cmd
	printed string // what it said to try
	stderr  bytes.Buffer
}

// startWorker runs the command until it has printed a line that begins with last.
func startWorker(t *testing.T, last string, env []string, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.CommandContext(t.Context(), exe, append([]string{"-listen", "127.0.0.1:0"}, args...)...)}
	p.Env = append(append(os.Environ(), asCommand+"=1", "REDIS_URL=", "CLIENT_SECRET="), env...)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = read.Close() })
	p.Stdout, p.Stderr = write, &p.stderr
	err = p.Start()
	_ = write.Close()
	if err != nil {
		t.Fatal(err)
	}
	var ready bool
	if p.printed, ready = until(read, last); !ready {
		_ = p.Wait()
		t.Fatalf("it ended: %s", &p.stderr)
	}
	return p
}

// until reads lines up to one that begins with last.
func until(r io.Reader, last string) (printed string, found bool) {
	for lines := bufio.NewScanner(r); !found && lines.Scan(); {
		printed += lines.Text() + "\n"
		found = strings.HasPrefix(lines.Text(), last)
	}
	return printed, found
}

// address is the URL that it printed behind a word.
func (p *process) address(t *testing.T, word string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + word + ` .*?(http://[^\s']+)`).FindStringSubmatch(p.printed)
	if found == nil {
		t.Fatalf("no %s in\n%s", word, p.printed)
	}
	return found[1]
}

// ends sends SIGTERM and wants a good end of it.
func (p *process) ends(t *testing.T) {
	t.Helper()
	_ = p.Process.Signal(syscall.SIGTERM)
	_ = p.Wait()
	if code := p.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
}

// browser is an HTTP client with cookies.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Jar: jar, Timeout: time.Minute}
}

// get returns the status and the body at the end of all redirects.
func get(t *testing.T, client *http.Client, address string) (int, string) {
	t.Helper()
	resp, err := client.Get(address)
	return read(t, resp, err)
}

func post(t *testing.T, client *http.Client, address, body string) (int, string) {
	t.Helper()
	resp, err := client.Post(address, "application/json", strings.NewReader(body))
	return read(t, resp, err)
}

func read(t *testing.T, resp *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

// presses fills in the provider's page and returns where its button leads.
func presses(t *testing.T, page, authorize string, with ...string) string {
	t.Helper()
	q := url.Values{}
	for _, field := range regexp.MustCompile(`type="hidden" name="([^"]*)" value="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		q.Set(field[1], html.UnescapeString(field[2]))
	}
	if len(q) == 0 {
		t.Fatalf("no form in\n%s", page)
	}
	for i := 0; i < len(with); i += 2 {
		q.Set(with[i], with[i+1])
	}
	return authorize + "?" + q.Encode()
}

// connects goes through consent in the browser.
func connects(t *testing.T, client *http.Client, connect, authorize, tenant string) {
	t.Helper()
	status, page := get(t, client, connect)
	if status != 200 {
		t.Fatalf("consent: %d %s", status, page)
	}
	if status, text := get(t, client, presses(t, page, authorize, "login_hint", tenant)); status != 200 || text != tenant+" is connected" {
		t.Fatalf("callback: %d %s", status, text)
	}
}

func TestAWorkerFromConsentToItsEnd(t *testing.T) {
	t.Parallel()
	p := startWorker(t, "ledger", nil)
	client := browser(t)
	webhook, expire := p.address(t, "webhook"), p.address(t, "expire")
	fake := strings.TrimSuffix(p.address(t, "ledger"), "/control/ledger")

	if status, text := post(t, client, webhook, `{"tenant":"acme"}`); status != 200 || text != "the customer must connect first" {
		t.Errorf("a tenant who has not connected: %d %s", status, text)
	}
	connects(t, client, p.address(t, "connect"), fake+"/authorize", "acme")
	call := func(when string) {
		t.Helper()
		if status, text := post(t, client, webhook, `{"tenant":"acme"}`); status != 200 || text != `{"tenant":"acme"}` {
			t.Errorf("%s: %d %s", when, status, text)
		}
	}
	call("connected")
	if status, text := post(t, client, expire, ""); status != http.StatusNoContent {
		t.Fatalf("expire: %d %s", status, text)
	}
	call("with an expired token")
	call("with the new token")
	if _, ledger := get(t, client, fake+"/control/ledger"); strings.Count(ledger, `"outcome": "rotated"`) != 1 || strings.Contains(ledger, `"violation": true`) {
		t.Errorf("want one refresh in the ledger: %s", ledger)
	}
	if status, text := get(t, client, strings.Replace(webhook, "/webhook", "/healthz", 1)); status != 200 || text != `{"status":"ok","ready":true}` {
		t.Errorf("healthz: %d %s", status, text)
	}
	if status, text := get(t, client, strings.Replace(webhook, "/webhook", "/metrics", 1)); status != 200 || !strings.Contains(text, `tokenlatch_exchanges_total{app="zoom",outcome="refreshed"} 1`) || strings.Contains(text, "acme") {
		t.Errorf("metrics: %d %s", status, text)
	}
	p.ends(t)
}

func TestOnlyAConsentThatThisBrowserBeganIsTaken(t *testing.T) {
	t.Parallel()
	p := startWorker(t, "ledger", nil)
	connect := p.address(t, "connect")
	callback := strings.Replace(connect, "/connect", "/callback", 1)
	authorize := strings.Replace(p.address(t, "ledger"), "/control/ledger", "/authorize", 1)
	client := browser(t)
	_, page := get(t, client, connect)
	stranger := browser(t)
	for why, address := range map[string]string{
		"no state":        callback + "?code=x",
		"an empty state":  callback + "?code=x&state=",
		"a guessed state": callback + "?code=x&state=guess",
	} {
		for _, c := range []*http.Client{client, stranger} {
			if status, text := get(t, c, address); status != http.StatusBadRequest {
				t.Errorf("%s: %d %s", why, status, text)
			}
		}
	}
	if status, text := get(t, stranger, presses(t, page, authorize, "login_hint", "acme")); status != http.StatusBadRequest {
		t.Errorf("another browser: %d %s", status, text)
	}
	if status, text := get(t, client, presses(t, page, authorize, "deny", "1")); status != http.StatusForbidden || !strings.Contains(text, "access_denied") {
		t.Errorf("the admin says no: %d %s", status, text)
	}
	if status, text := get(t, client, presses(t, page, authorize, "login_hint", "acme", "code_challenge", strings.Repeat("x", 43))); status != http.StatusBadGateway {
		t.Errorf("a code for another verifier: %d %s", status, text)
	}
	if status, text := post(t, client, p.address(t, "webhook"), `{"tenant":"acme"}`); text != "the customer must connect first" {
		t.Errorf("somebody is connected: %d %s", status, text)
	}
	p.ends(t)
}

func TestWorkersOnARealRedisShareWhatOneOfThemRefreshes(t *testing.T) {
	t.Parallel()
	server := refreshtest.Start(t, refreshtest.Config{Profile: provider.Okta(), ClientSecret: "hush-hush", TokenPrefix: "canary-"})
	rs := redistest.Own(t)
	keyset, err := seal.Generate()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keyset.json")
	if err := os.WriteFile(file, keyset, 0o600); err != nil {
		t.Fatal(err)
	}
	var workers []*process
	for range 2 {
		workers = append(workers, startWorker(t, "webhook", []string{"REDIS_URL=redis://" + rs.Addr(), "CLIENT_SECRET=hush-hush"},
			"-keyset", file, "-provider", "okta", "-auth-url", server.AuthURL(), "-token-url", server.TokenURL(),
			"-client-id", "client", "-api", server.APIURL()+"users/me"))
	}
	client := browser(t)
	connects(t, client, workers[0].address(t, "connect"), server.AuthURL(), "acme")
	for range 2 {
		for i, p := range workers {
			if status, text := post(t, client, p.address(t, "webhook"), `{"tenant":"acme"}`); status != 200 || text != `{"tenant":"acme"}` {
				t.Errorf("worker %d: %d %s", i, status, text)
			}
		}
		server.ExpireAccessTokens("acme")
	}
	if l := server.Ledger(); len(l) != 1 || l[0].Outcome != refreshtest.Rotated {
		t.Errorf("want one refresh for both:\n%v", l)
	}
	secret, err := rs.Client(t).Get(t.Context(), "tl:{okta:acme}:secret").Result()
	if err != nil || strings.Contains(secret, "canary-") {
		t.Errorf("the pair in Redis is not there, or not sealed: %v", err)
	}
	_ = server.Close() // and with it the idle connections, which may outlive the coordinator
	for _, p := range workers {
		p.ends(t)
		if strings.Contains(p.stderr.String()+p.printed, "canary-") || strings.Contains(p.stderr.String()+p.printed, "hush-hush") {
			t.Errorf("secrets in what it prints:\n%s%s", p.printed, &p.stderr)
		}
	}
}

// A webhook that waits for a refresh when the process is told to end.
func TestAWebhookUnderWayIsAnsweredBeforeTheEnd(t *testing.T) {
	t.Setenv("REDIS_URL", "")
	t.Setenv("CLIENT_SECRET", "")
	cfg, err := configure([]string{"-listen", "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	fake := cfg.fake
	said, out := io.Pipe()
	cfg.out = out
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, cfg, zerolog.Nop()) }()
	printed, _ := until(said, "ledger")
	p := &process{printed: printed}
	webhook := p.address(t, "webhook")
	client := browser(t)
	connects(t, client, p.address(t, "connect"), fake.AuthURL(), "acme")
	fake.ExpireAccessTokens("acme")

	gate := fake.Hold(refreshtest.AfterCommit)
	answered := make(chan string, 1)
	go func() {
		resp, err := client.Post(webhook, "application/json", strings.NewReader(`{"tenant":"acme"}`))
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answered <- string(body)
	}()
	gate.Await(t)
	stop()
	await(t, func() bool { return !dials(webhook) }) // no new webhook is taken
	select {
	case err := <-ended:
		t.Fatalf("it has ended, its webhook has not: %v", err)
	default:
	}
	gate.Release()
	if text := <-answered; strings.TrimSpace(text) != `{"tenant":"acme"}` {
		t.Errorf("the webhook got %q", text)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestHealthzSaysThatItIsStoppingForAsLongAsTheDrain(t *testing.T) {
	t.Parallel()
	p := startWorker(t, "ledger", nil, "-drain", "10s") // of which a busy machine may need some until it is asked
	client := browser(t)
	healthz := strings.Replace(p.address(t, "webhook"), "/webhook", "/healthz", 1)
	if status, text := get(t, client, healthz); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	_ = p.Process.Signal(syscall.SIGTERM)
	await(t, func() bool {
		status, _ := get(t, client, healthz)
		return status == http.StatusServiceUnavailable
	})
	_ = p.Wait()
	if code := p.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
}

func dials(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	conn, err := net.Dial("tcp", u.Host)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestTheRightsThatRealUseLacksAreNamed(t *testing.T) {
	for name, tt := range map[string]struct {
		redis, secret string
		args          []string
		want          string
	}{
		"a provider by half":     {args: []string{"-token-url", "https://p.example/token"}, want: "-auth-url"},
		"a provider, no secret":  {args: []string{"-auth-url", "https://p/a", "-token-url", "https://p/t", "-client-id", "c", "-api", "https://p/me"}, want: "$CLIENT_SECRET"},
		"a provider, no Redis":   {secret: "s", args: []string{"-auth-url", "https://p/a", "-token-url", "https://p/t", "-client-id", "c", "-api", "https://p/me"}, want: "$REDIS_URL"},
		"Redis without a keyset": {redis: "redis://127.0.0.1:1", want: "-keyset"},
		"no such keyset":         {redis: "redis://127.0.0.1:1", args: []string{"-keyset", "/no/such/file"}, want: "no such file"},
		"a keyset, no Redis":     {args: []string{"-keyset", "/no/such/file"}, want: "$REDIS_URL"},
		"a provider's name":      {args: []string{"-provider", "zomm"}, want: "-provider"},
	} {
		t.Setenv("REDIS_URL", tt.redis)
		t.Setenv("CLIENT_SECRET", tt.secret)
		if _, err := configure(tt.args); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
