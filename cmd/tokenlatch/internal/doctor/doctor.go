// Package doctor examines what grants need besides themselves: the Redis, the rights of its user, how it is set
// up, whether pushes arrive, whose clock is off; and it looks over the grants, the processes and the apps.
//
//	for f := range doctor.Examine(ctx, doctor.Patient{…}) {
//		…
//	}
//
// It asks no provider, opens no pair, and needs no keyset. It writes scratch keys only, which end by themselves.
package doctor

import (
	"context"
	"iter"
	"slices"
)

// Finding is what a check has found.
type Finding struct {
	ID       string `json:"id"`
	Category string `json:"category"`
	Result   Result `json:"result"`
	Text     string `json:"text"`
	Remedy   string `json:"remedy,omitempty"`
	Command  string `json:"command,omitempty"`
	Wrong    string `json:"may_be_wrong_when"`
}

// Checks are all checks, in their order.
func Checks() []Check {
	return slices.Concat(connection, durability, permissions, topology, push, clock, data, fleet, apps)
}

// Known reports whether there is a check, or a category, of a name.
func Known(name string) bool {
	return slices.ContainsFunc(Checks(), func(c Check) bool { return c.ID == name || c.Category() == name })
}

// Examine makes all checks, one after the other.
func Examine(ctx context.Context, p Patient) iter.Seq[Finding] {
	return func(yield func(Finding) bool) {
		x := &exam{Patient: p, ctx: ctx}
		x.askNodes()
		x.askApps()
		if !p.Pre && !slices.Contains(p.Skip, "data") {
			x.rows = takeSample(ctx, p.Inspector)
			x.addApps()
		}
		for _, c := range Checks() {
			if ctx.Err() != nil || !yield(x.make(&c)) {
				return
			}
		}
	}
}

// beforehand is what no deployment has yet.
var beforehand = []string{"data", "fleet", "apps"}

func (x *exam) make(c *Check) Finding {
	f := Finding{ID: c.ID, Category: c.Category(), Wrong: c.Wrong}
	var v verdict
	switch {
	case slices.Contains(x.Skip, c.ID) || slices.Contains(x.Skip, f.Category):
		v = skip("left out by --skip")
	case x.Pre && slices.Contains(beforehand, f.Category):
		v = skip("left out by --pre: there is none before a deployment")
	default:
		v = c.examine(x)
	}
	f.Result, f.Text = v.result, v.text
	if v.result == Warning || v.result == Failure {
		f.Remedy, f.Command = c.Remedy, v.command
	}
	return f
}
