package oncall

import (
	"strconv"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// Grant is a grant in JSON: docs/json/grant.schema.json. Times are UTC, by Redis' clock.
type Grant struct {
	App        string    `json:"app"`
	Tenant     string    `json:"tenant"`
	State      string    `json:"state"`
	Trouble    bool      `json:"trouble"`
	Since      time.Time `json:"since,omitzero"`
	Why        string    `json:"why"`
	Who        string    `json:"who"`
	Code       string    `json:"code"`
	Reason     string    `json:"reason,omitempty"`
	Error      string    `json:"error,omitempty"`
	ErrorAt    time.Time `json:"error_at,omitzero"`
	Fails      int64     `json:"fails"`
	RetryAt    time.Time `json:"retry_at,omitzero"`
	Generation int64     `json:"generation"`
	Consented  time.Time `json:"consented_at,omitzero"`
	IssuedAt   time.Time `json:"issued_at,omitzero"`
	DueAt      time.Time `json:"due_at,omitzero"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	ExpiresIn  *int64    `json:"expires_in_seconds,omitempty"`
	RefreshEnd time.Time `json:"refresh_token_expires_at,omitzero"`
	UsedAt     time.Time `json:"used_at,omitzero"`
	By         string    `json:"by,omitempty"`
	Claim      *Claim    `json:"claim,omitempty"`
	Now        time.Time `json:"now"`
}

// Claim is an unresolved claim in JSON.
type Claim struct {
	By            string    `json:"by"`
	At            time.Time `json:"at,omitzero"`
	Until         time.Time `json:"until,omitzero"`
	Presentations int64     `json:"presentations"`
	LeaseBy       string    `json:"lease_by,omitempty"`
}

// GrantOf is a row, and what was found of it, in JSON.
func GrantOf(row *inspect.Row, f Finding) Grant {
	r := &row.Record
	g := Grant{
		App: row.App, Tenant: row.Tenant, State: f.State, Trouble: f.Trouble, Since: f.Since.UTC(), Why: f.Why, Who: f.Who, Code: CodeOf(row),
		Now: at(row.Now),
	}
	if row.Err != nil {
		return g // its fields cannot be true
	}
	g.Reason, g.Error, g.ErrorAt, g.Fails, g.RetryAt = r.Reason, r.Error, at(r.ErrorAt), r.Fails, at(r.RetryAt)
	g.Generation, g.Consented, g.IssuedAt, g.DueAt, g.ExpiresAt = r.Generation, at(r.Epoch), at(r.IssuedAt), at(r.RefreshAt), at(r.ExpiresAt)
	g.RefreshEnd, g.UsedAt, g.By = at(r.RefreshTokenExpiresAt), at(r.UsedAt), r.By
	if r.ExpiresAt != 0 {
		left := (r.ExpiresAt - row.Now) / 1000
		g.ExpiresIn = &left
	}
	if c := r.Claim; c.Unresolved() {
		g.Claim = &Claim{By: c.By, At: at(c.At), Until: at(c.Until), Presentations: c.N, LeaseBy: row.Lease.By}
	}
	return g
}

// at is a time of Redis' clock in JSON; 0 is left out.
func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return grant.Time(ms).UTC()
}

// Entry is a line of a journal in JSON: docs/json/journal.schema.json.
type Entry struct {
	ID         string    `json:"id"`
	At         time.Time `json:"at"`
	Kind       string    `json:"kind"`
	Generation int64     `json:"generation"`
	Epoch      int64     `json:"epoch"`
	By         string    `json:"by"`
	Why        string    `json:"why"`
	Answer     string    `json:"answer,omitempty"`
	Took       float64   `json:"took_seconds,omitempty"`
	RequestID  string    `json:"request_id,omitempty"`
}

// EntryOf is a journal's line in JSON.
func EntryOf(e inspect.Entry) Entry {
	return Entry{ID: e.ID, At: at(e.At), Kind: e.Kind, Generation: e.Generation, Epoch: e.Epoch, By: e.By, Why: e.Why,
		Answer: e.Answer, Took: e.Took.Seconds(), RequestID: e.RequestID}
}

// Detail is all that inspect tells, in JSON: docs/json/inspect.schema.json.
type Detail struct {
	Grant
	Key                     string  `json:"key"`
	Epoch                   int64   `json:"epoch"`
	Revision                int64   `json:"revision"`
	AccessTokenFingerprint  string  `json:"access_token_fingerprint,omitempty"`
	RefreshTokenFingerprint string  `json:"refresh_token_fingerprint,omitempty"`
	Rejects                 int64   `json:"rejects"`
	Lease                   *Lease  `json:"lease"`
	Listeners               *int64  `json:"listeners"`
	Journal                 []Entry `json:"journal"`
}

// Lease is a lease that is held, in JSON.
type Lease struct {
	By   string  `json:"by"`
	Left float64 `json:"ends_in_seconds"`
}

// App is an app in JSON: docs/json/apps.schema.json.
type App struct {
	App         string    `json:"app"`
	State       string    `json:"state"`
	Why         string    `json:"why"`
	Since       time.Time `json:"since,omitzero"`
	Until       time.Time `json:"until,omitzero"`
	Code        string    `json:"code,omitempty"` // of a grant that needs a new pair meanwhile; "" where nothing is the matter
	Grants      int64     `json:"grants"`
	Trouble     int64     `json:"trouble"` // of the grants, those about which somebody should know
	InUse       int64     `json:"in_use"`
	Idle        int64     `json:"idle"`
	Renewing    *int64    `json:"renewing,omitempty"` // processes that call Run; nil: not known
	Late        int64     `json:"late"`
	PerMinute   int64     `json:"exchanges_last_minute"`
	Failed      int64     `json:"failed"`
	Reauthorize int64     `json:"reauthorize"`
	Ended       int64     `json:"disconnected"`
	Damaged     int64     `json:"damaged"`
}

// The states of an app, the worst first.
const (
	AppLost      = "data_lost"
	AppOpen      = "circuit_open"
	AppBraked    = "braked"
	AppMassDeath = "mass_death"
	AppDown      = "provider_down"
	AppPaused    = "paused"
	AppRamp      = "ramping"
	AppOK        = "ok"
	AppUnknown   = "unknown"

	appHostOpen   = "host_circuit_open" // as AppOpen, of one host of the token endpoints: the tenants of others go on
	appHostPaused = "host_paused"
)

// deathsDoubted is for how long deaths are doubted after too many.
const deathsDoubted = 24 * time.Hour

// hosts names the first of several, and how many more there are.
func hosts(names []string) string {
	if len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:3], ", ") + " and " + strconv.Itoa(len(names)-3) + " more"
}

// LookAtApp fills in what an app's own state says; nil is an app without one.
func (a *App) LookAtApp(s *engine.AppState) {
	if a.State = AppOK; s == nil {
		return
	}
	now := s.Now()
	switch {
	case s.LostAt != 0:
		a.State, a.Code, a.Since = AppLost, "TL606", at(s.LostAt)
		a.Why = "Redis has lost data: restore the backup, or accept the loss"
	case s.Open && s.Brake != "":
		a.State, a.Code, a.Since = AppBraked, "TL405", at(s.OpenedAt)
		a.Why = "the provider's successes cannot be read" + answer(s.Error)
	case s.Open:
		a.State, a.Code, a.Since = AppOpen, "TL401", at(s.OpenedAt)
		a.Why = "the provider refuses the client" + answer(s.Error)
	case s.MassAt != 0 && now-s.MassAt < deathsDoubted.Milliseconds():
		a.State, a.Code, a.Since = AppMassDeath, "TL504", at(s.MassAt)
		a.Why = "the provider calls many grants dead, which is not believed"
	case s.DownAt != 0:
		a.State, a.Code, a.Since = AppDown, "TL501", at(s.DownAt)
		a.Why = "the provider gives several tenants in a row no usable answer" + answer(s.Error)
	case s.ThrottledUntil > now:
		a.State, a.Code, a.Until = AppPaused, "TL205", at(s.ThrottledUntil)
		a.Why = "the provider wants a pause, " + Span(s.Until(s.ThrottledUntil)) + " more"
	case a.lookAtHosts(s):
	case s.Ramp > 0:
		a.State = AppRamp
		a.Why = "beginning again after a pause"
	}
}

// Says is what is the matter with an app as a whole, since when or until when, in one line.
func (a *App) Says(now time.Time) string {
	when := ""
	switch {
	case !a.Since.IsZero():
		when = " since " + Clock(a.Since, now) + " UTC (" + From(a.Since, now) + ")"
	case !a.Until.IsZero():
		when = " until " + Clock(a.Until, now) + " UTC"
	}
	return ID(a.App) + ": " + a.State + when + ": " + a.Why
}

// lookAtHosts fills in what is stopped at hosts alone, and reports whether anything is.
func (a *App) lookAtHosts(s *engine.AppState) bool {
	open := s.HostsWhere(func(h *engine.AppState) bool { return h.Open })
	paused := s.HostsWhere(func(h *engine.AppState) bool { return h.ThrottledUntil > h.Now() })
	switch {
	case open != nil:
		h := s.Hosts[open[0]]
		a.State, a.Code, a.Since = appHostOpen, "TL401", at(h.OpenedAt)
		a.Why = "the provider refuses the client at " + hosts(open) + answer(h.Error)
	case paused != nil:
		h := s.Hosts[paused[0]]
		a.State, a.Code, a.Until = appHostPaused, "TL205", at(h.ThrottledUntil)
		a.Why = "the provider wants a pause at " + hosts(paused) + ", " + Span(h.Until(h.ThrottledUntil)) + " more"
	}
	return open != nil || paused != nil
}
