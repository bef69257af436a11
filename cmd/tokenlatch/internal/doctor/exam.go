package doctor

import (
	"context"
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

// Category returns what the check is about.
func (c *Check) Category() string {
	category, _, _ := strings.Cut(c.ID, ".")
	return category
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

// exam is one examination: what was asked once, for several checks.
type exam struct {
	Patient
	ctx   context.Context
	nodes []*node
	apps  []string
	whose error // why the apps are not known
	rows  sample
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
