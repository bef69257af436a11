package provider

import (
	"errors"
	"slices"
	"strings"
	"sync"
)

// hosts are those at which the token endpoints of one app are.
type hosts struct {
	mu    sync.Mutex // guards all below
	first string     // that was asked; empty for none yet
	many  bool
}

// hostsOf are the hosts of addresses that may hold marks.
func hostsOf(patterns ...string) *hosts {
	return &hosts{many: slices.ContainsFunc(patterns, func(p string) bool {
		at := mark.FindStringIndex(p)
		return at != nil && !pastHost(p[:at[0]])
	})}
}

// name notes in the failure of an exchange which host it is about, once there is more than one.
func (h *hosts) name(failure error, address string) {
	if h == nil {
		return
	}
	host := strings.ToLower(hostOf(address))
	h.mu.Lock()
	if h.first == "" {
		h.first = host
	}
	h.many = h.many || host != h.first
	many := h.many
	h.mu.Unlock()
	var e *Error
	if many && errors.As(failure, &e) {
		e.Host = host
	}
}
