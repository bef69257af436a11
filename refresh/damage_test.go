package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// everything calls what callers call about a tenant, each for two seconds at most, and asserts
// that it answers in words or works.
func (f *fleet) everything(w *worker, tenant, what string) {
	f.t.Helper()
	for name, call := range map[string]func(context.Context) error{
		"Token":    func(ctx context.Context) error { _, err := w.Token(ctx, tenant); return err },
		"TryToken": func(ctx context.Context) error { _, err := w.TryToken(ctx, tenant); return err },
		"Refresh":  func(ctx context.Context) error { return w.Refresh(ctx, tenant) },
		"Reject":   func(ctx context.Context) error { return w.Reject(ctx, tenant, "refused") },
		"Status":   func(ctx context.Context) error { _, err := w.Status(ctx, tenant); return err },
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err := call(ctx)
		left := ctx.Err() != nil
		cancel()
		var e *refresh.Error
		if err != nil && !left && !errors.As(err, &e) {
			f.t.Errorf("%s: %s: no *refresh.Error: %v", what, name, err)
		}
		if err != nil && len(err.Error()) > 600 {
			f.t.Errorf("%s: %s: an error of %d bytes", what, name, len(err.Error()))
		}
	}
}

// healed asserts that a new consent makes a tenant's grant whole.
func (f *fleet) healed(w *worker, tenant, what string) {
	f.t.Helper()
	if err := w.Connect(f.ctx(), tenant, f.server.Grant(tenant)); err != nil {
		f.t.Errorf("%s: Connect: %v", what, err)
		return
	}
	if _, err := w.Token(f.ctx(), tenant); err != nil {
		f.t.Errorf("%s: Token after Connect: %v", what, err)
	}
	if err := w.Refresh(f.ctx(), tenant); err != nil {
		f.t.Errorf("%s: Refresh after Connect: %v", what, err)
	}
	f.living(w, tenant)
}

// Whoever may write to Redis can damage a record. That must cost no more than its tenant's
// consent: no spent token, no spinning, and a consent heals it.
func TestADamagedRecordCostsLittleAndAConsentHealsIt(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.lease = 20 * time.Second // its requests may take a quarter of that, on a busy machine
	f.redis = redistest.Own(t)
	root := f.redis.Client(t)
	maker := f.worker()
	names := []string{
		"v", "gen", "epoch", "rev", "state", "reason", "issued_at", "expires_at", "refresh_at", "rt_expires_at", "used_at", "warned_at",
		"at_fp", "rt_fp", "by", "commit_id", "claim_id", "claim_by", "claim_at", "claim_until", "claim_prior", "claim_n", "fails", "retry_at",
		"error", "error_at", "rejects", "reject_at", "rejected_gen", "foreign", "foreign_gen", "consent_id", "consent_fp", "spent", "spare_epoch",
	}
	values := map[string]string{
		"no-number": "abc", "exponent": "1e3", "negative": "-1", "sign": "+5", "huge": "1000000000000000000", "2-53": "9007199254740992",
		"2255": "9000000000000", "empty": "", "100-KB": strings.Repeat("x", 100<<10), "lines": "x\nstate disconnected",
	}
	type damage struct{ tenant, field, value string }
	var all []damage
	for _, name := range names {
		for how, value := range values {
			d := damage{name + "." + how, name, value}
			f.connect(maker, d.tenant, false)
			f.mark(maker, d.tenant, d.field, d.value)
			if err := maker.cache.Grant(key(d.tenant)).Schedule(f.ctx(), 1); err != nil { // Run comes by
				t.Fatal(err)
			}
			all = append(all, d)
		}
	}
	w := f.worker() // remembers none of it
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var run sync.WaitGroup
	run.Go(func() { _ = w.Run(ctx) })
	each := func(do func(d damage)) {
		var work sync.WaitGroup
		room := make(chan struct{}, 16)
		for _, d := range all {
			room <- struct{}{}
			work.Go(func() { defer func() { <-room }(); do(d) })
		}
		work.Wait()
	}
	var took time.Duration
	calls := redistest.Commands(t, root, func() {
		start := time.Now()
		each(func(d damage) { f.everything(w, d.tenant, d.tenant) })
		took = time.Since(start)
	})
	total := redistest.Total(calls)
	t.Logf("%d damaged records, five calls each: %v, %d commands, %v", len(all), took, total, calls)
	if most := 100 * len(all); total > most {
		t.Errorf("more than %d commands: %v", most, calls)
	}
	if v := f.server.Ledger().Violations(f.profile); len(v) > 0 {
		t.Errorf("spent tokens were presented:\n%s", v)
	}
	each(func(d damage) { f.healed(w, d.tenant, d.tenant) })
	cancel()
	run.Wait()
}

func TestKeysOfAnotherTypeCostLittleAndAConsentHealsThem(t *testing.T) {
	t.Parallel()
	for of, name := range map[string]string{
		"grant": ":{zoom:acme}:grant", "secret": ":{zoom:acme}:secret", "spare": ":{zoom:acme}:spare", "journal": ":{zoom:acme}:journal",
		"lock": ":{zoom:acme}:lock", "app": ":app:zoom", "proof": ":proof", "masters": ":masters", "due": ":due:zoom:*",
	} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			f.lease = 20 * time.Second
			f.redis = redistest.Own(t)
			root := f.redis.Client(t)
			f.connect(f.worker(), "acme", true)
			spoil := []string{f.prefix + name}
			if of == "due" {
				spoil = nil
				for shard := range 16 {
					spoil = append(spoil, fmt.Sprintf("%s:due:zoom:%02d", f.prefix, shard))
				}
			}
			for _, k := range spoil {
				root.Del(t.Context(), k)
				if err := root.LPush(t.Context(), k, "x").Err(); err != nil {
					t.Fatal(err)
				}
				if of == "grant" || of == "journal" || of == "due" || of == "app" {
					root.Del(t.Context(), k)
					root.Set(t.Context(), k, "x", 0)
				}
			}
			w := f.worker()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var run sync.WaitGroup
			run.Go(func() { _ = w.Run(ctx) })
			var took time.Duration
			calls := redistest.Commands(t, root, func() {
				start := time.Now()
				f.everything(w, "acme", of)
				time.Sleep(max(0, 2*time.Second-time.Since(start)))
				took = time.Since(start)
			})
			t.Logf("%v: %d commands %v", took, redistest.Total(calls), calls)
			if total, most := redistest.Total(calls), 150*(int(took/time.Second)+1); total > most {
				t.Errorf("%d commands in %v: %v", total, took, calls)
			}
			if v := f.server.Ledger().Violations(f.profile); len(v) > 0 {
				t.Errorf("spent tokens were presented:\n%s", v)
			}
			if of == "lock" {
				err := w.Refresh(f.ctx(), "acme")
				if err == nil || !strings.Contains(err.Error(), f.prefix+name) || !strings.Contains(err.Error(), "delete") {
					t.Errorf("the error does not say which key to delete: %v", err)
				}
				root.Del(t.Context(), spoil[0])
			}
			if of == "app" {
				root.Del(t.Context(), spoil[0])
			}
			f.healed(w, "acme", of)
			cancel()
			run.Wait()
		})
	}
}
