package explain

import (
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// A caller asked and got an error: nothing may say that nobody has asked, nor that nobody answered.
func TestNoExplanationDeniesAnAnswerThatThereWas(t *testing.T) {
	due := failed("throttled//429")
	due.Record.RetryAt = ago(sec)
	held := failed("ambiguous//500")
	held.Record.RetryAt = ago(sec)
	held.Record.Claim = grant.Claim{ID: "X", By: "w1", At: ago(2 * mins), Until: ago(sec), N: 1}
	for name, tt := range map[string]struct {
		c             Case
		code          string
		denies, wants string
	}{
		"a 429, and its wait is over":      {due, "TL102", "nobody has asked", "the last exchange failed: too many requests (HTTP 429)"},
		"a 500, past the hard deadline":    {held, "TL203", "whether the provider answered", "does not say"},
		"nobody knows yet of a lost Redis": {Case{App: "zoom", Tenant: "t", State: &State{}, Now: noon}, "TL306", "is UNKNOWN", "come back empty just now"},
	} {
		e := Judge(tt.c)
		var all []string
		for _, s := range e.Story {
			all = append(all, s.Text)
		}
		text := strings.Join(append(all, e.Unknown...), "\n")
		if e.Code != tt.code || strings.Contains(text, tt.denies) || !strings.Contains(text, tt.wants) {
			t.Errorf("%s: %s\n%s", name, e.Code, text)
		}
	}
}

// A customer whose calls are served reads that all is well, and one whose calls are not reads no promise that it ends well.
func TestTheTenantIsToldWhetherItWorksMeanwhile(t *testing.T) {
	served := func(c *Case) { c.Record.ExpiresAt = noon + 10*mins }
	past := func(c *Case) { c.Record.Claim.Until = ago(sec) }
	inUse := func(c *Case) { c.Record.UsedAt = ago(hour) }
	for name, tt := range map[string]struct {
		c          Case
		code, want string
	}{
		"a silent holder, served":     {with(claimed(), served), "TL202", well},
		"a silent holder, not served": {claimed(), "TL202", interrupted},
		"past the deadline, served":   {with(with(claimed(), past), served), "TL203", well},
		"past the deadline":           {with(claimed(), past), "TL203", interrupted},
		"and nobody comes":            {with(abandoned(), inUse), "TL203", ours},
		"a failure, served":           {with(failed("busy//503"), served), "TL201", well},
		"being refreshed":             {with(claimed(), func(c *Case) { c.leased("w1", 8000000000) }), "TL103", renewing},
	} {
		if e := Judge(tt.c); e.Code != tt.code || e.ForTenant != tt.want {
			t.Errorf("%s: %s %q", name, e.Code, e.ForTenant)
		}
	}
}
