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
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// Result of a check.
type Result string

// The results, the best first. Skipped says that nothing is known.
const (
	OK      Result = "ok"
	Skipped Result = "skipped"
	Warning Result = "warning"
	Failure Result = "failure"
)

// worse orders results.
var worse = map[Result]int{OK: 0, Skipped: 1, Warning: 2, Failure: 3}

// Check is one thing that is examined.
type Check struct {
	ID     string // "category.name"
	What   string // what should be
	Remedy string // what to do where it is not so
	Wrong  string // the finding may be wrong when …

	examine func(*exam) verdict
}

// Category is what the check is about.
func (c *Check) Category() string {
	category, _, _ := strings.Cut(c.ID, ".")
	return category
}

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

// Patient is what is examined.
type Patient struct {
	Redis     redis.UniversalClient
	Inspector *inspect.Inspector
	Prefix    string // of all keys
	// Place is the address, without a password. Encrypted says that nobody between can read along.
	Place     string
	Encrypted bool
	// Sentinels are their addresses, and Master the name that they watch; none where the address names a server.
	Sentinels []string
	Master    string
	// App is whose workers' rights are tried; "" for every app that there is.
	App string
	// Pre leaves out what a deployment brings first: grants, processes, apps.
	Pre bool
	// Skip are ids and categories.
	Skip []string
	// Timeout bounds one request.
	Timeout time.Duration
}

// Checks are all checks, in their order.
func Checks() []Check {
	return slices.Concat(connection, durability, permissions, topology, push, clock, data, fleet, apps)
}

// Known reports whether there is a check, or a category, of a name.
func Known(name string) bool {
	return slices.ContainsFunc(Checks(), func(c Check) bool { return c.ID == name || c.Category() == name })
}

// exam is one examination: what was asked once, for several checks.
type exam struct {
	Patient
	ctx   context.Context
	nodes []*node
	apps  []string
	whose error // why the apps are not known
	rows  sample
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

// verdict is what is found, in one sentence.
type verdict struct {
	result  Result
	text    string
	command string // that mends it; may be ""
}

// worst is the worst of some verdicts, the first of its kind.
func worst(all []verdict) verdict {
	w := all[0]
	for _, v := range all[1:] {
		if worse[v.result] > worse[w.result] {
			w = v
		}
	}
	return w
}
