package refresh

import (
	"fmt"
	"strconv"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// EventKind says what has happened.
type EventKind string

// The kinds of events. Those up to EventSuspect are about a grant, the others about the app.
const (
	EventConnected    EventKind = "connected"
	EventDisconnected EventKind = "disconnected"
	EventRefreshed    EventKind = "refreshed"   // a new pair is stored
	EventFailed       EventKind = "failed"      // an exchange failed; it will be tried again
	EventReauthorize  EventKind = "reauthorize" // the tenant must consent again: Reason says why
	EventReauthDue    EventKind = "reauth_due"  // its refresh token ends at RefreshTokenExpiresAt, whatever is done
	EventRestored     EventKind = "restored"    // Redis had lost the grant's newest state
	EventStalled      EventKind = "stalled"     // who presents its refresh token (By) has gone silent; others may take over at RetryAt, or later
	EventTakeover     EventKind = "takeover"    // a process presents it again, of whose last presentation nobody knows what came
	EventRecovered    EventKind = "recovered"   // a new pair came after all: of a claim that was taken over, or of a dead grant
	EventSuspect      EventKind = "suspect"     // an API refuses one access token after the other

	EventCircuitOpen   EventKind = "circuit_open"   // the provider, or one host of it, refuses the client: the operator must act
	EventCircuitClosed EventKind = "circuit_closed" // it accepts it again
	EventThrottled     EventKind = "throttled"      // the provider wants a pause of all the app's exchanges, or of a host's
	EventMassDeath     EventKind = "mass_death"     // too many grants die at once: not believed, the operator must look
	EventProviderDown  EventKind = "provider_down"  // it gives several tenants in a row no usable answer: Error is the last
	EventProviderUp    EventKind = "provider_up"    // it answers again
	EventDataLost      EventKind = "data_lost"      // Redis has lost the app's data; workers give back what they remember
)

// Event is one thing that has happened, for metrics, mails and pages. It holds no token.
//
// Redis publishes a change in the step that makes it. The event reaches every process that
// listens, with the same ID. To act once, deduplicate on ID, for instance by SET NX in Redis. The
// process that made the change gets the event even without a subscriber connection.
//
// If no process was listening, Run reports the grant's latest change when it next checks the
// grant. Earlier changes remain in the journal only.
type Event struct {
	Kind EventKind
	// ID is the same in all processes. No other change has it.
	ID  string
	App string
	// Tenant is empty for events about the app.
	Tenant string
	// Host is the one that EventCircuitOpen, EventCircuitClosed or EventThrottled is about, where tenants have token
	// endpoints at hosts of their own: the tenants of all others go on. Empty: the event is about the app.
	Host string
	// At is when it happened, by Redis' clock.
	At time.Time
	// By is the process that made the change: Config.Name, or lock.Config.Name. Of a stalled grant it is the
	// process that has gone silent.
	By string
	// Mine says that this process made the change.
	Mine bool
	// Generation of the pair that is stored.
	Generation int64
	// Reason is why the tenant must reauthorize or is suspect, e.g. "lost_response".
	Reason string
	// Error is the failed exchange: class/code/status.
	Error string
	// RetryAt is when it is tried again; zero where that does not help.
	RetryAt time.Time
	// ExpiresAt and RefreshTokenExpiresAt are the pair's; zero where nobody knows.
	ExpiresAt, RefreshTokenExpiresAt time.Time
}

var grantEvents = map[string]EventKind{
	"connect": EventConnected, "disconnect": EventDisconnected, "commit": EventRefreshed, "fail": EventFailed,
	"reauthorize": EventReauthorize, "reauth_due": EventReauthDue, "restore": EventRestored, "suspect": EventSuspect,
	"stalled": EventStalled, "takeover": EventTakeover, "recovered": EventRecovered,
}

var appEvents = map[string]EventKind{
	"open": EventCircuitOpen, "closed": EventCircuitClosed, "throttled": EventThrottled, "mass_death": EventMassDeath,
	"data_lost": EventDataLost, "provider_down": EventProviderDown, "provider_up": EventProviderUp,
}

// lastEvents returns what a grant's record says of its last changes.
func lastEvents(s *engine.Snapshot) []Event {
	r := &s.Record
	var last []Event
	add := func(kind EventKind, at int64) { last = append(last, grantEvent(kind, s.Key, r, at)) }
	switch {
	case r.State == tokencache.Disconnected:
		add(EventDisconnected, r.Epoch)
	case r.State == tokencache.Reauthorize:
		add(EventReauthorize, r.ErrorAt)
	case r.ErrorAt != 0:
		add(EventFailed, r.ErrorAt)
	case r.Reason != "":
		add(EventSuspect, s.Now())
	case r.IssuedAt <= r.Epoch:
		add(EventConnected, r.Epoch)
	default:
		add(EventRefreshed, r.IssuedAt)
	}
	if r.State == tokencache.Active && r.WarnedAt != 0 {
		add(EventReauthDue, r.WarnedAt)
	}
	return last
}

func grantEvent(kind EventKind, k tokencache.Key, r *grant.Record, at int64) Event {
	which, by, retry := r.CommitID, r.By, r.RetryAt
	switch kind {
	case EventStalled:
		which, by, retry = r.Claim.ID, r.Claim.By, r.Claim.Until
	case EventTakeover:
		which, by = r.Claim.ID, r.Claim.By
	case EventReauthDue:
		which = strconv.FormatInt(r.WarnedAt, 10)
	case EventSuspect:
		which = r.Reason
	case EventRestored:
		which = strconv.FormatInt(r.Rev, 10)
	}
	return Event{
		Kind: kind, ID: fmt.Sprintf("%s/%d/%d/%s/%s", k, r.Epoch, r.Generation, which, kind),
		App: k.App, Tenant: k.Tenant, At: redisTime(at), By: by, Generation: r.Generation,
		Reason: r.Reason, Error: r.Error, RetryAt: redisTime(retry),
		ExpiresAt: redisTime(r.ExpiresAt), RefreshTokenExpiresAt: redisTime(r.RefreshTokenExpiresAt),
	}
}

// hostEvents are about one host.
var hostEvents = map[string]EventKind{
	"host_open": EventCircuitOpen, "host_closed": EventCircuitClosed, "host_throttled": EventThrottled,
}

// hostEvent is about one host. Of one with which all is well again the state says nothing.
func hostEvent(kind EventKind, s *engine.AppState, host string) Event {
	e := Event{Kind: kind, At: redisTime(s.Now())}
	which := fmt.Sprintf("%d.%d", s.At(), s.Rev)
	if h := s.Hosts[host]; h != nil && kind != EventCircuitClosed {
		e, which = appEvent(kind, h), fmt.Sprint(h.OpenedAt)
		if kind == EventThrottled {
			which = fmt.Sprint(h.ThrottledUntil)
		}
	}
	e.App, e.Host, e.By = s.App, host, s.By
	e.ID = fmt.Sprintf("%s@%s/%s/%s", s.App, host, which, kind)
	return e
}

func appEvent(kind EventKind, s *engine.AppState) Event {
	e := Event{Kind: kind, App: s.App, At: redisTime(s.Now()), By: s.By, Error: s.Error}
	which := s.OpenedAt
	switch kind {
	case EventCircuitClosed, EventProviderUp:
		which = s.AcceptedAt
	case EventProviderDown:
		e.At, which = redisTime(s.DownAt), s.DownAt
	case EventCircuitOpen:
		e.At, e.RetryAt = redisTime(s.OpenedAt), redisTime(s.ProbeAt)
	case EventMassDeath:
		e.At, e.RetryAt, which = redisTime(s.MassAt), redisTime(s.MassTryAt), s.MassAt
	case EventThrottled:
		e.RetryAt, which = redisTime(s.ThrottledUntil), s.ThrottledUntil
	case EventDataLost:
		e.At, e.Error, which = redisTime(s.LostAt), "", s.LostAt
	}
	e.ID = fmt.Sprintf("%s/%d/%s", s.App, which, kind)
	return e
}

func redisTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
