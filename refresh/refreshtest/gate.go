package refreshtest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Gate stops one exchange at one point until it is released.
type Gate struct {
	world    *world
	at       Point
	tenants  []string
	released chan struct{}
	once     sync.Once
	caught   int // the ledger's number of the exchange; 0: none yet. Guarded by world.mu
}

// Await waits until the gate has stopped an exchange and returns it. It fails
// the test after 30 s.
func (g *Gate) Await(t TB) Presentation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), awaitPatience)
	defer cancel()
	p, err := g.AwaitContext(ctx)
	if err != nil {
		t.Fatalf("refreshtest: no exchange reached the gate: %v", err)
	}
	return p
}

// AwaitContext is Await for programs. It returns the cause of ctx's end, or
// ErrClosed.
func (g *Gate) AwaitContext(ctx context.Context) (Presentation, error) {
	var p Presentation
	err := g.world.await(ctx, func() bool {
		if g.caught == 0 {
			return false
		}
		p = g.world.book.ledger[g.caught-1]
		return true
	})
	return p, err
}

// Release lets the exchange go on. A gate released early stops nothing. It may
// be called more than once.
func (g *Gate) Release() {
	g.once.Do(func() { close(g.released) })
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	g.world.faults.gates = slices.DeleteFunc(g.world.faults.gates, func(other *Gate) bool { return other == g })
}

// Format keeps every verb from printing the server, and with it its tokens.
func (g *Gate) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "refreshtest.Gate") }
