package apps

import (
	"slices"
	"strings"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// ofHost is how the kinds of changes begin that are about a host alone.
const ofHost = "host_"

const maxHostName = 64

// hostName is how an app's state names a host. Hosts may be tenants' data: a name that is long, or holds what
// hosts do not, is told apart from others by its fingerprint, and cannot be taken for a plain one.
func hostName(host string) string {
	plain := strings.Map(func(c rune) rune {
		if plainInHost(c) {
			return c
		}
		return '_'
	}, strings.ToLower(host))
	if plain == strings.ToLower(host) && len(plain) <= maxHostName {
		return plain
	}
	fp := "~" + grant.Fingerprint(host)
	return plain[:min(len(plain), maxHostName-len(fp))] + fp
}

func plainInHost(c rune) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.ContainsRune(".-_:[]", c)
}

// oddInHost is for what no name in an app's state has.
func oddInHost(c rune) bool { return c != '~' && !plainInHost(c) }

// HostsWhere are the names of the hosts of which that is so, sorted.
func (s *State) HostsWhere(is func(*State) bool) (names []string) {
	for name, h := range s.Hosts {
		if is(h) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// setOfHost takes a field of a host.
func (s *State) setOfHost(host, name, value string) {
	h := s.Hosts[host]
	if h == nil {
		if host == "" || len(host) > maxHostName || strings.ContainsFunc(host, oddInHost) {
			return
		}
		if s.Hosts == nil {
			s.Hosts, s.ByHost = map[string]*State{}, map[string]*grant.AppTrouble{}
		}
		h = &State{App: s.App, About: host, asOf: s.asOf, now: s.now, at: s.at}
		s.Hosts[host], s.ByHost[host] = h, &h.AppTrouble
	}
	h.set(name, value)
}
