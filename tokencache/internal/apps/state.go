package apps

import (
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// State is what the whole fleet knows of one app, at one moment. Times are Redis' clock,
// unix ms; 0 means none. It does not change. When all is well only AcceptedAt and ReadAt are set.
type State struct {
	App string
	// Hosts are, by name, the hosts of token endpoints about which there is a doubt, or more; nil for none. Of
	// each its part is known: circuit and pause.
	Hosts   map[string]*State
	Several bool   // tenants have token endpoints at several hosts: a process that has seen two has said so
	About   string // the host that the last change was about, empty for the app as a whole; in Hosts the host's name

	grant.AppTrouble
	ProbeBy string // the process that is trying just now
	// Failing are the fingerprints of the tenants for which the provider failed, with no answer of another
	// kind in between.
	Failing string
	// AcceptedAt is when it was last noted that the provider accepted the client: at first,
	// and whenever there had been a doubt.
	AcceptedAt int64
	ReadAt     int64  // when an answer was first read, and found to hold a pair
	Limited    string // the tenant that was told to wait, while no other was, and until when
	Born       string // birth mark of the database, since Redis has lost this app's data
	Ramp       int64  // after a pause: how many exchanges there may be at once; 0 for no limit
	By         string
	Rev        int64 // counts the changes

	probeID          string
	change, changeID string
	changedAt        int64

	asOf    int64 // Redis' clock when it was so
	now     int64 // Redis' clock at `at`; never early
	at      mono.Time
	session uint64    // subscription session in which it was read or pushed; 0 none
	taken   mono.Time // when this process knew it
}

// Now is Redis' time at this moment, unix ms; as far as this process can tell; it may be ahead by the duration of one request, never behind.
func (s *State) Now() int64 { return s.now + (mono.Now() - s.at).Milliseconds() }

// At is the Redis time, unix ms, at which it was so.
func (s *State) At() int64 { return s.asOf }

// Until returns how long it is from now to a time of Redis' clock; never negative.
func (s *State) Until(t int64) time.Duration {
	return max(0, s.at+clock.Span(t-s.now)-mono.Now())
}

// Host is what is known of a host; nil where there is no doubt about it.
func (s *State) Host(name string) *State {
	if len(s.Hosts) == 0 || name == "" {
		return nil
	}
	return s.Hosts[hostName(name)]
}

// OpenAt reports whether the circuit of a host is open; of the app for "".
func (s *State) OpenAt(host string) bool {
	if host != "" {
		s = s.Host(host)
	}
	return s != nil && s.Open
}

// fill takes the fields that Redis has of the state, at the time s.now. What cannot be true counts as nothing, as
// in app_state (app.lua): this state is an economy.
func (s *State) fill(fields map[string]string) {
	for name, value := range fields {
		if len(fields) <= store.MaxFields || !strings.Contains(name, "@") {
			s.set(name, value)
		}
	}
	s.forgetWaits()
	for name, h := range s.Hosts {
		if d := s.now - h.changedAt; max(d, -d) > store.MaxAhead { // no tenant wants it
			delete(s.Hosts, name)
			delete(s.ByHost, name)
		}
		h.forgetWaits()
	}
	if len(s.Hosts) == 0 {
		s.Hosts, s.ByHost = nil, nil
	}
}

// forgetWaits ends what waits if Redis' clock was set back since this was written, and the wait of a tenant
// that lies too far ahead.
func (s *State) forgetWaits() {
	who, til, _ := strings.Cut(s.Limited, " ")
	if _, err := grant.ParseNumber(til, s.now+store.MaxAhead); err != nil || who == "" {
		s.Limited = ""
	}
	if s.changedAt > s.now+grant.ClockTolerance {
		s.ProbeAt, s.ThrottledUntil, s.MassTryAt, s.Limited = 0, 0, 0, ""
	}
}

// Read takes the state as its key has it, at Redis' time now: for a reader that remembers nothing.
func (s *State) Read(fields map[string]string, now int64) {
	s.asOf, s.now, s.at = now, now, mono.Now()
	s.fill(fields)
}

// Unsettled reports whether the next acceptance is to be noted; read says that it has brought
// a pair.
func (s *State) Unsettled(read bool) bool {
	return s.AcceptedAt == 0 || read && s.ReadAt == 0 || s.Open || s.Refused != "" || s.Limited != "" || s.Failing != "" || s.Ramp > 0
}

// HostUnsettled reports whether the next acceptance by a host is to be noted.
func (s *State) HostUnsettled(name string) bool {
	h := s.Host(name)
	return h != nil && (h.Open || h.Refused != "" || h.ThrottledUntil <= h.Now())
}

// Fails reports whether a tenant is among those for which the provider fails.
func (s *State) Fails(tenant string) bool {
	return s.DownAt != 0 || strings.Contains(s.Failing, tenantFP(tenant))
}

// Made is the kind of change of that id, if it was the last one; "" for another.
func (s *State) Made(id string) string {
	if s.changeID != id {
		return ""
	}
	return strings.TrimPrefix(s.change, ofHost)
}

// Refuses reports whether a tenant is among those that were refused in a row.
func (s *State) Refuses(tenant string) bool {
	return s.Refused != "" && tenant != "" && strings.Contains(s.Refused, tenantFP(tenant))
}

// Braked reports whether the brake is for a profile's digest.
func (s *State) Braked(digest string) bool {
	return s.Open && s.Brake != "" && strings.Contains(s.Brake, digest)
}

// tenantFP returns how an app's state names a tenant.
func tenantFP(tenant string) string { return grant.Fingerprint(tenant)[:8] }

// lostSince reports whether Redis has lost the app's data, and an earlier state did not know it.
func (s *State) lostSince(before *State) bool {
	return s.LostAt != 0 && (before == nil || before.LostAt != s.LostAt)
}

// doubtful reports whether a state that stops the app's exchanges is to be read again: an
// operator may have deleted it, which is not pushed.
func (s *State) doubtful() bool {
	return mono.Now()-s.taken > readAgainAfter && (s.stops() || s.Ramp > 0)
}

// stops reports whether the state stops exchanges of the app, or of a host.
func (s *State) stops() bool {
	for _, h := range s.Hosts {
		if h.stops() {
			return true
		}
	}
	return s.Open || s.ThrottledUntil > s.Now()
}

const readAgainAfter = 5 * time.Second

// parse reads the state's text, one line a field.
func (s *State) parse(text string) {
	fields := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		field, value, _ := strings.Cut(line, " ")
		fields[field] = value
	}
	s.fill(fields)
}

func (s *State) set(name, value string) {
	if name, host, ofHost := strings.Cut(name, "@"); ofHost {
		s.setOfHost(host, name, value)
		return
	}
	if len(value) > grant.MaxValue || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
		return
	}
	switch name {
	case "circuit":
		s.Open = value == "open"
	case "error":
		s.Error = value
	case "probe_by":
		s.ProbeBy = value
	case "born":
		s.Born = value
	case "probe_id":
		s.probeID = value
	case "refused":
		s.Refused = value
	case "failing":
		s.Failing = value
	case "brake":
		s.Brake = value
	case "limited":
		s.Limited = value
	case "by":
		s.By = value
	case "several":
		s.Several = value != ""
	case "host":
		s.About = value
	case "change":
		s.change = value
	case "change_id":
		s.changeID = value
	default:
		s.setNumber(name, value)
	}
}

// setNumber takes a number, as kinds in app.lua says.
func (s *State) setNumber(name, value string) {
	n, _ := grant.ParseNumber(value, grant.MaxCounter)
	switch name {
	case "lost_at":
		s.LostAt = n
	case "ramp":
		s.Ramp = n
	case "probes":
		s.Probes = n
	case "rev":
		s.Rev = n
	case "changed_at":
		s.changedAt = n
	default:
		if n <= s.now+store.MaxAhead {
			s.setTime(name, n)
		}
	}
}

func (s *State) setTime(name string, n int64) {
	switch name {
	case "opened_at":
		s.OpenedAt = n
	case "probe_at":
		s.ProbeAt = n
	case "down_at":
		s.DownAt = n
	case "accepted_at":
		s.AcceptedAt = n
	case "read_at":
		s.ReadAt = n
	case "mass_at":
		s.MassAt = n
	case "mass_try_at":
		s.MassTryAt = n
	case "throttled_until":
		s.ThrottledUntil = n
	}
}
