package refreshtest

import (
	"time"
)

// Stats counts what the server has seen.
type Stats struct {
	Exchanges    int // presentations of a refresh token, and mints, well-formed or not
	Pairs        int // presentations that brought a pair, delivered or not
	Refused      int // requests at the token endpoint that were refused (RFC 6749 §5.2), unscripted
	APICalls     int // requests at the API
	Unauthorized int // those answered 401
}

// book is what a server has seen. Guarded by world.mu.
type book struct {
	ledger   Ledger
	awaited  int // arrivals that AwaitExchange has handed out
	inFlight int // exchanges that arrived and were not answered yet
	stats    Stats
	changed  chan struct{} // closed and replaced at every change that an Await may wait for
}

// arrive writes an exchange into the ledger and returns its number.
func (b *book) arrive(p Presentation) int {
	p.N, p.Outcome = len(b.ledger)+1, Pending
	b.ledger = append(b.ledger, p)
	b.stats.Exchanges++
	b.inFlight++
	b.signal()
	return p.N
}

// decide fills in exchange n's outcome.
func (b *book) decide(n int, outcome Outcome, code string, now time.Time) {
	p := &b.ledger[n-1]
	p.Outcome, p.Code, p.Decided = outcome, code, now
	if outcome.Committed() {
		b.stats.Pairs++
	}
	if code != "" {
		b.stats.Refused++
	}
	b.signal()
}

// finish ends an exchange.
func (b *book) finish() {
	b.inFlight--
	b.signal()
}

// signal wakes everybody in await.
func (b *book) signal() {
	close(b.changed)
	b.changed = make(chan struct{})
}
