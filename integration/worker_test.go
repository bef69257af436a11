package integration

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

const app = "zoom"

// hung is how long a caller in a worker waits before it counts as hanging.
const hung = 60 * time.Second

// worker is what runs in a worker process.
type worker struct {
	*refresh.Coordinator
	rdb   *redis.Client
	cache *tokencache.Cache
	seam  *seam

	endpoint *provider.TokenEndpoint

	log  io.Writer
	bare signals

	mu      sync.Mutex // guards what follows
	out     *json.Encoder
	cancels map[int]context.CancelFunc
}

// workerMain is main of a worker. It ends with its stdin.
func workerMain() int {
	zerolog.TimeFieldFormat = zerolog.TimeFormatUnixMicro
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	w := &worker{log: os.Stderr, out: json.NewEncoder(os.Stdout), cancels: map[int]context.CancelFunc{}}
	var cfg setup
	if !in.Scan() || json.Unmarshal(in.Bytes(), &cfg) != nil {
		fmt.Fprintln(os.Stderr, "worker: no setup on stdin")
		return 2
	}
	if err := w.start(cfg); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 2
	}
	w.say(answer{At: "started"})
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			return 2
		}
		if o.Op == "close" {
			return w.close(o)
		}
		go w.carryOut(w.begin(o), o)
	}
	return 0
}

func (w *worker) start(cfg setup) error {
	w.seam = newSeam(w.say)
	w.rdb = dial(cfg)
	w.rdb.AddHook(w.seam)
	log := zerolog.New(w.log).With().Timestamp().Str("worker", cfg.Name).Logger()
	if cfg.Quiet {
		log = zerolog.Nop()
	}
	aead := tokencache.Plaintext
	if cfg.Keyset != "" {
		var err error
		if aead, err = seal.FromJSON([]byte(cfg.Keyset)); err != nil {
			return err
		}
	}
	var err error
	if w.cache, err = tokencache.New(w.rdb, tokencache.Config{Prefix: cfg.Prefix, AEAD: aead, Log: log}); err != nil {
		return err
	}
	p, err := provider.OAuth2(&oauth2.Config{
		ClientID: cfg.ClientID, ClientSecret: cfg.ClientSecret,
		Endpoint: oauth2.Endpoint{TokenURL: cfg.TokenURL, AuthStyle: oauth2.AuthStyle(cfg.AuthStyle)},
	}, cfg.Profile)
	if err != nil {
		return err
	}
	w.endpoint = p.Exchanger.(*provider.TokenEndpoint)
	w.endpoint.Transport = signed{w.endpoint.Transport, cfg.Name}
	p.Exchanger = tapped{w.endpoint, w.seam}
	w.Coordinator, err = refresh.New(refresh.Config{
		App: app, Cache: w.cache, Provider: p, Log: log,
		Locker:          lock.New(lock.Config{TTL: cfg.Lease, Name: cfg.Name}, w.rdb),
		ExchangeTimeout: cfg.Exchange, ClaimTimeout: cfg.Claim, CommitPatience: cfg.Patience, Replicas: cfg.Replicas,
	})
	return err
}

// dial returns a client of the server, or of the one that the Sentinel names, by way of the proxies.
func dial(cfg setup) *redis.Client {
	dialer := func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, cmp.Or(cfg.Routes[addr], addr))
	}
	if cfg.Sentinel != "" {
		return redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: redistest.MasterName, SentinelAddrs: []string{cfg.Sentinel}, Dialer: dialer,
		})
	}
	opts := &redis.Options{Addr: cfg.Redis}
	if len(cfg.Routes) > 0 {
		opts.Dialer = dialer
	}
	return redis.NewClient(opts)
}

func (w *worker) say(a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.out.Encode(a) // a parent that is gone takes us with it
}

// begin makes the ctx of an order, before the next one can cancel it.
func (w *worker) begin(o order) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(o.Patience, hung))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancels[o.ID] = cancel
	return ctx
}

func (w *worker) cancel(id int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancels[id]()
}

func (w *worker) cancelAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, cancel := range w.cancels {
		cancel()
	}
}

func (w *worker) carryOut(ctx context.Context, o order) {
	defer w.cancel(o.ID)
	got, err := w.obey(ctx, o)
	a := answer{ID: o.ID, Report: got}
	if err != nil {
		a.Failed = err.Error()
	}
	w.say(a)
}

// obey carries out one order.
func (w *worker) obey(ctx context.Context, o order) (report, error) {
	switch o.Op {
	case "token":
		return many(ctx, o.Callers, func(ctx context.Context) (*oauth2.Token, error) { return w.Token(ctx, o.Tenant) }), nil
	case "try":
		return many(ctx, o.Callers, func(ctx context.Context) (*oauth2.Token, error) { return w.TryToken(ctx, o.Tenant) }), nil
	case "connect":
		return many(ctx, 1, func(ctx context.Context) (*oauth2.Token, error) { return nil, w.Connect(ctx, o.Tenant, o.Pair) }), nil
	case "disconnect":
		return many(ctx, 1, func(ctx context.Context) (*oauth2.Token, error) { return nil, w.Disconnect(ctx, o.Tenant) }), nil
	case "import":
		return w.imports(ctx, o)
	case "refresh":
		return many(ctx, o.Callers, func(ctx context.Context) (*oauth2.Token, error) { return nil, w.Refresh(ctx, o.Tenant) }), nil
	case "wait":
		return w.wait(ctx, o), nil
	case "listen":
		return report{}, w.bare.listen(ctx, w.rdb.Options().Addr, o.Channel)
	case "ready":
		return w.ready(ctx, o), nil
	case "signal":
		return w.bare.signal(ctx, o)
	case "call":
		return w.call(ctx, o), nil
	case "reject":
		return w.reject(ctx, o), nil
	case "warm":
		return report{}, w.warm(ctx, o)
	case "knows":
		return report{}, w.knows(ctx, o)
	case "cancel":
		w.cancel(o.Ref)
		return report{}, nil
	case "arm":
		w.seam.arm(o.Point)
		return report{}, nil
	case "go":
		w.seam.release()
		return report{}, nil
	case "run":
		return report{}, w.Run(ctx)
	case "drain":
		return report{}, w.Close(ctx)
	case "rest":
		return report{}, w.rest(ctx)
	case "counts":
		return w.seam.counted(), nil
	}
	return report{}, fmt.Errorf("unknown order %q", o.Op)
}

// rest waits until the worker has done what it does at its start.
func (w *worker) rest(ctx context.Context) error {
	select {
	case <-w.seam.rested:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// result is what one caller got.
type result struct {
	token      *oauth2.Token
	err        error
	start, end time.Time
}

// many lets n callers call at once.
func many(ctx context.Context, n int, call func(context.Context) (*oauth2.Token, error)) report {
	return crowd(ctx, n, func() {}, call)
}

// crowd lets n callers get ready, and call then, each with a ctx of its own.
func crowd(ctx context.Context, n int, ready func(), call func(context.Context) (*oauth2.Token, error)) report {
	results := make([]result, n)
	var callers sync.WaitGroup
	for i := range results {
		callers.Go(func() {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			ready()
			start := time.Now()
			token, err := call(ctx)
			results[i] = result{token, err, start, time.Now()}
		})
	}
	callers.Wait()
	return reported(results)
}

func reported(results []result) report {
	r := report{Tokens: map[string]int{}, Errors: map[string]int{}, Took: make([]time.Duration, len(results))}
	texts := map[string]bool{}
	tokens := map[string]int{} // a digest for every caller would disturb processes that are still at work
	for i, one := range results {
		r.Took[i] = one.end.Sub(one.start)
		if one.end.After(r.Last) {
			r.Last = one.end
		}
		switch {
		case one.err != nil:
			r.failure(one.err)
			texts[one.err.Error()] = true
		case one.token != nil:
			tokens[one.token.AccessToken]++
		default:
			r.Tokens[""]++
		}
	}
	for token, callers := range tokens {
		r.Tokens[tokencache.Fingerprint(token)] = callers
	}
	for text := range texts {
		r.Texts = append(r.Texts, text)
	}
	return r
}

func (r *report) failure(err error) {
	r.Errors[kindOf(err)]++
	var e *refresh.Error
	if errors.As(err, &e) {
		if r.RetryMin == 0 || e.RetryAfter < r.RetryMin {
			r.RetryMin = e.RetryAfter
		}
		r.RetryMax = max(r.RetryMax, e.RetryAfter)
	}
}

// kinds are in order: an error of the provider may well have a deadline as its cause.
var kinds = []struct {
	name string
	is   error
}{
	{"reauthorize", refresh.ErrReauthorize},
	{"client_config", refresh.ErrClientConfig},
	{"pending", refresh.ErrPending},
	{"unavailable", refresh.ErrUnavailable},
	{"not_connected", refresh.ErrNotConnected},
	{"canceled", context.Canceled},
	{"hung", context.DeadlineExceeded},
}

// kindOf names an error for the report: kind/code.
func kindOf(err error) string {
	var e *refresh.Error
	code := ""
	if errors.As(err, &e) {
		code = e.Code
	}
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			return k.name + "/" + code
		}
	}
	return "untyped: " + err.Error()
}

// warm asks for tokens until the grant is in memory, of that generation at least, and
// the process subscribed to its events.
func (w *worker) warm(ctx context.Context, o order) error {
	for {
		if _, err := w.Token(ctx, o.Tenant); err != nil {
			return err
		}
		s := w.cache.Grant(tokencache.Key{App: app, Tenant: o.Tenant}).Peek()
		if s != nil && s.Generation >= o.Generation {
			// A process learns these two by itself, in the background: perhaps not before a storm.
			_, _, _, err := w.cache.Grant(s.Key).MayHaveLost(ctx, s)
			return errors.Join(err, w.cache.App(app).WatchApp(ctx))
		}
		time.Sleep(time.Millisecond)
	}
}

// knows returns once the process has heard of a consent, without asking Redis.
func (w *worker) knows(ctx context.Context, o order) error {
	for {
		s := w.cache.Grant(tokencache.Key{App: app, Tenant: o.Tenant}).Peek()
		if s != nil && s.Epoch >= o.Epoch && s.Generation >= o.Generation {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("the push has not arrived")
		case <-time.After(time.Millisecond):
		}
	}
}

// imports reports what became of an import in Texts.
func (w *worker) imports(ctx context.Context, o order) (report, error) {
	became, err := w.Import(ctx, o.Tenant, o.Pair)
	r := reported([]result{{err: err}})
	if err == nil {
		r.Texts = append(r.Texts, fmt.Sprint(became))
	}
	return r, nil
}

func (w *worker) close(o order) int {
	ctx, cancel := context.WithTimeout(context.Background(), hung)
	defer cancel()
	if o.Tidy {
		w.cancelAll()
	}
	err := w.Close(ctx)
	_ = w.rdb.Close()
	if o.Tidy {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		w.endpoint.CloseIdleConnections()
		err = errors.Join(err, goleak.Find())
	}
	if err != nil {
		w.say(answer{ID: o.ID, Failed: err.Error()})
		return 1
	}
	w.say(answer{ID: o.ID})
	return 0
}
