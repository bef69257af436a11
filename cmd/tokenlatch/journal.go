package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

func newJournal(g *globals) *cobra.Command {
	follow := false
	cmd := &cobra.Command{
		Use: "journal APP TENANT [flags]", Short: "what happened to one grant, the oldest first",
		Long: `Print a grant's journal: the last 32 changes of its state, each with the process
that made it and why. Times are UTC. tokenlatch help operations journal says
what the kinds mean.`,
		Example: `tokenlatch journal zoom acme
tokenlatch journal zoom acme -f         # and what comes, until Ctrl-C
tokenlatch journal zoom acme --jsonl | jq -r .kind`,
		Args: named("APP", "TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			k := grant.Key{App: args[0], Tenant: args[1]}
			if err := k.Validate(); err != nil {
				return cli.Usage(err)
			}
			if follow && g.json {
				return cli.Usage(errors.New("--follow --json: that array would never end; give --jsonl"))
			}
			return g.journal(cmd, k, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until Ctrl-C")
	return cmd
}

func (g *globals) journal(cmd *cobra.Command, k grant.Key, follow bool) error {
	s, err := g.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	entries, err := s.Journal(cmd.Context(), k)
	if err == nil && len(entries) == 0 && !follow {
		_, err = s.Status(cmd.Context(), k)
	}
	switch {
	case errors.Is(err, tokencache.ErrNone):
		return g.noGrant(cmd.Context(), s, k)
	case err != nil:
		return g.failed(s, err)
	}
	o, last, width := g.items(g.stdout), "", clockWidth(entries, time.Now())
	for _, e := range entries {
		last = e.ID
		if err := g.entry(o, e, width); err != nil {
			return err
		}
	}
	if !follow {
		return g.endJournal(o, k, len(entries))
	}
	if err := o.w.Flush(); err != nil {
		return err
	}
	g.talk("listening, times are UTC; Ctrl-C ends it")
	return g.follow(cmd.Context(), s, k, o, last, width)
}

func (g *globals) entry(o *items, e inspect.Entry, width int) error {
	if g.asJSON() {
		return o.add(oncall.EntryOf(e))
	}
	_, err := o.w.WriteString(entryLine(e, time.Now(), width).Text(0, g.colour()) + "\n")
	return err
}

func (g *globals) endJournal(o *items, k grant.Key, n int) error {
	if g.asJSON() {
		return o.end(nil)
	}
	if n == 0 {
		g.talk("its journal is empty. `tokenlatch inspect %s %s` has its state", oncall.ID(k.App), oncall.ID(k.Tenant))
	} else {
		g.talk("times are UTC. `tokenlatch explain %s %s` says what it means", oncall.ID(k.App), oncall.ID(k.Tenant))
	}
	return o.w.Flush()
}

// follow prints what comes until ctx ends. While Redis does not answer it says so once, and goes on.
func (g *globals) follow(ctx context.Context, s *session, k grant.Key, o *items, last string, width int) error {
	away := false
	for e, err := range s.Follow(ctx, k, last) {
		if err != nil {
			if !away {
				g.talk("%v; trying again each second", g.failed(s, err))
			}
			away = true
			continue
		}
		if away {
			away = false
			g.talk("Redis answers again")
		}
		if err := g.entry(o, e, width); err != nil {
			return err
		}
		if err := o.w.Flush(); err != nil {
			return err
		}
	}
	return ctx.Err()
}
