package refresh

import (
	"fmt"
	"sync"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/internal/economy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/exchange"
	"github.com/tokenlatch/tokenlatch/refresh/internal/flight"
	"github.com/tokenlatch/tokenlatch/refresh/internal/holder"
	"github.com/tokenlatch/tokenlatch/refresh/internal/keep"
	"github.com/tokenlatch/tokenlatch/refresh/internal/observe"
	"github.com/tokenlatch/tokenlatch/refresh/internal/pair"
	"github.com/tokenlatch/tokenlatch/refresh/internal/renew"
	"github.com/tokenlatch/tokenlatch/refresh/internal/trouble"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Coordinator keeps one app's grants alive, together with the Coordinators of the same
// app in all other processes. It is safe for concurrent use.
type Coordinator struct {
	cfg    Config
	app    engine.App // signed with the locker's name
	log    zerolog.Logger
	grants *engine.Grants // the hot ones

	work    *work.Group   // flights, and exchanges that outlive them
	tools   *holder.Tools // of those that hold a lease
	revoker *revoker
	judge   *trouble.Judge // whose trouble an error is
	flights *flight.Flights
	mint    *holder.Mint
	events  *feed

	insecure lastInsecure // request that was not sent
	seen     observed     // by Config.Observer
}

// New returns a Coordinator. If the configuration cannot work, the error names the field and the
// rule. New does not wait for Redis.
func New(cfg Config) (*Coordinator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Coordinator{
		cfg: cfg, app: cfg.Cache.App(cfg.App).As(cfg.Locker.Name()), log: cfg.Log.With().Str("app", cfg.App).Logger(),
		grants: cfg.Cache.App(cfg.App).Grants(), work: work.NewGroup(),
	}
	c.seen.app = observe.New(cfg.App, cfg.Observer, c.log)
	c.judge = &trouble.Judge{App: c.app, Process: cfg.Locker.Name(), Log: c.log}
	c.tools = newTools(cfg, c.app, c.judge, c.work, c.log)
	c.tools.Observe = c.seen.app
	c.revoker = &revoker{provider: cfg.Provider, work: c.work, log: c.log}
	c.tools.Revoke = c.revoker.late
	var uses sync.Once
	c.flights = flight.New(flight.Config{
		Tools: c.tools, Cache: cfg.Cache, App: c.app, Grants: c.grants, Replicas: cfg.Replicas,
		Begun: func() { uses.Do(func() { c.work.Go(func() { renew.NoteUses(c.flights) }) }) },
	})
	c.mint = &holder.Mint{Tools: c.tools, Replicas: cfg.Replicas}
	c.events = newFeed(c.app, cfg.Locker.Name(), c.log, cfg.OnEvent)
	if p := cfg.Provider.Profile; p.AccessTokenLife == 0 {
		c.log.Info().Stringer("assumed", p.Lifetime(0)).Msg("where an answer says no lifetime, its access token is taken to live that long: if your provider never says one, set Profile.AccessTokenLife")
	}
	c.seen.begin(cfg.Observer, cfg.App, cfg.Cache, func() int { return keep.Pending(c.tools.Keeper) })
	return c, nil
}

func newTools(cfg Config, app engine.App, judge *trouble.Judge, group *work.Group, log zerolog.Logger) *holder.Tools {
	rules := cfg.rules()
	return &holder.Tools{
		Locker: cfg.Locker, Rules: rules, Takeover: rules.Takeover(), Acked: cfg.acknowledged(),
		ExchangeTimeout: cfg.ExchangeTimeout, ClaimTimeout: cfg.ClaimTimeout,
		Exchanges: &exchange.Maker{Provider: cfg.Provider, Log: log},
		Pairs:     &pair.Maker{Profile: rules.Profile, Log: log},
		Keeper:    &keep.Keeper{Work: group, ClaimTimeout: cfg.ClaimTimeout, Patience: cfg.CommitPatience, Log: log},
		Underway:  &keep.Underway{},
		Economy: economy.New(economy.Config{
			App: app, Redis: cfg.Cache.Redis(), Profile: rules.Profile, Exchanger: cfg.Provider.Exchanger, ExchangeTimeout: cfg.ExchangeTimeout,
			ClaimTimeout: cfg.ClaimTimeout, Waiting: group.Waiting, Log: log,
		}),
		Judge: judge, Work: group, Log: log,
	}
}

// Format prints the app's name, whatever the verb: what is inside changes all the time.
func (c *Coordinator) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "refresh.Coordinator(%s)", c.cfg.App)
}

func (c *Coordinator) key(tenant string) tokencache.Key {
	return tokencache.Key{App: c.cfg.App, Tenant: tenant}
}

// about makes an error say which grant it is about, and who acts.
func (c *Coordinator) about(k tokencache.Key, err error) error {
	return dress(k, c.judge.Of(k.Tenant, err))
}

// answer is about for callers that wait: one that has left hears only that.
func (c *Coordinator) answer(k tokencache.Key, err error) error {
	if err == nil || work.HasLeft(err) {
		return err
	}
	return c.about(k, err)
}
