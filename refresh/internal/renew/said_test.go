package renew

import (
	"slices"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
)

// Redis is lost: the first command that fails may do so before the subscriber connection has noticed it, and the
// second at once after that. The line of the link is the one that counts.
func TestAFailureIsSaidOnlyIfItLastsWhileTheLinkLives(t *testing.T) {
	const moment = policy.LookAgain
	for name, c := range map[string]struct {
		fails []time.Duration // when it does, after the first
		lost  []time.Duration // those at which the link is lost
		said  []time.Duration
	}{
		"two at once, and the link is lost a moment later": {
			fails: []time.Duration{0, time.Millisecond, 2 * moment, 3 * moment}, lost: []time.Duration{2 * moment, 3 * moment},
		},
		"one, and another before a moment has passed": {fails: []time.Duration{0, moment - 1}},
		"for a moment": {
			fails: []time.Duration{0, time.Millisecond, moment, 2 * moment, time.Hour}, said: []time.Duration{moment},
		},
		"the link was lost in between": {
			fails: []time.Duration{0, moment / 2, moment, 2*moment - 1, 2 * moment}, lost: []time.Duration{moment / 2}, said: []time.Duration{2 * moment},
		},
		"the link is lost once it is said": {
			fails: []time.Duration{0, moment, 2 * moment}, lost: []time.Duration{2 * moment}, said: []time.Duration{moment},
		},
	} {
		var l lasting
		var said []time.Duration
		first := time.Now()
		for _, at := range c.fails {
			if l.failed(first.Add(at), !slices.Contains(c.lost, at)) {
				said = append(said, at)
			}
		}
		if !slices.Equal(said, c.said) {
			t.Errorf("%s: said at %v, want %v", name, said, c.said)
		}
	}
}
