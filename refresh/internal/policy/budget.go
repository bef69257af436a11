package policy

import (
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// Limit is a rate: Rate exchanges in Period, of which Burst may come at once.
type Limit struct {
	Rate, Burst int
	Period      time.Duration
}

// RateLimit returns the rate of all exchanges. It stays below the budget: exchanges that were let
// through evenly can still reach the provider in bunches.
func RateLimit(b provider.Budget) Limit {
	return Limit{Rate: max(1, b.Requests*8/10), Burst: max(1, b.Requests/10), Period: b.Per}
}

// BackgroundLimit returns the part of it that exchanges nobody waits for may use.
func BackgroundLimit(b provider.Budget) Limit {
	l := RateLimit(b)
	l.Rate = max(1, l.Rate*3/4)
	return l
}

// Crowd returns how many of the exchanges in flight may be such that nobody waits for.
func Crowd(b provider.Budget) int { return max(1, b.Concurrency*3/4) }

// PerSecond returns how many exchanges nobody waits for the budget allows; 0 for no limit.
func PerSecond(b provider.Budget) float64 {
	if b.Requests == 0 {
		return 0
	}
	l := BackgroundLimit(b)
	return float64(l.Rate) / l.Period.Seconds()
}

// Horizons are how far renewals look ahead: 10 s to an hour and more, each a quarter more than the
// one before, or there would be gaps in which a crowd is seen by none.
var Horizons = func() (h []time.Duration) {
	for d := 10 * time.Second; d < 90*time.Minute; d += d / 4 {
		h = append(h, d)
	}
	return h
}()

// LookAhead returns the longest horizon within which more is due than a rate allows, with a fifth to
// spare, and the time in which nobody reckons. counts are how many grants are due within each horizon.
func LookAhead(counts []int64, perSecond float64) (ahead time.Duration) {
	for i, n := range counts {
		if float64(n) > 0.8*perSecond*(Horizons[i]-2*ReckonEvery).Seconds() {
			ahead = Horizons[i]
		}
	}
	return ahead
}
