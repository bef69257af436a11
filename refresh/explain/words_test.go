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
		"a 429, and its wait is over":      {due, "TL102", "nobody has asked", "the last exchange failed, throttled (HTTP 429)"},
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
