// Package fleet is what Redis says of the whole fleet, as Prometheus metrics: one of several exporters scans, which
// has a lease for that; the others stand by.
package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// found is what one scan has found.
type found struct {
	at     time.Time // by this machine's clock, as Prometheus has it
	took   time.Duration
	apps   map[string]*app
	checks map[string]int
}

// app is what a scan has found of one app. It knows no tenant.
type app struct {
	states    map[string]int64 // grants, by oncall's states
	overdue   int64
	oldest    time.Duration // of the unresolved claims
	open      bool          // the circuit
	hosts     int           // that refuse the client, or want a pause
	pausedTo  time.Time     // by Redis' clock
	reauthDue map[string]int64
}

// withins are how far ahead a consent's fixed end is counted, by their label.
var withins = []struct {
	label string
	d     time.Duration
}{{"24h", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}, {"30d", 30 * 24 * time.Hour}}

func newApp() *app {
	a := &app{states: map[string]int64{}, reauthDue: map[string]int64{}}
	for _, state := range oncall.States {
		a.states[state] = 0
	}
	for _, w := range withins {
		a.reauthDue[w.label] = 0
	}
	return a
}

// scan reads the whole fleet. It returns nothing rather than a part: half of the grants look like a fleet that
// has shrunk.
func scan(ctx context.Context, in *inspect.Inspector) (*found, error) {
	start := time.Now()
	f := &found{apps: map[string]*app{}}
	for row, err := range in.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		f.app(row.App).count(&row)
	}
	for name, err := range in.Apps(ctx) {
		if err != nil {
			return nil, err
		}
		f.app(name)
	}
	for name, a := range f.apps {
		if err := a.look(ctx, in, name); err != nil {
			return nil, err
		}
	}
	f.at, f.took = time.Now(), time.Since(start)
	return f, ctx.Err()
}

func (f *found) app(name string) *app {
	if f.apps[name] == nil {
		f.apps[name] = newApp()
	}
	return f.apps[name]
}

// count counts one grant.
func (a *app) count(row *inspect.Row) {
	a.states[oncall.Look(row).State]++
	r := &row.Record
	if row.Err != nil || r.State != grant.Active {
		return
	}
	if r.Claim.Unresolved() {
		a.oldest = max(a.oldest, time.Duration(row.Now-r.Claim.At)*time.Millisecond)
	}
	for _, w := range withins {
		if r.WarnedAt != 0 && r.RefreshTokenExpiresAt-row.Now <= w.d.Milliseconds() {
			a.reauthDue[w.label]++
		}
	}
}

// look reads what Redis has of the app as a whole.
func (a *app) look(ctx context.Context, in *inspect.Inspector, name string) error {
	due, err := in.Due(ctx, name)
	if err != nil {
		return err
	}
	a.overdue = due.Overdue
	state, err := in.App(ctx, name)
	switch {
	case errors.Is(err, grant.ErrNone):
		return nil
	case err != nil:
		return err
	}
	a.open = state.Open
	a.hosts = len(state.HostsWhere(func(h *engine.AppState) bool { return h.Open || h.ThrottledUntil > state.Now() }))
	if state.ThrottledUntil > state.Now() {
		a.pausedTo = grant.Time(state.ThrottledUntil)
	}
	return nil
}
