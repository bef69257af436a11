package demo

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// What parent and workers say to each other: lines of JSON on the worker's stdin
// and stdout. Secrets travel there and nowhere else; no argument and no log holds one.

// WorkerCommand is the word by which the command starts itself as a worker.
const WorkerCommand = "demo-worker"

// The demo's deadlines. They nest as refresh.Config wants it, at the scale of tokens
// that live for seconds.
const (
	tokenLife       = 3 * time.Second
	leaseTTL        = time.Second
	exchangeTimeout = 2 * time.Second
	claimTimeout    = 2500 * time.Millisecond
	callTimeout     = 7 * time.Second // how long a webhook waits for its token
)

// setup is the first line a worker gets.
type setup struct {
	Worker   int
	Agent    string // User-Agent of this process's exchanges
	Redis    string
	Prefix   string
	Profile  string
	TokenURL string
	APIURL   string
	Client   string
	Secret   string
	Style    oauth2.AuthStyle
	Naive    bool
}

// order is every further line: webhooks of a tenant, or the end.
type order struct {
	Tenant   string `json:",omitempty"`
	Webhooks int    `json:",omitempty"`
	SpreadMS int    `json:",omitempty"`
	End      bool   `json:",omitempty"`
}

// news is what a worker has to tell since its last line.
type news struct {
	Calls    int            // webhooks done
	Errors   map[string]int `json:",omitempty"` // of these, failed: why
	Surfaced int            `json:",omitempty"` // whose API call ended with 401
	WaitMS   []float64      `json:",omitempty"` // how long each waited for its token
	Waiting  map[string]int `json:",omitempty"` // webhooks that wait right now, by tenant
}

// newProvider is the token endpoint as a worker sees it.
func (s setup) newProvider() (provider.Provider, error) {
	profile, _ := provider.Preset(s.Profile)
	cfg := &oauth2.Config{
		ClientID: s.Client, ClientSecret: s.Secret,
		Endpoint: oauth2.Endpoint{TokenURL: s.TokenURL, AuthStyle: s.Style},
	}
	p, err := provider.OAuth2(cfg, profile)
	if err != nil {
		return p, err
	}
	if endpoint, ok := p.Exchanger.(*provider.TokenEndpoint); ok {
		endpoint.Transport = signed{endpoint.Transport, s.Agent}
	}
	return p, nil
}

// signed names the process in every request, so that the server's ledger tells the
// workers apart.
type signed struct {
	base  http.RoundTripper
	agent string
}

// RoundTrip implements http.RoundTripper.
func (s signed) RoundTrip(req *http.Request) (*http.Response, error) {
	own := req.Clone(req.Context())
	own.Header.Set("User-Agent", s.agent)
	return s.base.RoundTrip(own)
}

// config is the coordinator's configuration, without Cache.
func (s setup) config(p provider.Provider) refresh.Config {
	return refresh.Config{
		App: s.Profile, Provider: p,
		ExchangeTimeout: exchangeTimeout, ClaimTimeout: claimTimeout,
		CommitPatience: exchangeTimeout,
	}
}

// holder is the name under which a process claims and locks.
func (s setup) holder() string {
	if s.Worker == 0 {
		return fmt.Sprintf("demo/%d", os.Getpid())
	}
	return fmt.Sprintf("worker-%d/%d", s.Worker, os.Getpid())
}

// holderPID is the process in a holder's name; 0 for no name.
func holderPID(name string) int { return atoi(name[strings.LastIndexByte(name, '/')+1:]) }
