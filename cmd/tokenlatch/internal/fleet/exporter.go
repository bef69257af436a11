package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// Config of an Exporter.
type Config struct {
	Inspector *inspect.Inspector
	// Checks examines Redis: 0 ok, 1 warning, 2 failure, by the check's id. Nil: nothing is examined.
	Checks func(ctx context.Context) map[string]int
	// Locker and Key are the lease of the exporter that scans; no Locker: this one does, whoever else may.
	Locker *lock.Locker
	Key    string
	Every  time.Duration // from one scan to the next
	// Tell is told of what people should know: a scan that failed, a change of who scans.
	Tell func(text string, err error)
}

// Exporter scans, and tells Prometheus. It is safe for concurrent use.
type Exporter struct {
	Config

	mu       sync.Mutex // guards what follows
	leads    bool
	found    *found // by the last scan; nil for none
	failures int
}

// New returns an Exporter, which does nothing before Run or Once.
func New(cfg Config) *Exporter { return &Exporter{Config: cfg} }

// Once scans once, without a lease.
func (e *Exporter) Once(ctx context.Context) error {
	e.lead(true)
	return e.scan(ctx)
}

// Run scans at its turns until ctx ends. The lease is held for as long as the process lives: the exporter that
// waits for it longest is not next, whichever asks first is.
func (e *Exporter) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if e.Locker == nil {
			e.turn(ctx)
			break
		}
		lease, err := e.Locker.Try(ctx, e.Key)
		if err == nil {
			e.hold(ctx, lease)
			err = lease.Release(ctx)
		}
		if err != nil && !errors.Is(err, lock.ErrHeld) && !errors.Is(err, lock.ErrLost) && ctx.Err() == nil {
			e.Tell("the lease of the exporters is not to be had", err)
		}
		pause(ctx, e.Locker.TTL()/2)
	}
	return context.Cause(ctx)
}

// hold scans until ctx ends or the lease is lost.
func (e *Exporter) hold(ctx context.Context, lease *lock.Lease) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(lease.Context(), cancel)()
	e.turn(ctx)
	e.Tell("this exporter scans no more", nil)
}

// turn scans until ctx ends.
func (e *Exporter) turn(ctx context.Context) {
	e.lead(true)
	defer e.lead(false)
	e.Tell("this exporter scans", nil)
	for ctx.Err() == nil {
		if err := e.scan(ctx); err != nil && ctx.Err() == nil {
			e.Tell("a scan failed; what is told is that of the one before", err)
		}
		pause(ctx, e.Every)
	}
}

func (e *Exporter) scan(ctx context.Context) error {
	f, err := scan(ctx, e.Inspector)
	if err == nil && e.Checks != nil {
		f.checks = e.Checks(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.failures++
		return err
	}
	e.found = f
	return nil
}

// lead notes whether this exporter has the lease. What it has found is old without it.
func (e *Exporter) lead(does bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leads, e.found = does, nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
