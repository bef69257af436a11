package holder

import "github.com/tokenlatch/tokenlatch/refresh/internal/observe"

// seen is what the observer is told of an exchange.
type seen struct {
	ended    func(observe.ExchangeEnd) // nil when it has been told
	takeover bool                      // another process's claim was taken over
	second   bool                      // it is the second opinion
	moved    bool                      // somebody else's result counts
	dead     bool                      // the grant was declared dead
	commit   string                    // id of the change that stored the pair
}

// result returns what came of a take-over.
func (s seen) result(outcome observe.Outcome, got bool) string {
	switch {
	case got:
		return observe.Recovered
	case outcome == observe.Adopted:
		return observe.ByOthers
	case s.dead:
		return observe.Lost
	}
	return observe.Failed
}
