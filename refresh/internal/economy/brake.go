package economy

import (
	"cmp"
	"context"

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

// brake stops the app if none of its answers was ever read.
func (c *Circuit) brake(a admission, e *provider.Error) {
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

// DoubtsDeath asks whether the death of a grant is one too many. If Redis does not answer for the
// app, it is believed.
func (c *Circuit) DoubtsDeath() bool {
	believed, err := economize(c.asker, func(ctx context.Context) (bool, error) {
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
