package doctor

import (
	"context"
	"errors"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// sampled is how many grants are looked at.
const sampled = 500

var data = []Check{
	{
		ID: "data.damaged", What: "no record of 500 is damaged", Remedy: "find who else writes to these keys; a new consent begins a damaged record anew, and a worker that remembers it puts it right",
		Wrong: "a later version wrote the records: upgrade this command", examine: damaged,
	},
	{
		ID: "data.pairs", What: "each active grant of 500 has its pair", Remedy: "find who else deletes keys; tokenlatch explain says what becomes of such a grant",
		Wrong: "a worker is about to give it back", examine: pairs,
	},
	{
		ID: "data.claims", What: "no claim of 500 waits for a take-over that is overdue", Remedy: "run Run in a worker: it recovers them without a caller",
		Wrong: "the workers' Config.IdleAfter is shorter than 25 hours, and these grants are idle", examine: claims,
	},
}

// sample is a part of the grants.
type sample struct {
	rows []inspect.Row
	err  error // why there are not more
}

func takeSample(ctx context.Context, in *inspect.Inspector) (s sample) {
	for row, err := range in.List(ctx, "") {
		if err != nil {
			s.err = err
			continue
		}
		if s.rows = append(s.rows, row); len(s.rows) == sampled {
			break
		}
	}
	return s
}

// of judges those that are bad among some; few says what is looked at.
func (s *sample) of(names []string, bad func(format string, args ...any) verdict, well, ill string) verdict {
	switch {
	case len(names) > 0:
		return bad("%s of %s %s: %s", oncall.Count(int64(len(names))), plural(len(s.rows), "grant", "grants"), ill, some(names))
	case s.err != nil && len(s.rows) == 0:
		return unknown(s.err)
	case len(s.rows) == 0:
		return skip("there is no grant")
	}
	return ok("%s: %s", plural(len(s.rows), "grant", "grants"), well)
}

func name(k grant.Key) string { return oncall.ID(k.App) + " " + oncall.ID(k.Tenant) }

func damaged(x *exam) verdict {
	var bad, newer []string
	for _, row := range x.rows.rows {
		switch {
		case errors.Is(row.Err, tokencache.ErrNewer):
			newer = append(newer, name(row.Key))
		case row.Err != nil:
			bad = append(bad, name(row.Key))
		}
	}
	if len(bad) == 0 && len(newer) > 0 {
		return x.rows.of(newer, warn, "", "were written by a later version")
	}
	return x.rows.of(bad, fail, "no record is damaged", "have a damaged record")
}

func pairs(x *exam) verdict {
	var active []grant.Key
	for _, row := range x.rows.rows {
		if row.Err == nil && row.Record.State == grant.Active {
			active = append(active, row.Key)
		}
	}
	without, err := x.Inspector.WithoutPair(x.ctx, active)
	if err != nil && len(without) == 0 {
		return unknown(err)
	}
	var names []string
	for _, k := range without {
		names = append(names, name(k))
	}
	return x.rows.of(names, fail, "each active one has its pair", "are active without a pair")
}

func claims(x *exam) verdict {
	var names []string
	for _, row := range x.rows.rows {
		if oncall.Unattended(&row) {
			names = append(names, name(row.Key))
		}
	}
	return x.rows.of(names, warn, "no claim waits for a take-over that nobody makes", "have a claim that nobody takes over")
}
