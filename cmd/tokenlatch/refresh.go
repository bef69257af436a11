package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// refreshing are the flags of refresh.
type refreshing struct {
	acting
	takeOver bool
	confirm  string
}

func newRefresh(g *globals) *cobra.Command {
	r := &refreshing{acting: acting{globals: g}}
	cmd := &cobra.Command{
		Use: "refresh APP TENANT [flags]", Short: "make a new pair now, however fresh the stored one is",
		Long: `Force one exchange, as Coordinator.Refresh does, and wait for it. One that is
under way counts. It keeps all rules: what another process has claimed is left
to it.

A process that died over an exchange leaves a claim without outcome. Where
presenting its refresh token again does harm, the fleet waits for the claim's
hard deadline, and then for the end of the access token. --take-over gives that
access token up, as if an API had refused it, so that the token is presented
right after the hard deadline. Nothing shortens the deadline itself. It says
what is at risk, and does nothing without --confirm.

Exit code 3: the tenant must connect again. Exit code 4: later.`,
		Example: `tokenlatch refresh zoom acme
tokenlatch refresh zoom acme --take-over                  # what is at risk
tokenlatch refresh zoom acme --take-over --confirm acme`,
		Args: named("APP", "TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.refresh(cmd, grant.Key{App: args[0], Tenant: args[1]})
		},
	}
	addConfig(cmd, &r.config)
	cmd.Flags().BoolVar(&r.takeOver, "take-over", false, "do not wait for the access token's end where a claim has no outcome")
	cmd.Flags().StringVar(&r.confirm, "confirm", "", "with --take-over, the `TENANT` once more")
	r.addWait(cmd)
	return cmd
}

func (r *refreshing) refresh(cmd *cobra.Command, k grant.Key) error {
	w, row, err := r.open(cmd, k)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), r.wait)
	defer cancel()
	if r.takeOver {
		err = r.overtake(ctx, w, row, k)
	} else if err = w.tokens.Refresh(ctx, k.Tenant); err != nil {
		err = r.refused(w, k, err)
	}
	if err == nil {
		err = r.after(ctx, w, k, "refreshed")
	}
	return w.left(r.globals, err)
}

// overtake gives up the access token that protects a grant whose claim has no outcome.
func (r *refreshing) overtake(ctx context.Context, w *worker, row *inspect.Row, k grant.Key) error {
	if err := r.mayOvertake(ctx, w, row, k); err != nil {
		return err
	}
	tok, err := w.tokens.Token(ctx, k.Tenant)
	if err == nil {
		err = w.tokens.Reject(ctx, k.Tenant, tok.AccessToken)
	}
	if err != nil {
		return r.refused(w, k, err)
	}
	return nil
}

// mayOvertake says why a claim cannot be taken over, or what that would risk.
func (r *refreshing) mayOvertake(ctx context.Context, w *worker, row *inspect.Row, k grant.Key) error {
	which := oncall.ID(k.App) + " " + oncall.ID(k.Tenant)
	if row == nil {
		return r.noGrant(ctx, w.session, k)
	}
	c := row.Record.Claim
	switch left := time.Duration(c.Until-row.Now) * time.Millisecond; {
	case row.Err != nil || !c.Unresolved():
		return &cli.Error{Exit: cli.ExitFailed, Code: "nothing_to_take_over", Err: fmt.Errorf("no claim of %s is without outcome: there is nothing to take over", which), Hint: "tokenlatch refresh " + which}
	case left > 0:
		return &cli.Error{
			Exit: cli.ExitLater, Code: "claimed", RetryAfter: left,
			Err:  fmt.Errorf("%s may still bring the answer of generation %d, until %s UTC (in %s): nobody presents it before", c.By, row.Record.Generation, oncall.Clock(grant.Time(c.Until), grant.Time(row.Now)), oncall.Span(left)),
			Hint: "tokenlatch wait " + which + " --for fresh",
		}
	case r.confirm != k.Tenant:
		return unconfirmed("refresh --take-over", k, "%s", risk(row, w.app.Profile()))
	}
	return nil
}

// risk says what a take-over may cost.
func risk(row *inspect.Row, p provider.Profile) string {
	c, now := row.Record.Claim, grant.Time(row.Now)
	text := fmt.Sprintf("%s presented generation %d at %s UTC, and nobody knows what came of it. ", c.By, row.Record.Generation, oncall.Clock(grant.Time(c.At), now))
	switch p.Replay {
	case provider.ReplayHarmless, provider.ReplaySamePair:
		text += "Presenting it again does no harm at this provider. "
	case provider.ReplayRevokesFamily, provider.ReplayGrace:
		text += "If it was answered, presenting it again makes the provider revoke the grant: the customer must connect again. "
	default:
		text += "If it was answered, presenting it again is refused, and the pair that came of it is lost: the customer must connect again. "
	}
	if left := grant.Time(row.Record.ExpiresAt).Sub(now); left > 0 {
		return text + fmt.Sprintf("The access token, which is valid for %s more, is given up, too", oncall.Span(left))
	}
	return text + "The access token has ended already: the fleet does so by itself as soon as somebody asks"
}
