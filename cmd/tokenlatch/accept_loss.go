package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

func newAcceptLoss(g *globals) *cobra.Command {
	confirm := ""
	cmd := &cobra.Command{
		Use: "accept-loss APP --confirm APP", Short: "say that what Redis has lost of an app is gone",
		Long: `After Redis came back without an app's data, a tenant of whom no worker
remembers anything gets the error redis_lost_data: the grant may still be in a
backup. This command says that it is gone. From then on such a tenant counts as
one that never connected, and must consent again.

Restore the backup first, if there is one. What workers remember is given back
either way.`,
		Example: `tokenlatch apps                         # which app has lost data, since when
tokenlatch accept-loss zoom --confirm zoom`,
		Args: named("APP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := (grant.Key{App: args[0], Tenant: "-"}).Validate(); err != nil {
				return cli.Usage(err)
			}
			return g.acceptLoss(cmd, args[0], confirm)
		},
	}
	cmd.Flags().StringVar(&confirm, "confirm", "", "the `APP` once more")
	return cmd
}

// acceptance is what accept-loss did, in JSON: docs/json/accept-loss.schema.json.
type acceptance struct {
	App      string    `json:"app"`
	Accepted bool      `json:"accepted"`
	LostAt   time.Time `json:"lost_at,omitzero"`
}

func (g *globals) acceptLoss(cmd *cobra.Command, app, confirm string) error {
	s, err := g.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	state, err := s.App(cmd.Context(), app)
	switch {
	case errors.Is(err, tokencache.ErrNone):
		return &cli.Error{Exit: cli.ExitFailed, Code: "no_such_app", Err: fmt.Errorf("no app %s is known there (%s)%s", oncall.ID(app), g.place(s), orAlike(nearApps(cmd.Context(), s, app))), Hint: "tokenlatch apps lists those there are"}
	case err != nil:
		return g.failed(s, err)
	case state.LostAt == 0:
		return g.accepted(acceptance{App: app}, "Redis has lost nothing of "+oncall.ID(app)+", or that is accepted already")
	}
	lost := grant.Time(state.LostAt)
	if confirm != app {
		return &cli.Error{
			Exit: cli.ExitUnconfirmed, Code: "not_confirmed",
			Err:  fmt.Errorf("not confirmed: Redis lost data of %s at %s UTC; tenants whom no worker remembers must all consent again after this", oncall.ID(app), oncall.Clock(lost, grant.Time(state.Now()))),
			Hint: "restore the backup if there is one; else: tokenlatch accept-loss " + oncall.ID(app) + " --confirm " + oncall.ID(app),
		}
	}
	if err := accept(cmd.Context(), s, g.prefix, app); err != nil {
		return g.failed(s, err)
	}
	return g.accepted(acceptance{App: app, Accepted: true, LostAt: lost.UTC()}, "accepted: what Redis lost of "+oncall.ID(app)+" is gone; tenants whom no worker remembers have never connected")
}

func (g *globals) accepted(a acceptance, text string) error {
	if g.asJSON() {
		return g.object(a)
	}
	return g.text(text + "\n")
}

// accept needs no keyset: nothing is sealed or opened.
func accept(ctx context.Context, s *session, prefix, app string) error {
	cache, err := tokencache.New(s.rdb, tokencache.Config{Prefix: prefix, AEAD: tokencache.Plaintext})
	if err != nil {
		return err
	}
	handle := cache.App(app)
	err = handle.AcceptLoss(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, handle.Forget(ctx))
}
