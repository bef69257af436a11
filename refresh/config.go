package refresh

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh/internal/bearer"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

const (
	defaultExchangeTimeout = 30 * time.Second
	defaultClaimMargin     = 5 * time.Second
	minClaimMargin         = 100 * time.Millisecond
	defaultCommitPatience  = 60 * time.Second
	defaultIdleAfter       = 25 * time.Hour
	minLease               = 100 * time.Millisecond
)

// Config of a Coordinator. App, Cache and Provider are required.
type Config struct {
	// App is the OAuth client registration, e.g. "zoom"; it is part of every key.
	App string
	// Cache keeps the grants.
	Cache *tokencache.Cache
	// Provider says how the app's provider behaves, and asks it for tokens.
	Provider provider.Provider
	// Name of this process, as people see it in records, journals and events. Default: the
	// Locker's, which is host/pid.
	Name string
	// Locker hands out the leases. Default: one over the cache's Redis.
	Locker *lock.Locker
	// ExchangeTimeout is the time within which a request leaves, and callers have an answer.
	// Default 30 s. Where presenting the refresh token again does harm, the holder listens to the
	// provider for 5 minutes all the same, if the Exchanger calls provider.Sending.
	ExchangeTimeout time.Duration
	// ClaimTimeout is how long a claim stands for its exchange. Default ExchangeTimeout + 5 s; at
	// least ExchangeTimeout + 100 ms.
	ClaimTimeout time.Duration
	// CommitPatience is how much longer a claim stands: its holder may have the pair and be cut
	// off from Redis. After that, others may take over. Where presenting again does harm, the grant
	// of a dead holder waits for so long, too. It is also how long Close waits for a Redis that
	// takes no writes. Default 60 s.
	CommitPatience time.Duration
	// Replicas is how many replicas of Redis must have acknowledged a claim before its refresh
	// token is presented, a consent before Connect, Import or Disconnect returns nil, and a new
	// pair before its holder stops committing it again. Set it wherever a replica can take the
	// master's place, as with Sentinel or in a Cluster: such a failover loses what was not
	// replicated, and a token could be presented twice. While fewer replicas acknowledge within a
	// second, nothing is refreshed: the error is ErrUnavailable with code "not_replicated". Default
	// 0: no process waits.
	//
	// The promoted replica must be one that has acknowledged. That is so if Replicas is the number
	// of all replicas. With fewer it is so while Sentinel or the Cluster promotes the most advanced
	// replica (equal replica-priority), and that one is alive. A master must not start again with
	// older data than it had, and stay the master.
	Replicas int
	// Refused reports whether a response of an API refuses the access token. It is for APIs that do
	// not say so with 401, in addition to Profile.APIRefusals: Client and Transport then do as after
	// a 401. It may read the first 16 KiB of the body, which the caller gets all the same. It must
	// not keep the response.
	Refused func(*http.Response) bool
	// InsecureHosts are hosts to which Client and Transport may send access tokens
	// unencrypted over http, e.g. a sidecar: host or host:port as in a URL, in any case. A
	// host without port is port 80. Default: the loopback interface only.
	InsecureHosts []string
	// IdleAfter is how long a grant counts as in use after a caller last asked for its access
	// token. While it is in use, Run renews the token before it expires. Later Run refreshes the
	// grant only as often as keeps its refresh token alive. Default 25 h: a grant that is used once
	// a day at the same hour is always in use.
	IdleAfter time.Duration
	// OnEvent is called for what happens to grants and to the app, one event at a time: see
	// [Event]. It may be slow: 4,096 events wait for it, and then the oldest are dropped.
	OnEvent func(Event)
	// Observer hears what happens, for metrics and traces. Packages refresh/metrics and refresh/otel
	// make one each; [Observers] joins them. Default: none, which costs nothing.
	Observer Observer
	// Log is silent by default.
	Log zerolog.Logger
}

// withDefaults fills what is missing and refuses what cannot work.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.Cache == nil {
		return cfg, errors.New("refresh: Config.Cache is missing: give a tokencache.New(…)")
	}
	if cfg.Provider.Exchanger == nil {
		return cfg, errors.New("refresh: Config.Provider has no Exchanger: give a provider.OAuth2(…)")
	}
	if err := cfg.Provider.Profile.Validate(); err != nil {
		return cfg, fmt.Errorf("refresh: Config.Provider: %w", err)
	}
	if err := (tokencache.Key{App: cfg.App, Tenant: "any"}).Validate(); err != nil {
		return cfg, fmt.Errorf("refresh: Config.App: %w", err)
	}
	if err := observable(cfg.Observer); err != nil {
		return cfg, err
	}
	hosts, err := bearer.HostPorts(cfg.InsecureHosts)
	if err != nil {
		return cfg, fmt.Errorf("refresh: Config.InsecureHosts: %w", err)
	}
	cfg.InsecureHosts = hosts
	if cfg.Locker == nil {
		cfg.Locker = lock.New(lock.Config{Name: cfg.Name}, cfg.Cache.Redis())
	}
	if cfg.Name != "" && cfg.Name != cfg.Locker.Name() {
		return cfg, fmt.Errorf("refresh: Config.Name is %q and the Locker's name is %q: people would look for two processes; give one of them only", cfg.Name, cfg.Locker.Name())
	}
	cfg.ExchangeTimeout = cmp.Or(cfg.ExchangeTimeout, defaultExchangeTimeout)
	cfg.ClaimTimeout = cmp.Or(cfg.ClaimTimeout, cfg.ExchangeTimeout+defaultClaimMargin)
	cfg.CommitPatience = cmp.Or(cfg.CommitPatience, defaultCommitPatience)
	cfg.IdleAfter = cmp.Or(cfg.IdleAfter, defaultIdleAfter)
	return cfg, cfg.checkNesting()
}

// checkNesting refuses durations that break the order in which deadlines must fall.
func (cfg Config) checkNesting() error {
	var wrong []string
	for name, d := range map[string]time.Duration{
		"ExchangeTimeout": cfg.ExchangeTimeout, "ClaimTimeout": cfg.ClaimTimeout, "CommitPatience": cfg.CommitPatience,
		"IdleAfter": cfg.IdleAfter,
	} {
		if d < 0 {
			wrong = append(wrong, fmt.Sprintf("%s (%s) is negative", name, d))
		}
	}
	if cfg.Replicas < 0 {
		wrong = append(wrong, fmt.Sprintf("Replicas (%d) is negative", cfg.Replicas))
	}
	if cfg.ClaimTimeout < cfg.ExchangeTimeout+minClaimMargin {
		wrong = append(wrong, fmt.Sprintf("ClaimTimeout (%s) must be at least %s longer than ExchangeTimeout (%s): an exchange must end before others may take over its claim",
			cfg.ClaimTimeout, minClaimMargin, cfg.ExchangeTimeout))
	}
	if ttl := cfg.Locker.TTL(); ttl < minLease {
		wrong = append(wrong, fmt.Sprintf("the Locker's TTL (%s) must be at least %s: the lease is extended every third of it", ttl, minLease))
	}
	if len(wrong) > 0 {
		return errors.New("refresh: Config: " + strings.Join(wrong, "; "))
	}
	return nil
}

// acknowledged returns how long replicas may take to acknowledge a change. What a claim waits is taken
// from its exchange, which must have most of its time left.
func (cfg Config) acknowledged() engine.ChangeOption {
	return engine.Replicas(cfg.Replicas, min(time.Second, cfg.ExchangeTimeout/4))
}

// rules returns what the policy depends on besides the grant.
func (cfg Config) rules() policy.Rules {
	return policy.Rules{Profile: cfg.Provider.Profile, Mints: cfg.Provider.Mints, IdleAfter: cfg.IdleAfter, CommitPatience: cfg.CommitPatience}
}
