package demo

import (
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// Bounds of the options: what a demo can keep up with on a laptop.
const (
	MaxDuration = time.Hour
	MaxWorkers  = 32
	MaxTenants  = 500
	MaxLatency  = time.Second // must fit well into exchangeTimeout
)

// Options say what a run is like.
type Options struct {
	Duration time.Duration
	Workers  int
	Tenants  int
	Latency  time.Duration
	Profile  provider.Profile
	Redis    string // empty: embedded; may hold a password
	Kill     bool
	Naive    bool
}
