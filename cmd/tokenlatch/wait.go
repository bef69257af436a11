package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// waiting are the flags of wait.
type waiting struct {
	*globals
	condition string
	patience  time.Duration
	until     goal
}

func newWait(g *globals) *cobra.Command {
	w := &waiting{globals: g}
	cmd := &cobra.Command{
		Use: "wait APP TENANT --for CONDITION [flags]", Short: "wait until a grant is as wished",
		Long: `Wait until a grant is as wished. It hears of each change in the moment it is
made, and needs neither keyset nor configuration. The conditions:

  active         the tenant has connected
  fresh          the access token is valid, and not due for renewal
  generation=N   the grant has its Nth pair, or a later one
  gone           the grant is disconnected, or there is none

Exit code 3: the tenant must act. With fresh and generation=N that ends the
wait at once, since nothing comes by itself. Exit code 4: the time is over, and
the grant may still become so.`,
		Example: `tokenlatch wait zoom acme --for active --timeout 10m   # until consent
tokenlatch wait zoom acme --for generation=7 && ./deploy
tokenlatch wait zoom acme --for fresh --json | jq .generation`,
		Args: named("APP", "TENANT"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			k := grant.Key{App: args[0], Tenant: args[1]}
			if err := k.Validate(); err != nil {
				return cli.Usage(err)
			}
			if w.until, err = goalOf(w.condition); err != nil {
				return cli.Usage(err)
			}
			if w.patience <= 0 {
				return cli.Usage(fmt.Errorf("--timeout %s: must be longer than 0s", w.patience))
			}
			return w.wait(cmd, k)
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&w.condition, "for", "", "`CONDITION` to wait for: active, fresh, generation=N, gone")
	cmd.Flags().DurationVar(&w.patience, "timeout", time.Minute, "how long to wait")
	return cmd
}

// goal is a condition. met says whether a grant fulfils it; row is nil where there is none.
type goal struct {
	name  string
	met   func(row *inspect.Row) bool
	alone bool // nothing but the tenant brings it, so that a wait for the tenant makes sense
}

func goalOf(text string) (goal, error) {
	active := func(row *inspect.Row) bool {
		return row != nil && row.Err == nil && row.Record.State == grant.Active
	}
	if number, ok := strings.CutPrefix(text, "generation="); ok {
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 1 {
			return goal{}, errors.New("--for generation=N: N must be 1 or more")
		}
		return goal{name: text, met: func(row *inspect.Row) bool { return active(row) && row.Record.Generation >= n }}, nil
	}
	switch text {
	case "":
		return goal{}, errors.New("--for is missing: active, fresh, generation=N or gone")
	case "active":
		return goal{name: text, met: active, alone: true}, nil
	case "fresh":
		return goal{name: text, met: func(row *inspect.Row) bool {
			return active(row) && row.Record.ExpiresAt > row.Now && row.Record.RefreshAt > row.Now && !row.Record.Refused()
		}}, nil
	case "gone":
		return goal{name: text, alone: true, met: func(row *inspect.Row) bool {
			return row == nil || row.Err == nil && row.Record.State == grant.Disconnected
		}}, nil
	}
	return goal{}, fmt.Errorf("--for %q is not known; there are: active, fresh, generation=N, gone", text)
}

// tenantActs reports whether nothing but a consent makes a grant active.
func tenantActs(row *inspect.Row) bool {
	return row == nil || row.Err == nil && row.Record.State != grant.Active
}

func (w *waiting) wait(cmd *cobra.Command, k grant.Key) error {
	s, err := w.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	entries, err := s.Journal(cmd.Context(), k) // first, so that no change falls between it and the record
	if err != nil {
		return w.failed(s, err)
	}
	last := ""
	if len(entries) > 0 {
		last = entries[len(entries)-1].ID
	}
	row, err := rowAt(cmd.Context(), s, k)
	if err != nil {
		return w.failed(s, err)
	}
	if w.over(row) {
		return w.end(k, row)
	}
	w.talk("waiting for %s; Ctrl-C ends it", w.until.name)
	ctx, cancel := context.WithTimeout(cmd.Context(), w.patience)
	defer cancel()
	if row, err = w.follow(ctx, s, k, last); cmd.Context().Err() != nil {
		return cmd.Context().Err()
	} else if err != nil {
		return w.failed(s, err)
	}
	return w.end(k, row)
}

// nearlyOver is how long before the end of a wait a reading may be cut off by it.
const nearlyOver = 100 * time.Millisecond

// follow looks at the grant after each change, until the wait is over or ctx ends. While Redis does not answer
// it goes on.
func (w *waiting) follow(ctx context.Context, s *session, k grant.Key, last string) (*inspect.Row, error) {
	away, ends := false, time.Now().Add(w.patience-nearlyOver)
	for _, err := range s.Follow(ctx, k, last) {
		var row *inspect.Row
		if err == nil {
			row, err = rowAt(ctx, s, k)
		}
		switch {
		case err != nil && !away && ctx.Err() == nil && time.Now().Before(ends): // else it is the end of the wait that cuts a reading off
			away = true
			w.talk("%v; trying again each second", w.failed(s, err))
		case err == nil && w.over(row):
			return row, nil
		case err == nil:
			away = false
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.globals.timeout)
	defer cancel()
	return rowAt(ctx, s, k)
}

// over reports whether there is nothing to wait for any more.
func (w *waiting) over(row *inspect.Row) bool {
	return w.until.met(row) || !w.until.alone && tenantActs(row)
}

// rowAt is a grant, or nil where there is none.
func rowAt(ctx context.Context, s *session, k grant.Key) (*inspect.Row, error) {
	row, err := s.Grant(ctx, k)
	if errors.Is(err, tokencache.ErrNone) {
		return nil, nil
	}
	return &row, err
}

// end says how the grant is now.
func (w *waiting) end(k grant.Key, row *inspect.Row) error {
	which := oncall.ID(k.App) + " " + oncall.ID(k.Tenant)
	switch {
	case w.until.met(row) && row == nil:
		if w.asJSON() {
			return w.object(gone{App: k.App, Tenant: k.Tenant, Gone: true})
		}
		return w.text(which + ": there is no such grant\n")
	case w.until.met(row):
		return w.showGrant(row, oncall.Look(row).State)
	}
	out := &cli.Error{Exit: cli.ExitTenant, Code: "not_connected", Err: fmt.Errorf("%s is not %s: there is no such grant", which, w.until.name), Hint: "tokenlatch explain " + which}
	if row == nil {
		return out
	}
	f := oncall.Look(row)
	out.Code, out.Err = f.State, fmt.Errorf("%s is not %s: it is %s", which, w.until.name, f.State)
	if f.Why != "" {
		out.Err = fmt.Errorf("%w (%s)", out.Err, f.Why)
	}
	if w.until.name == "gone" || !tenantActs(row) {
		out.Exit, out.Code, out.RetryAfter = cli.ExitLater, "timeout", laterBy(row)
	}
	return out
}

// gone is a grant that is not there, in JSON: docs/json/wait.schema.json.
type gone struct {
	App    string `json:"app"`
	Tenant string `json:"tenant"`
	Gone   bool   `json:"gone"`
}

// laterBy returns when a grant may have changed by itself.
func laterBy(row *inspect.Row) time.Duration {
	at := row.Record.WaitsUntil(row.Now)
	if row.Record.Claim.Unresolved() {
		at = max(at, row.Record.Claim.Until)
	}
	return max(time.Second, time.Duration(at-row.Now)*time.Millisecond)
}
