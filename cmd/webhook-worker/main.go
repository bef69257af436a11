// Command webhook-worker is an example to copy: a process that receives webhooks and calls the
// provider's API for the tenant of each. This file is the worker: how it begins and ends, how a customer
// connects, how the API is called. config.go has flags, and stand-ins for Redis and provider.
//
//	go run ./cmd/webhook-worker
package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

const (
	requestTimeout = 40 * time.Second  // over refresh.Config.ExchangeTimeout, 30 s: a caller has an answer by then
	closeTimeout   = 100 * time.Second // over ExchangeTimeout + CommitPatience, 90 s: a pair is stored by then
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer context.AfterFunc(ctx, stop)() // a second signal kills, which may cost a consent
	log := zerolog.New(os.Stderr).With().Timestamp().Logger()
	cfg, err := configure(os.Args[1:])
	if err == nil {
		err = run(ctx, cfg, log)
	}
	if err != nil {
		log.Fatal().Err(err).Msg("webhook-worker") // exit code 1
	}
}

// worker holds what the handlers need.
type worker struct {
	config
	tokens   *refresh.Coordinator
	log      zerolog.Logger
	stopping atomic.Bool
}

// run serves until ctx ends.
func run(ctx context.Context, cfg config, log zerolog.Logger) error {
	defer cfg.close()
	rdb := redis.NewClient(cfg.redis)
	defer rdb.Close()
	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: cfg.aead, Log: log})
	if err != nil {
		return err
	}
	p, err := provider.OAuth2(cfg.oauth, cfg.profile)
	if err != nil {
		return err
	}
	tokens, err := refresh.New(refresh.Config{App: cfg.profile.Name, Cache: cache, Provider: p, Log: log, Observer: cfg.metrics})
	if err != nil {
		return err
	}
	w := &worker{config: cfg, tokens: tokens, log: log}
	return w.serve(ctx)
}

func (w *worker) serve(ctx context.Context) error {
	ln, err := net.Listen("tcp", w.listen)
	if err != nil {
		return errors.Join(err, w.tokens.Close(ctx))
	}
	w.introduce(ln.Addr())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /connect", w.connect)
	mux.HandleFunc("GET /callback", w.callback)
	mux.HandleFunc("POST /webhook", w.webhook)
	mux.HandleFunc("GET /healthz", w.healthz)
	mux.Handle("GET /metrics", w.scraped())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	renewing, stopRenewing := context.WithCancel(context.Background())
	renewed := make(chan error, 1)
	go func() { renewed <- w.tokens.Run(renewing) }()

	select {
	case <-ctx.Done():
	case err = <-served: // it cannot listen any more
	}
	return errors.Join(err, w.end(server, func() error { stopRenewing(); return <-renewed }))
}

// end stops the sources of work first, then the coordinator, which finishes the work.
func (w *worker) end(server *http.Server, stopRenewals func() error) error {
	w.stopping.Store(true)
	time.Sleep(w.drain) // the load balancer sends webhooks until it has asked healthz again
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout+time.Second)
	defer cancel()
	err := errors.Join(server.Shutdown(ctx), stopRenewals())
	// Not the ctx that the signal has ended: exchanges under way are finished, and their pairs stored.
	ctx, cancel = context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return errors.Join(err, w.tokens.Close(ctx)) // names each grant whose pair only this process has
}

// connect sends a customer's admin to the provider. State and PKCE verifier stay in the admin's
// browser, so that any worker can take the callback.
func (w *worker) connect(rw http.ResponseWriter, r *http.Request) {
	state, verifier := rand.Text(), oauth2.GenerateVerifier()
	http.SetCookie(rw, &http.Cookie{
		Name: "consent", Value: state + "." + verifier, Path: "/callback", MaxAge: 600,
		HttpOnly: true, Secure: strings.HasPrefix(w.url, "https:"), SameSite: http.SameSiteLaxMode,
	})
	// AccessTypeOffline is how Google is asked for a refresh token; others ignore it.
	http.Redirect(rw, r, w.oauth.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), oauth2.AccessTypeOffline), http.StatusFound)
}

// callback receives the browser that the provider sends back after consent.
func (w *worker) callback(rw http.ResponseWriter, r *http.Request) {
	var state, verifier string
	if cookie, err := r.Cookie("consent"); err == nil {
		state, verifier, _ = strings.Cut(cookie.Value, ".")
	}
	switch {
	case state == "" || subtle.ConstantTimeCompare([]byte(state), []byte(r.FormValue("state"))) != 1:
		http.Error(rw, "this consent was not begun in this browser, or long ago: connect again", http.StatusBadRequest)
		return
	case r.FormValue("error") != "":
		http.Error(rw, "not connected: "+r.FormValue("error"), http.StatusForbidden)
		return
	}
	// The code can be redeemed once: a browser that hangs up must not lose what it brings.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), requestTimeout)
	defer cancel()
	tenant, err := w.store(ctx, r.FormValue("code"), verifier)
	if err != nil {
		w.log.Error().Err(err).Msg("a consent is not stored")
		http.Error(rw, "not connected, try again", http.StatusBadGateway)
		return
	}
	fmt.Fprintf(rw, "%s is connected\n", tenant)
}

// store redeems the code and stores its pair.
func (w *worker) store(ctx context.Context, code, verifier string) (tenant string, err error) {
	tok, err := w.oauth.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok { // its own text may hold secrets
		return "", fmt.Errorf("the provider refuses the code: %q, HTTP %d", refused.ErrorCode, refused.Response.StatusCode)
	}
	if err == nil {
		tenant, err = w.owner(ctx, tok)
	}
	if err != nil {
		return "", err
	}
	err = w.tokens.Connect(ctx, tenant, tok)
	for errors.Is(err, refresh.ErrUnavailable) && ctx.Err() == nil {
		time.Sleep(time.Second) // Redis is away, and no other process knows the pair
		err = w.tokens.Connect(ctx, tenant, tok)
	}
	return tenant, err
}

// owner asks the API which tenant the token belongs to. The browser's word would prove nothing.
func (w *worker) owner(ctx context.Context, tok *oauth2.Token) (string, error) {
	resp, err := w.call(ctx, oauth2.NewClient(ctx, oauth2.StaticTokenSource(tok)))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var who map[string]any
	_ = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&who)
	if tenant, _ := who[w.tenantField].(string); tenant != "" && resp.StatusCode == http.StatusOK {
		return tenant, nil
	}
	return "", fmt.Errorf("the API answers HTTP %d without a text %q: whose token is it?", resp.StatusCode, w.tenantField)
}

// call is the one call of the API that this example makes.
func (w *worker) call(ctx context.Context, client *http.Client) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.api, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// webhook calls the API for the tenant that the webhook is about. If the sender does not wait that
// long, put a job into a queue here, and let the queue's worker make the call.
func (w *worker) webhook(rw http.ResponseWriter, r *http.Request) {
	// First of all, verify the provider's signature here.
	var hook struct{ Tenant string }
	if err := json.NewDecoder(http.MaxBytesReader(rw, r.Body, 1<<20)).Decode(&hook); err != nil || hook.Tenant == "" {
		http.Error(rw, `want {"tenant": "…"}`, http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	resp, err := w.call(ctx, w.tokens.Client(hook.Tenant))
	if err != nil {
		w.fail(rw, err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		http.Error(rw, "the API answers "+resp.Status, http.StatusBadGateway)
		return
	}
	_, _ = io.Copy(rw, resp.Body)
}

// fail tells the sender whether to send the webhook again.
func (w *worker) fail(rw http.ResponseWriter, err error) {
	w.log.Warn().Err(err).Msg("a webhook is not done")
	switch {
	case errors.Is(err, refresh.ErrReauthorize), errors.Is(err, refresh.ErrNotConnected):
		fmt.Fprintln(rw, "the customer must connect first") // 200: to send it again does not help
	case errors.Is(err, refresh.ErrClientConfig): // the operator must act
		http.Error(rw, "misconfigured", http.StatusInternalServerError)
	default: // the provider, Redis or the API, for now
		if e, ok := errors.AsType[*refresh.Error](err); ok {
			rw.Header().Set("Retry-After", fmt.Sprint(1+int(e.RetryAfter.Seconds())))
		}
		http.Error(rw, "try again later", http.StatusServiceUnavailable)
	}
}

// healthz is for a readiness probe. Do not give it to a liveness probe: a restart mends nothing of it.
func (w *worker) healthz(rw http.ResponseWriter, r *http.Request) {
	h := w.tokens.Health(r.Context())
	h.Ready = h.Ready && !w.stopping.Load()
	if !h.Ready {
		rw.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(rw).Encode(h)
}
