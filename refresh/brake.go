package refresh

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Two brakes, for what cannot be undone:
//
//   - A success that cannot be read is a pair that is lost. From an app of which no answer was ever
//     read it says that the configuration is wrong: the app stops after the first.
//   - When many grants die within minutes it is rather the provider's mistake than that of so many
//     tenants. Such deaths are not believed: the grants stay suspect, and one a minute tries.

// profileDigest names a profile: a coordinator with another one may well read what this cannot.
func profileDigest(p provider.Profile) string {
	text, _ := json.Marshal(p) // it is plain data
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:4])
}

// brake stops the app if none of its answers was ever read.
func (c *Coordinator) brake(a admission, e *provider.Error) {
	if s := c.app.KnownApp(); s != nil && s.ReadAt != 0 {
		return
	}
	told := *e
	told.Code, told.Status = cmp.Or(told.Code, "unreadable"), max(told.Status, 200)
	c.notify(func(ctx context.Context) error {
		made, _, err := c.app.Brake(ctx, engine.NewID(), policy.ErrorText(&told), a.tenant, a.profile)
		if made {
			c.log.Error().Err(policy.ErrBraked).Str("tenant", a.tenant).Str("code", e.Code).Int("status", e.Status).Msg("the app is stopped: the operator must act")
		}
		return err
	})
}

// mayRetry asks for the right to try a grant whose death is doubted.
func (c *Coordinator) mayRetry() bool {
	ok, err := economize(c.economy, func(ctx context.Context) (bool, error) {
		return c.app.Retry(ctx, engine.NewID(), policy.DoubtedRetry, deaths(0))
	})
	return ok || err != nil
}

// deaths says how many deaths are believed of an app with so many grants.
func deaths(grants int64) engine.Deaths {
	return engine.Deaths{Most: policy.MaxDeaths(grants), Within: policy.DeathsWithin, Doubt: policy.DeathsDoubted}
}

// doubtsDeath asks whether the death of a grant is one too many. If Redis does not answer for the
// app, it is believed.
func (c *Coordinator) doubtsDeath() bool {
	believed, err := economize(c.economy, func(ctx context.Context) (bool, error) {
		grants, err := c.app.CountGrants(ctx)
		if err != nil {
			grants = 0 // a node is away: the careful number
		}
		believed, first, err := c.app.Death(ctx, engine.NewID(), deaths(grants))
		if first {
			c.log.Error().Int64("grants", grants).Msg("many grants die within minutes, which is not believed: ask the provider; one grant a minute is tried, and no tenant is asked to consent")
		}
		return believed, err
	})
	return err == nil && !believed
}

// publishDoubt publishes that a grant was refused as if it were dead, and that this is not believed.
func (f *flight) publishDoubt(s *engine.Snapshot, e *provider.Error) (*engine.Snapshot, error) {
	f.c.log.Warn().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Str("code", e.Code).Int("status", e.Status).
		Msg("refused, but so are too many others: it will be tried again")
	doubted := *e
	doubted.Err = policy.ErrMassDeath
	return f.publish(s, &doubted, policy.DoubtedDeath(e, random()))
}
