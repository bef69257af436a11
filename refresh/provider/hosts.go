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

// HostOf returns the host at which an exchange for a grant would be made, as [Error.Host] has it. It is empty where
// that does not depend on the tenant, and for a grant without an address. It sends nothing, and needs no token.
//
// Package refresh asks it while a host refuses the client, or wants a pause, so that the host's tenants are spared
// vain exchanges. An Exchanger of your own that sets [Error.Host] should have this method and SeveralHosts too; one
// that wraps another should pass them on.
func (t *TokenEndpoint) HostOf(g Grant) string {
	if t.where == nil {
		return ""
	}
	return strings.ToLower(hostOf(t.where(g)))
}

// SeveralHosts reports whether exchanges are made at several hosts, as far as this process knows: an address of the
// profile has a mark in its host, or exchanges were made at two.
func (t *TokenEndpoint) SeveralHosts() bool {
	if t.hosts == nil {
		return false
	}
	t.hosts.mu.Lock()
	defer t.hosts.mu.Unlock()
	return t.hosts.many
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
