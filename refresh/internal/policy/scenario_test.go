package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Each scenario in testdata describes a grant, and lists what a flight decides about it for each want, and
// what the renewals plan. The arguments say how it differs from a grant at rest: one that is active, was
// consented to an hour ago, has an access token that expired a second ago, and is not in use. Times are
// relative to now. go test ./refresh/internal/policy -rewrite writes the lists anew: read the difference.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "grant" {
				d.Fatalf(t, "unknown directive %s", d.Cmd)
			}
			return scene(t, d)
		})
	})
}

// wants are what a flight can be for.
var wants = []struct {
	name string
	want Want
}{
	{"token", Want{}},
	{"renewal", Want{Early: true}},
	{"forced", Want{After: Position{rested.Epoch, rested.Generation}}},
	{"refused", Want{After: Position{rested.Epoch, rested.Generation}, Refused: true}},
	{"revival", Want{Early: true, Revival: true}},
}

const scenarioNow = int64(1_800_000_000_000)

// rested is the grant at rest.
var rested = grant.Record{
	State: grant.Active, Epoch: scenarioNow - 3_600_000, Generation: 7,
	IssuedAt: scenarioNow - 3_600_000, RefreshAt: scenarioNow - 360_000, ExpiresAt: scenarioNow - 1000,
}

func scene(t *testing.T, d *datadriven.TestData) string {
	v := View{Record: rested, Now: scenarioNow}
	rules := Rules{IdleAfter: 25 * time.Hour}
	for _, a := range d.CmdArgs {
		set, ok := sceneFields[a.Key]
		if !ok {
			d.Fatalf(t, "a grant has no %s", a.Key)
		}
		if err := set(&v, &rules, strings.Join(a.Vals, " ")); err != nil {
			d.Fatalf(t, "%s: %v", a.Key, err)
		}
	}
	var out strings.Builder
	var names, said []string // wants of which the same is decided share a line
	for _, w := range wants {
		is := sayDecision(Decide(v, w.want))
		if i := slices.Index(said, is); i >= 0 {
			names[i] += ", " + w.name
			continue
		}
		names, said = append(names, w.name), append(said, is)
	}
	if len(said) == 1 {
		names[0] = "every want"
	}
	for i, name := range names {
		fmt.Fprintf(&out, "%s: %s\n", name, said[i])
	}
	fmt.Fprintf(&out, "renewals: %s\n", sayPlan(rules.Plan(v)))
	return out.String()
}

// sceneFields set what a scenario says of its grant.
var sceneFields = map[string]func(v *View, r *Rules, val string) error{
	"token": func(v *View, _ *Rules, val string) error {
		switch val {
		case "fresh":
			v.Valid, v.Fresh = true, true
			v.IssuedAt, v.RefreshAt, v.ExpiresAt = v.Now-600_000, v.Now+2_640_000, v.Now+3_000_000
		case "due":
			v.Valid = true
			v.IssuedAt, v.RefreshAt, v.ExpiresAt = v.Now-3_300_000, v.Now-60_000, v.Now+300_000
		default:
			return fmt.Errorf("%q is neither fresh nor due", val)
		}
		return nil
	},
	"state":      func(v *View, _ *Rules, val string) error { v.State = grant.State(val); return nil },
	"reason":     func(v *View, _ *Rules, val string) error { v.Reason = val; return nil },
	"error":      func(v *View, _ *Rules, val string) error { v.Error, v.Fails = val, max(v.Fails, 1); return nil },
	"fails":      count(func(v *View) *int64 { return &v.Fails }),
	"generation": count(func(v *View) *int64 { return &v.Generation }),
	"rejects":    count(func(v *View) *int64 { return &v.Rejects }),
	"rejected":   count(func(v *View) *int64 { return &v.RejectedGen }),
	"retry":      at(func(v *View) *int64 { return &v.RetryAt }),
	"failed":     at(func(v *View) *int64 { return &v.ErrorAt }),
	"reject":     at(func(v *View) *int64 { return &v.RejectAt }),
	"issued":     at(func(v *View) *int64 { return &v.IssuedAt }),
	"due":        at(func(v *View) *int64 { return &v.RefreshAt }),
	"consented":  at(func(v *View) *int64 { return &v.Epoch }),
	"used":       at(func(v *View) *int64 { return &v.UsedAt }),
	"warned":     at(func(v *View) *int64 { return &v.WarnedAt }),
	"grant-ends": at(func(v *View) *int64 { return &v.RefreshTokenExpiresAt }),
	"claimed":    at(func(v *View) *int64 { v.Claim.ID, v.Claim.N = "c", max(v.Claim.N, 1); return &v.Claim.At }),
	"deadline":   at(func(v *View) *int64 { v.Claim.ID, v.Claim.N = "c", max(v.Claim.N, 1); return &v.Claim.Until }),
	"opens":      at(func(v *View) *int64 { return &v.Opens }),
	"lease": func(v *View, _ *Rules, val string) (err error) {
		v.LeaseHeld, err = time.ParseDuration(val)
		return err
	},
	"behind": func(v *View, _ *Rules, val string) (err error) { v.Behind, err = millisOf(val); return err },
	"sealed": func(v *View, _ *Rules, _ string) error { v.Broken = grant.ErrSealed; return nil },
	"mints":  func(_ *View, r *Rules, _ string) error { r.Mints = true; return nil },
	"ahead":  func(_ *View, r *Rules, val string) (err error) { r.Ahead, err = time.ParseDuration(val); return err },
	"idle-life": func(_ *View, r *Rules, val string) (err error) {
		r.Profile.RefreshTokenIdle, err = inDays(val)
		return err
	},
	"fixed-life": func(_ *View, r *Rules, val string) (err error) {
		r.Profile.RefreshTokenLife, err = inDays(val)
		return err
	},
	"fingerprint": func(v *View, _ *Rules, val string) error { v.RefreshFP = val; return nil },
}

func count(of func(*View) *int64) func(*View, *Rules, string) error {
	return func(v *View, _ *Rules, val string) (err error) {
		*of(v), err = strconv.ParseInt(val, 10, 64)
		return err
	}
}

func at(of func(*View) *int64) func(*View, *Rules, string) error {
	return func(v *View, _ *Rules, val string) error {
		ms, err := millisOf(val)
		*of(v) = v.Now + ms
		return err
	}
}

// millisOf reads a duration that may be in days.
func millisOf(val string) (int64, error) {
	d, err := inDays(val)
	return d.Milliseconds(), err
}

func inDays(val string) (time.Duration, error) {
	n, ok := strings.CutSuffix(val, "d")
	if !ok {
		return time.ParseDuration(val)
	}
	f, err := strconv.ParseFloat(n, 64)
	return time.Duration(f * 24 * float64(time.Hour)), err
}

func sayDecision(d Decision) string {
	switch d.Act {
	case ActServe:
		return "serve"
	case ActWait:
		return "wait " + sayFor(d.Wait)
	case ActReport:
		return "report the refusal"
	case ActPresent:
		return "present"
	}
	who := [...]string{WhoNobody: "nobody acts", WhoTenant: "the tenant acts", WhoOperator: "the operator acts", WhoNotConnected: "not connected"}[d.Trouble.Who]
	said := fmt.Sprintf("give up: %s, %s", who, cmp.Or(d.Trouble.Code, "no code"))
	if d.Trouble.Status != 0 {
		said += fmt.Sprintf(" (%d)", d.Trouble.Status)
	}
	if d.Trouble.Retry != 0 {
		said += ", again in " + sayFor(d.Trouble.Retry)
	}
	if errors.Is(d.Trouble.Why, ErrMassDeath) {
		said += ", not believed"
	}
	return said
}

func sayPlan(p Plan) string {
	switch p.Do {
	case DoRest:
		return "rest " + sayFor(time.Duration(p.Next-scenarioNow)*time.Millisecond)
	case DoExchange:
		return "exchange, due " + sayFor(time.Duration(scenarioNow-p.Next)*time.Millisecond) + " ago"
	}
	return [...]string{DoRevive: "revive", DoWarn: "warn", DoDrop: "drop", DoLeave: "leave it to others"}[p.Do]
}

// sayFor spells a duration, the longer the rougher.
func sayFor(d time.Duration) string {
	if d >= 48*time.Hour {
		return strconv.FormatFloat(d.Hours()/24, 'f', 2, 64) + "d"
	}
	return d.String()
}
