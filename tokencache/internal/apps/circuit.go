package apps

import (
	"context"
	"fmt"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Refusal is an exchange that the provider refused as if it refused the client.
type Refusal struct {
	Tenant string // or, for the app, the host if there are several
	Error  string // class/code/status
	// Probe is the probe that the exchange was; empty for none.
	Probe string
	// Tenants is how many different ones, refused in a row, open the circuit.
	Tenants int
	// First says that one is enough if the provider was never seen to accept this app.
	First bool
	// Again says that the tenant was refused before: its probe puts the next one off, but not
	// for longer than the one before.
	Again bool
}

// Trip notes a refusal, which opens the circuit of the app, or of its host, if it is one too many with no acceptance
// in between, or puts the next probe off if it was one. waits are how long after the first,
// second, … refusal in a row that is; the last holds for all that follow. opened says that
// this refusal opened it.
func (app App) Trip(ctx context.Context, id string, r Refusal, waits ...time.Duration) (opened bool, _ *State, err error) {
	first, again := "", ""
	if r.First {
		first = "first"
	}
	if r.Again {
		again = "again"
	}
	args := []any{id, grant.Clip(app.by), grant.Clip(r.Error), tenantFP(r.Tenant), r.Probe, r.Tenants, first, again, len(waits)}
	for _, w := range waits {
		args = append(args, w.Milliseconds())
	}
	made, _, s, err := change(ctx, app, "trip", store.TripScript, args...)
	return made == "open", s, err
}

// Probe asks for the right to make one exchange although the circuit is open; id names the
// probe. One at a time has it, for hold at most, and for no more than a day; who comes late by handicap leaves others
// the way. It is given too if the circuit is closed.
func (app App) Probe(ctx context.Context, id string, handicap, hold time.Duration) (bool, *State, error) {
	_, status, s, err := change(ctx, app, "probe", store.ProbeScript, id, grant.Clip(app.by), min(hold.Milliseconds(), store.MaxAhead), handicap.Milliseconds())
	return status == string(grant.OutcomeOK), s, err
}

// Unprobe gives a probe's right back, of which nothing was learned. The next probe may be made
// after again.
func (app App) Unprobe(ctx context.Context, id, probe string, again time.Duration) (*State, error) {
	_, _, s, err := change(ctx, app, "unprobe", store.UnprobeScript, id, grant.Clip(app.by), probe, again.Milliseconds())
	return s, err
}

// After a pause exchanges begin again with one at a time. As long as they are accepted, twice as
// many may be made at once after each RampStep, up to RampTop; there is no limit any more
// when that has gone well for rampRest.
const (
	RampStep = 250 * time.Millisecond
	RampTop  = 64
	rampRest = 4 * time.Second
)

// Acceptance is what Accept notes.
type Acceptance struct {
	Read    bool // a pair was read, and not only the client accepted
	Revived bool // by that a grant is alive whose death was doubted
	Several bool // tenants have token endpoints at several hosts, as far as is known
}

// Accept notes that the provider has accepted the client: the circuit closes, and what was
// suspected is over. It is to be called while the state is unsettled. A brake ends only by a
// pair that was read, and a mass death by a grant that is alive. closed says that this closed
// the circuit.
func (app App) Accept(ctx context.Context, id string, a Acceptance) (closed bool, _ *State, err error) {
	read, revived, several := "", "", ""
	if a.Read {
		read = "read"
	}
	if a.Revived {
		revived = "revived"
	}
	if a.Several {
		several = "several"
	}
	made, _, s, err := change(ctx, app, "accept", store.AcceptScript, id, grant.Clip(app.by),
		RampStep.Milliseconds(), RampTop, rampRest.Milliseconds(), read, revived, several)
	return made == "closed", s, err
}

// Throttle notes that the provider told a tenant to wait. If another tenant heard that lately,
// with no acceptance in between, it stops the app's exchanges for d from now; a longer
// pause that has begun already is kept. paused says that this call made the pause.
func (app App) Throttle(ctx context.Context, id, errorText, tenant string, d time.Duration) (paused bool, _ *State, err error) {
	made, _, s, err := change(ctx, app, "throttle", store.ThrottleScript, id, grant.Clip(app.by), grant.Clip(errorText), tenantFP(tenant), d.Milliseconds())
	return made == "throttled", s, err
}

// Failing notes that the provider has failed for a tenant. When it has failed for so many, with no answer of
// another kind in between, it is down for all; down says that this one was the last of them.
func (app App) Failing(ctx context.Context, id, errorText, tenant string, tenants int) (down bool, _ *State, err error) {
	made, _, s, err := change(ctx, app, "failing", store.FailingScript, id, grant.Clip(app.by), grant.Clip(errorText), tenantFP(tenant), tenants)
	return made == "provider_down", s, err
}

// Brake stops an app's exchanges under the profile of that digest, since the provider has
// answered one with a success that cannot be read, unless others were read before. It is like
// an open circuit, but nobody probes. braked says that this call did it.
func (app App) Brake(ctx context.Context, id, errorText, tenant, digest string) (braked bool, _ *State, err error) {
	made, _, s, err := change(ctx, app, "brake", store.BrakeScript, id, grant.Clip(app.by), grant.Clip(errorText), tenantFP(tenant), digest)
	return made == "open", s, err
}

// Deaths is how many deaths of grants are believed, within how long, and for how long they are
// doubted once there are more.
type Deaths struct {
	Most          int64
	Within, Doubt time.Duration
}

// Death asks whether to believe that a grant is dead. first says that this is the one too many.
func (app App) Death(ctx context.Context, id string, d Deaths) (believed, first bool, err error) {
	made, status, _, err := change(ctx, app, "death", store.DeathScript, id, grant.Clip(app.by), d.Most, d.Within.Milliseconds(), d.Doubt.Milliseconds())
	return status == string(grant.OutcomeOK), made == "mass_death", err
}

// Retry asks for the right to try a grant again whose death is doubted: one in `every` has it.
func (app App) Retry(ctx context.Context, id string, every time.Duration, d Deaths) (bool, error) {
	_, status, _, err := change(ctx, app, "retry", store.RetryScript, id, grant.Clip(app.by), every.Milliseconds(), d.Doubt.Milliseconds())
	return status == string(grant.OutcomeOK), err
}

// Enter takes a place for one exchange in flight, of which there may be most at once, for at
// most ttl. Without a place, wait is when one of the others has ended for sure.
func (app App) Enter(ctx context.Context, id string, most int, ttl time.Duration) (ok bool, wait time.Duration, err error) {
	got, err := store.EnterScript.Run(ctx, app.all.db.Redis, []string{app.keys().Inflight()}, id, most, ttl.Milliseconds()).Int64Slice()
	if err != nil || len(got) != 2 {
		return false, 0, fmt.Errorf("tokencache: enter app %s: %w", app.name, err)
	}
	return got[0] == 1, time.Duration(got[1]) * time.Millisecond, nil
}

// Leave gives a place back, and tells the waiting processes if at least `crowd` were taken.
func (app App) Leave(ctx context.Context, id string, crowd int) error {
	return app.all.db.Publish(ctx, store.LeaveScript, []string{app.keys().Inflight()}, id, crowd, app.AppKey(), "").Err()
}
