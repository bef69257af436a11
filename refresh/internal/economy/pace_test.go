package economy

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

func always() bool { return true }

func never() bool { return false }

// paced is the pacer of a process, under a budget of so many exchanges at once.
func paced(t *testing.T, most int) *Pacer {
	t.Helper()
	cache, err := tokencache.New(redistest.Start(t).Client(t), tokencache.Config{Prefix: redistest.Prefix(t), AEAD: tokencache.Plaintext})
	if err != nil {
		t.Fatal(err)
	}
	e := New(Config{
		App: cache.App("zoom"), Redis: cache.Redis(), ClaimTimeout: time.Minute, Waiting: t.Context(),
		Profile: provider.Profile{Budget: provider.Budget{Concurrency: most}}, Log: zerolog.Nop(),
	})
	t.Cleanup(func() {
		e.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := cache.App("zoom").Forget(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := cache.App("zoom").WatchApp(t.Context()); err != nil { // a new subscription is news, too
		t.Fatal(err)
	}
	return e.Pacer
}

func TestAnExchangeThatACallerWaitsForHasTheNextTurn(t *testing.T) {
	becomes := false
	crowd, later := NewTicket(never), NewTicket(func() bool { return becomes })
	urgent, second := NewTicket(always), NewTicket(always)
	p := &Pacer{queue: []*Ticket{crowd, later, urgent, second}}
	if p.first() != urgent {
		t.Error("of all that wait, not the first that somebody waits for")
	}
	becomes = true
	if p.first() != later {
		t.Error("not one for which somebody waits by now, and which came first")
	}
	p.queue = []*Ticket{crowd, NewTicket(never)}
	if p.first() != crowd {
		t.Error("of those that nobody waits for, not the first")
	}
}

// There is a place, but somebody of this process waits for one.
func TestARenewalGivesWayToAnExchangeThatSomebodyWaitsFor(t *testing.T) {
	t.Parallel()
	p := paced(t, 4)
	caller := NewTicket(always)
	p.change(func() { p.queue = append(p.queue, caller) })
	if _, err := p.enterNow(NewTicket(never)); !errors.Is(err, ErrNoPlace) {
		t.Errorf("it does not give way: %v", err)
	}
	p.change(func() { p.queue = nil })
	leave, err := p.enterNow(NewTicket(never))
	if err != nil {
		t.Fatalf("nobody waits, and three are for renewals: %v", err)
	}
	leave()
}

// A renewal that finds no place tries again when one is free, and not before: each try takes a lease.
func TestARenewalStandsByUntilThereIsAPlace(t *testing.T) {
	t.Parallel()
	p := paced(t, 1)
	leave, err := p.enterNow(NewTicket(never))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.enterNow(NewTicket(never)); !errors.Is(err, ErrNoPlace) {
		t.Fatalf("a second place: %v", err)
	}
	next := NewTicket(never)
	ready := make(chan error, 1)
	go func() { ready <- p.StandBy(t.Context(), next) }()
	select {
	case err := <-ready:
		p.mu.Lock()
		defer p.mu.Unlock()
		if time.Now().Before(p.full) { // on a busy machine the time to look again may have come
			t.Fatalf("it tries though there is no place: %v", err)
		}
		ready <- err
	case <-time.After(5 * policy.Slack):
	}
	leave()
	select {
	case err := <-ready:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not try again")
	}
	p.EndTry(next)
}

// Not more than a few renewals of a process try for a place at the same time.
func TestAFewRenewalsOfAProcessTryAtOnce(t *testing.T) {
	t.Parallel()
	p := paced(t, 100)
	var few []*Ticket
	for range trying {
		few = append(few, NewTicket(never))
		if err := p.StandBy(t.Context(), few[len(few)-1]); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*policy.Slack)
	defer cancel()
	one := NewTicket(never)
	if err := p.StandBy(ctx, one); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more tries: %v", err)
	}
	p.EndTry(few[0])
	if err := p.StandBy(t.Context(), one); err != nil {
		t.Error(err)
	}
}

// An explanation asks whether exchanges wait, while they come and go.
func TestWhetherExchangesWaitCanBeAskedAtAnyTime(t *testing.T) {
	t.Parallel()
	p := paced(t, 4)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			p.Waits()
		}
	}()
	for range 50 {
		leave, err := p.enter(t.Context(), always)
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
	cancel()
	<-ended
	if p.Waits() {
		t.Error("nobody waits")
	}
}

// A renewal that must look at its grant again gives its place back and takes another. What gives the first
// back comes later, and must not end the second.
func TestAPlaceThatIsTakenAnewIsNotGivenBackWithTheOld(t *testing.T) {
	t.Parallel()
	p := paced(t, 1)
	one := NewTicket(never)
	leave, err := p.enterNow(one)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if leave, err = p.enterNow(one); err == nil {
			break
		}
		if !errors.Is(err, ErrNoPlace) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	defer leave()
	time.Sleep(10 * policy.Slack) // the first is given back by now
	if _, err := p.enterNow(NewTicket(never)); !errors.Is(err, ErrNoPlace) {
		t.Errorf("two at once, and there is one place: %v", err)
	}
}
