package apps

import (
	"strings"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// OfHost is how the kinds of changes begin that are about a host alone.
const OfHost = "host_"

const (
	maxHostName = 64
	// maxHosts is more than app.lua keeps: what is beyond was not written by it.
	maxHosts = 32
)

// hostName is how an app's state names a host. Hosts may be tenants' data: a name that is long, or holds what
// hosts do not, is told apart from others by its fingerprint, and cannot be taken for a plain one.
func hostName(host string) string {
	plain := strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.ContainsRune(".-_:[]", c) {
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

// setOfHost takes a field of a host.
func (s *State) setOfHost(host, name, value string) {
	h := s.Hosts[host]
	if h == nil {
		if len(s.Hosts) >= maxHosts || len(host) > maxHostName {
			return
		}
		if s.Hosts == nil {
			s.Hosts = map[string]*State{}
		}
		h = &State{About: host}
		s.Hosts[host] = h
	}
	if !strings.Contains(name, "@") {
		h.set(name, value)
	}
}
