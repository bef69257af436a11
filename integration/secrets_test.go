package integration

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

// canary starts every token and the client secret: where it shows, one has leaked.
const canary = "canary7d1f"

// watcher writes down every command that Redis executes, with its arguments, those in
// scripts and their PUBLISH included, and every message that a subscriber gets.
type watcher struct {
	mu       sync.Mutex // guards what follows
	commands strings.Builder
	messages strings.Builder
}

func watch(t *testing.T, f *fleet) *watcher {
	t.Helper()
	w := &watcher{}
	conn, err := net.Dial("tcp", f.redis.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ps := f.rdb.PSubscribe(ctx, f.setup.Prefix+"*")
	if _, err := ps.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		for lines := bufio.NewReader(conn); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			w.note(&w.commands, line)
		}
	})
	readers.Go(func() {
		for m := range ps.Channel() {
			w.note(&w.messages, m.Channel+" "+m.Payload+"\n")
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = ps.Close()
		_ = conn.Close()
		readers.Wait()
	})
	return w
}

func (w *watcher) note(to *strings.Builder, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	to.WriteString(text)
}

func (w *watcher) seen() (commands, messages string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.commands.String(), w.messages.String()
}

// The places in which a secret could show.
type places struct{ keys, commands, messages, logs, errors string }

func TestSecretsShowNowhere(t *testing.T) {
	t.Parallel()
	keyset, err := seal.Generate()
	if err != nil {
		t.Fatal(err)
	}
	p := eventfulLife(t, string(keyset))
	for name, text := range map[string]string{
		"keys": p.keys, "commands": p.commands, "messages": p.messages, "logs": p.logs, "errors": p.errors,
	} {
		if len(text) == 0 {
			t.Errorf("nothing was seen of the %s", name)
		}
		if at := strings.Index(text, canary); at >= 0 {
			t.Errorf("a secret shows in the %s: …%q…", name, text[max(0, at-60):min(len(text), at+60)])
		}
	}
}

// The control of the test above: without a keyset the tokens do show where the sealed
// pair stands, and only there.
func TestPlaintextShowsTheTokensWhereTheSealWouldBe(t *testing.T) {
	t.Parallel()
	p := eventfulLife(t, "")
	for name, text := range map[string]string{"keys": p.keys, "commands": p.commands, "messages": p.messages} {
		if !strings.Contains(text, canary) {
			t.Errorf("no token shows in the %s: the search finds nothing", name)
		}
	}
	if strings.Contains(p.logs+p.errors, canary) {
		t.Error("a secret shows in logs or errors")
	}
}

// eventfulLife lets a grant go through success, each kind of failure, repair and loss,
// and returns what could be seen of it.
func eventfulLife(t *testing.T, keyset string) places {
	t.Helper()
	f := newFleet(t, redistest.Own(t), refreshtest.Config{
		TokenPrefix: canary, ClientSecret: canary + "secret",
		Profile: provider.Profile{Replay: provider.ReplayGrace, Grace: time.Minute},
	}, func(s *setup) {
		s.Keyset = keyset
		s.Lease, s.Exchange, s.Claim = 2*time.Second, 2*time.Second, 3*time.Second
	})
	w := watch(t, f)
	workers := f.workers(3)
	total := report{Tokens: map[string]int{}, Errors: map[string]int{}}
	all := func(name string) {
		r := herd(workers, name, 3)
		total.add(r)
		for _, tok := range r.Texts {
			t.Log(tok)
		}
	}
	fault := func(name string, step refreshtest.Step) {
		f.connect(name)
		step.Tenant, step.Times = name, -1
		f.server.Script(step)
		all(name)
	}
	f.connect("good")
	all("good")
	leak := `{"error":"invalid_request","error_description":"bad ` + canary + `","access_token_hint":"` + canary + `"}`
	fault("echo", refreshtest.Step{Status: http.StatusBadRequest, Body: leak})
	fault("teapot", refreshtest.Step{Status: http.StatusTeapot, Body: leak})
	fault("html", refreshtest.Step{Status: http.StatusOK, Body: "<html>" + canary})
	fault("wrapped", refreshtest.Step{At: refreshtest.AfterCommit, Status: http.StatusOK, Body: `{"app":{"access_token":"` + canary + `"},"user":{"access_token":"` + canary + `2"}}`})
	fault("code", refreshtest.Step{Status: http.StatusBadRequest, Body: `{"error":"` + canary + `"}`})
	fault("drop", refreshtest.Step{At: refreshtest.AfterCommit, Fault: refreshtest.Drop})
	fault("torn", refreshtest.Step{At: refreshtest.AfterCommit, Fault: refreshtest.Truncate})
	f.connect("revoked")
	f.server.Revoke("revoked")
	all("revoked")
	total.add(f.spared(workers))
	f.connect("gone")
	all("gone")
	if err := f.ops.Disconnect(f.ctx(), "gone"); err != nil {
		t.Fatal(err)
	}
	all("gone")

	stranger := f.stranger()
	all("never")
	total.add(stranger.token("good", 3).report())
	p := places{keys: redistest.Dump(t, f.rdb, "*")}
	f.rdb.FlushAll(f.ctx())
	total.add(workers[0].do(order{Op: "refresh", Tenant: "good", Callers: 3}))
	// Last, since it opens the app's circuit.
	fault("away", refreshtest.Step{Status: http.StatusFound, Header: http.Header{"Location": {"/" + canary}}})
	p.keys += redistest.Dump(t, f.rdb, "*")
	if !strings.Contains(p.keys, ":secret (string)") || !strings.Contains(p.keys, ":spare (string)") || !strings.Contains(p.keys, ":unread (list)") {
		t.Error("no sealed pair, no spare, or no unread answer is stored: the story is not what it should be")
	}
	for _, one := range append(workers, stranger) {
		one.close()
		p.logs += one.log.String()
	}
	p.commands, p.messages = w.seen()
	p.errors = strings.Join(total.Texts, "\n")
	return p
}

// spared stops a holder until its pair is one too many, which is kept as spare.
func (f *fleet) spared(workers []*process) report {
	f.t.Helper()
	f.connect("spare")
	workers[0].arm(afterAnswer)
	own := workers[0].token("spare", 3)
	workers[0].awaitPoint(afterAnswer)
	workers[0].stop()
	r := herd(workers[1:], "spare", 3)
	f.served(r, 2*3)
	workers[0].cont()
	workers[0].release()
	r.add(own.report())
	return r
}

// stranger is a worker with another keyset and a wrong client secret.
func (f *fleet) stranger() *process {
	f.t.Helper()
	mine := f.setup
	defer func() { f.setup = mine }()
	keyset, err := seal.Generate()
	if err != nil {
		f.t.Fatal(err)
	}
	f.setup.Keyset, f.setup.ClientSecret = string(keyset), canary+"wrong"
	return f.worker()
}
