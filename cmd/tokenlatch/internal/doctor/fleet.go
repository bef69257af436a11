package doctor

import (
	"slices"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

var fleet = []Check{
	{
		ID: "fleet.processes", What: "processes listen to their own heartbeat", Remedy: "start the workers, or look at why they do not reach this Redis",
		Wrong: "the workers have another prefix, or connect just now; one that has no grant in memory, and no Run, does not listen", examine: processes,
	},
	{
		ID: "fleet.renewals", What: "a process calls Run for each app that has renewals scheduled", Remedy: "let a worker call Run: go tokens.Run(ctx)",
		Wrong: "you do without Run, so that callers wait for each refresh; or all processes are of an earlier version, which does not say it", examine: renewals,
	},
	{
		ID: "fleet.silent", What: "each claim has a holder that lives", Remedy: "look for the processes that died; give them time to end (tokenlatch help deploying)",
		Wrong: "the holder is about to get its lease back", examine: silent,
	},
	{
		ID: "fleet.late", What: "no renewal is overdue by more than a minute", Remedy: "run Run in more workers; tokenlatch apps shows which app is late",
		Wrong: "the provider is slower than the budget of the app, or its circuit is open", examine: late,
	},
}

func processes(x *exam) verdict {
	n, err := x.Inspector.Processes(x.ctx)
	switch {
	case denied(err):
		return skip("this user may not ask who listens (+pubsub|channels)")
	case err != nil:
		return unknown(err)
	case n == 0 && len(x.rows.rows) == 0:
		return skip("no process listens, and there is no grant")
	case n == 0:
		return warn("no process listens: nobody renews these grants")
	}
	return ok("%s", plural(n, "process listens", "processes listen"))
}

func renewals(x *exam) verdict {
	var without []string
	var run int64
	all := int64(0)
	for _, app := range x.apps {
		due, err := x.Inspector.Due(x.ctx, app)
		if err != nil {
			return unknown(err)
		}
		n, err := x.Inspector.Renewers(x.ctx, app)
		switch {
		case denied(err):
			return skip("this user may not ask who listens (+pubsub|numsub)")
		case err != nil:
			return unknown(err)
		}
		all, run = all+due.Scheduled, run+n
		if due.Scheduled > 0 && n == 0 {
			without = append(without, oncall.ID(app)+" ("+oncall.Count(due.Scheduled)+" scheduled)")
		}
	}
	switch {
	case len(without) > 0:
		return warn("no process calls Run: %s", some(without))
	case all == 0 && run == 0:
		return skip("no grant is scheduled")
	}
	return ok("%s", plural(int(run), "process calls Run", "processes call Run"))
}

func silent(x *exam) verdict {
	var holders, names []string
	for _, row := range x.rows.rows {
		if c := row.Record.Claim; row.Err == nil && row.Record.State == grant.Active && c.Unresolved() && row.Lease.By == "" {
			names = append(names, name(row.Key))
			if by := oncall.ID(c.By); !slices.Contains(holders, by) {
				holders = append(holders, by)
			}
		}
	}
	if len(names) > 0 {
		return warn("%s went silent, with the claims of %s: %s", some(holders), plural(len(names), "grant", "grants"), some(names))
	}
	return x.rows.of(nil, warn, "each claim has a holder that lives", "")
}

func late(x *exam) verdict {
	var behind []string
	all := int64(0)
	for _, app := range x.apps {
		due, err := x.Inspector.Due(x.ctx, app)
		if err != nil {
			return unknown(err)
		}
		all += due.Scheduled
		if due.Overdue > 0 {
			behind = append(behind, oncall.ID(app)+" ("+oncall.Count(due.Overdue)+")")
		}
	}
	if len(behind) > 0 {
		return warn("renewals are overdue: %s", some(behind))
	}
	if all == 0 {
		return skip("no grant is scheduled")
	}
	return ok("%s scheduled, none is late", plural(int(all), "renewal is", "renewals are"))
}
