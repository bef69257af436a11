package refresh

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// unfitRedis is the code of a Redis that an operator must mend, readOnly of one that is a replica just now.
const (
	unfitRedis = "redis_unfit"
	readOnly   = "redis_readonly"
)

// fitness is whether Redis can do what is needed. It is asked once, before the first work: else a right
// that is missing would be found when the first token expires.
type fitness struct {
	fit, thoroughly atomic.Bool

	mu    sync.Mutex // guards what follows
	asked time.Time
	err   error

	said atomic.Pointer[time.Time] // in the log
}

// sayUnfit says at most once a minute what must be mended.
func (c *Coordinator) sayUnfit(err error) {
	now, before := time.Now(), c.fitness.said.Load()
	if (before == nil || now.Sub(*before) >= time.Minute) && c.fitness.said.CompareAndSwap(before, &now) {
		c.log.Error().Err(err).Str("process", c.locker.Name()).Msg("Redis, or what leads to it, must be mended: until then nothing is refreshed")
	}
}

// fitEvery is how often it is asked at most while it is not known.
const fitEvery = time.Second

// ready returns an error if Redis is known to be unfit. What cannot be asked is not known: the calls
// will say it.
func (c *Coordinator) ready(ctx context.Context, k tokencache.Key) error {
	return c.asked(ctx, k, false, &c.fitness.fit)
}

// readyForMore is ready for what begins something, a consent or Run. It costs two commands more.
func (c *Coordinator) readyForMore(ctx context.Context, k tokencache.Key) error {
	return c.asked(ctx, k, true, &c.fitness.thoroughly)
}

func (c *Coordinator) asked(ctx context.Context, k tokencache.Key, thorough bool, fit *atomic.Bool) error {
	f := &c.fitness
	if fit.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if fit.Load() || !f.asked.IsZero() && time.Since(f.asked) < fitEvery {
		return f.err
	}
	err := c.app.Grant(k.Tenant).Fit(ctx, thorough)
	f.asked, f.err = time.Now(), nil
	switch {
	case err == nil:
		f.fit.Store(true)
		fit.Store(true)
	case errors.Is(err, tokencache.ErrUnfit):
		f.err = err
		c.sayUnfit(err)
	}
	return f.err
}

var errSilentEnd = errors.New("the connection to Redis was closed without a word: does its port want TLS, or is it a proxy that knows no HELLO?")

// aboutRedis is the error about a Redis that did not do what was asked.
func (c *Coordinator) aboutRedis(k tokencache.Key, err error) *Error {
	if unfit := engine.Unfit(err); unfit != nil {
		c.sayUnfit(unfit)
		return &Error{App: k.App, Tenant: k.Tenant, Kind: ErrClientConfig, Code: unfitRedis, Err: unfit}
	}
	e := &Error{App: k.App, Tenant: k.Tenant, Kind: ErrUnavailable, RetryAfter: policy.FirstRetry, Err: err}
	switch {
	case redis.HasErrorPrefix(err, "READONLY"):
		e.Code = readOnly
	case !c.fitness.fit.Load() && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		e.Err = errors.Join(errSilentEnd, err)
	}
	return e
}
