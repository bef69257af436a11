package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
)

// What this process remembers of grants is in internal/memory; package refresh knows it by these names.
type (
	// Snapshot is what this process knows of a grant: one moment of its record, with the opened pair. It does
	// not change.
	Snapshot = memory.Snapshot
	// Pin is a hold on a hot grant.
	Pin = memory.Pin
	// Grants is one app's hot grants, for readers in a hurry. A look-up hashes and compares the tenant alone.
	Grants = memory.Grants
	// Handle is [Grants.Fresh] for one tenant, without the look-up. It may outlive the grant's stay in memory and
	// is safe for concurrent use.
	Handle = memory.Handle
)

// Grants returns the hot grants of an app.
func (app App) Grants() *Grants { return app.c.mem.Grants(app.name) }

// Peek returns what memory holds of a grant if that is coherent: read or pushed while
// subscribed to the grant's events on a connection that is alive. Else nil. It takes
// no lock and does not allocate.
func (g Grant) Peek() *Snapshot { return g.c.mem.Peek(g.key) }

// Recall returns what memory holds, coherent or not; nil for nothing.
func (g Grant) Recall() *Snapshot { return g.c.mem.Recall(g.key) }

// Pin keeps a grant in memory and subscribed until Unpin.
func (g Grant) Pin() *Pin { return g.c.mem.Pin(g.key) }

// Remember takes a snapshot that was just read into memory, for the next readers, and
// subscribes to its grant. With memory full, a grant has to be asked for twice.
func (g Grant) Remember(s *Snapshot) { g.c.mem.Remember(s) }

// HasRoom reports whether memory has a place for one more grant, or has this one.
func (g Grant) HasRoom() bool { return g.c.mem.HasRoom(g.key) }

// KnownAbsent reports whether a tenant is known to have no grant, without a look at Redis.
func (g Grant) KnownAbsent() bool { return g.c.mem.KnownAbsent(g.key) }

// Forget drops an app's grants from memory and ends their subscriptions. With none
// left the subscriber connection is closed; Forget waits for that until ctx ends.
// Pinned grants stay until they are unpinned. It waits as well for what is being given
// back to Redis, and its error names what is left of that.
func (app App) Forget(ctx context.Context) error {
	app.c.mem.Forget(app.name)
	app.c.apps.Forget(app.name)
	if app.c.mem.Size()+app.c.apps.Size() > 0 {
		return nil
	}
	err := app.c.hub.Wait(ctx) // a question may still come until then
	if err != nil {
		err = fmt.Errorf("the subscriber connection does not close: %w", err)
	}
	return errors.Join(err, app.c.in.Idle(ctx))
}
