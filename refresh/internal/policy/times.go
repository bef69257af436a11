package policy

import (
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

const (
	// Slack is added to a deadline that another process, or Redis, keeps too: clocks need not agree
	// to the millisecond.
	Slack = 20 * time.Millisecond
	// LookAgain is the soonest that what needs nothing just now is looked at again.
	LookAgain = time.Second
	// AskAgain is how soon a part of Redis that did not answer is asked again, and how soon a state that
	// stops the app is read again: an operator may have deleted it, or a message may be lost.
	AskAgain = 5 * time.Second
	// ReckonEvery is how often a process reckons whether the budget will do, see [LookAhead].
	ReckonEvery = 5 * time.Second
)

// How long a grant is left alone after a failure, see [RetryIn].
const (
	FirstRetry = time.Second
	maxRetry   = 5 * time.Minute
	// suspectAfter is how many answers that no rule knows make a grant suspect.
	suspectAfter = 5
	suspectRetry = 30 * time.Minute
	// MaxPause is how long one tenant's answer may stop it, maxAppPause the whole app.
	MaxPause    = 15 * time.Minute
	maxAppPause = 5 * time.Minute
	// unusableRow is what RetryIn takes for a provider that sends an unusable access token again.
	unusableRow = 20

	// SlowRetry is when callers may ask again about an exchange that takes longer than its timeout.
	SlowRetry = 3 * time.Second
	// LostRetry is when a caller may ask again about a tenant whose grant Redis may have lost.
	LostRetry = time.Minute
)

// When the app is tried again.
const (
	firstProbe = time.Second
	maxProbe   = time.Minute
	// probesAtOnce follow each other without a pause after the circuit has opened.
	probesAtOnce = 3
	// nearProbe is what a call waits for.
	nearProbe = 2 * time.Second

	// DoubtedRetry is how often one of the grants is tried whose death is doubted, DeathsDoubted for how
	// long more deaths are doubted.
	DoubtedRetry  = time.Minute
	DeathsDoubted = 24 * time.Hour
	// DeathsWithin is within how long at most MaxDeaths are believed.
	DeathsWithin = 5 * time.Minute
)

// How an API's refusals of access tokens count.
const (
	// freshFor is how old an access token may be and still count as refused at once. An older
	// one has worked: somebody has killed it, and a new one helps.
	freshFor = 10 * time.Minute
	// refusalsForgotten after the next exchange could have been forced: a row of refusals ends.
	refusalsForgotten = time.Hour
	maxRefusalWait    = 30 * time.Minute
	// diedEarly is the percent of its life that an access token must have had before it when it was
	// refused, foreignRow how many such generations in a row are another program's doing.
	diedEarly  = 25
	foreignRow = 3
	// leastLife is the youngest age of death that tells of a lifetime: an API that refuses all tokens refuses
	// them younger. sameAge is by how many percent the ages of a row may differ, lifeShare how many percent
	// of the lowest are taken for the life.
	leastLife = 2 * time.Minute
	sameAge   = 10
	lifeShare = 95
)

// How long one exchange may take.
const (
	// ListenFor is how long an answer is listened to, once the request may have been sent and presenting
	// it again could do harm.
	ListenFor = 5 * time.Minute
	// SecondOpinionAfter is how long after a refusal the same refresh token is presented once more. A
	// provider's replica that lags behind has caught up by then, and a token that has just been refused
	// has nothing to lose.
	SecondOpinionAfter = 2 * time.Second
	// SecondOpinionBudget is how long the second presentation waits for the app's budget.
	SecondOpinionBudget = 5 * time.Second
	// longEnough is how long a provider must have refused a grant in ways that no rule knows, with its
	// access token expired, before the grant is dead.
	longEnough = 3 * 24 * time.Hour
)

// What the renewals in the background do, and when.
const (
	// idleUnknown is how often an idle grant is refreshed where nobody knows how long its
	// refresh token lives unused: most live 30 days and more.
	idleUnknown = 14 * 24 * time.Hour
	// warnAhead of the end of a refresh token, but not before three quarters of its life.
	warnAhead = 14 * 24 * time.Hour
	// restsForGood is for a grant about which nothing will be due as long as nobody asks. It
	// stays in the due set: Repair takes a grant that is not there for lost.
	restsForGood = 30 * 24 * time.Hour
	// RestsLong: a grant that is looked at no sooner is not in use.
	RestsLong = 12 * time.Hour
	// RevivalLater is how long a dead grant waits for which there was no room.
	RevivalLater = time.Minute
)

// revivalWaits are how long after its death, and after each revival that failed, the refresh token of
// a grant is presented again in the background: what was refused by mistake comes back by itself.
var revivalWaits = []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}

// Jitter returns d and up to a quarter more.
func Jitter(d time.Duration, random float64) time.Duration {
	return d + time.Duration(random*float64(d/4))
}

// doubling returns first, twice that, … up to most, which ends it.
func doubling(first, most time.Duration) (waits []time.Duration) {
	for d := first; d < most; d *= 2 {
		waits = append(waits, d)
	}
	return append(waits, most)
}

func jitteredAll(waits []time.Duration, random float64) []time.Duration {
	for i := range waits {
		waits[i] = Jitter(waits[i], random)
	}
	return waits
}

// refusalWaits returns how long after the first, second, … exchange in a row which a refused
// access token has forced the next may be. The first of a fresh generation that is refused
// may follow at once: a token can be slow in getting round at the provider.
func refusalWaits(random float64) []time.Duration {
	return jitteredAll(append([]time.Duration{0}, doubling(time.Minute, maxRefusalWait)...), random)
}

// Refusals says what it may cost that APIs refuse access tokens.
func Refusals(random float64) grant.Refusals {
	return grant.Refusals{
		Waits: refusalWaits(random), Forget: refusalsForgotten, Fresh: freshFor, Early: diedEarly, Foreign: foreignRow,
		LeastLife: leastLife, SameAge: sameAge, LifeShare: lifeShare,
	}
}

// ProbeWaits returns how long after the first, second, … refusal in a row the next exchange may
// try whether the provider accepts the client again.
func ProbeWaits(random float64) []time.Duration {
	waits := make([]time.Duration, probesAtOnce)
	for _, d := range doubling(firstProbe, maxProbe) {
		waits = append(waits, d)
		if d == nearProbe {
			waits = append(waits, d, d, d, d)
		}
	}
	return jitteredAll(waits, random)
}

// RetryIn returns how long the whole fleet leaves a grant alone after its n-th failure in a
// row (from 1): exponential with jitter, or what the provider asks for if that is longer; no
// longer than MaxPause, and up to a quarter more.
func RetryIn(n int64, e *provider.Error, random float64) time.Duration {
	limit := maxRetry
	if e.Class == provider.Refused && n >= suspectAfter {
		limit = suspectRetry
	}
	waits := doubling(FirstRetry, limit)
	d := waits[min(max(n, 1), int64(len(waits)))-1]
	d = d/2 + time.Duration(random*float64(d/2))
	return max(d, Jitter(min(e.RetryAfter, MaxPause), random))
}

// RetryUnusable returns when a grant is refreshed again whose new access token cannot be sent. Each try
// spends a refresh token and brings perhaps the same again: the second follows soon, the others every
// 15 to 30 minutes. again says that the access token before was unusable too.
func RetryUnusable(e *provider.Error, again bool, random float64) time.Duration {
	if again {
		return RetryIn(unusableRow, e, random)
	}
	return RetryIn(1, e, random)
}

// firstPause is how long after its first attempt what Redis did not take is tried again.
const firstPause = 50 * time.Millisecond

// Backoff is how long a process waits between its attempts to store something in Redis: at first some
// 50 ms, then twice as long each time, up to Most.
type Backoff struct {
	Most time.Duration
	last time.Duration
}

// Next returns how long to wait now. The second half of that is random.
func (b *Backoff) Next(random float64) time.Duration {
	b.last = min(max(firstPause, 2*b.last), b.Most)
	return b.last/2 + time.Duration(random*float64(b.last/2))
}

// Coarseness returns how old a note that a grant is in use may become: at least a minute,
// unless idleAfter is a matter of minutes itself.
func Coarseness(idleAfter time.Duration) time.Duration {
	return max(min(time.Minute, idleAfter/4), idleAfter/50)
}
