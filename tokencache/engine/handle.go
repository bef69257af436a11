package engine

import (
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/apps"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/due"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// App is the handle of one app. It has the methods of its rooms: of the app as a whole, and of what is due.
type App struct {
	whole
	dues
	c    *Cache
	name string
	by   string
}

type (
	whole = apps.App
	dues  = due.Set
)

// App returns the handle of an app, whose changes are signed with the cache's name. It costs nothing.
func (c *Cache) App(name string) App { return c.app(name, c.name) }

func (c *Cache) app(name, by string) App {
	return App{c.apps.App(name, by), c.due.App(name, by), c, name, by}
}

// As returns the same handle for changes that are signed with another name.
func (app App) As(by string) App { return app.c.app(app.name, by) }

// Grant returns the handle of a tenant's grant, signed with the same name.
func (app App) Grant(tenant string) Grant {
	return Grant{c: app.c, key: grant.Key{App: app.name, Tenant: tenant}, by: app.by}
}

// Grant is the handle of one grant: what Redis has of it, and what this process remembers.
type Grant struct {
	c   *Cache
	key grant.Key
	by  string

	note *journal.Note // for the journal; may be nil
}

// Grant returns the handle of a grant, whose changes are signed with the cache's name. It costs nothing.
func (c *Cache) Grant(k grant.Key) Grant { return Grant{c: c, key: k, by: c.name} }

// As returns the same handle for changes that are signed with another name.
func (g Grant) As(by string) Grant {
	g.by = by
	return g
}

// With returns the same handle for a change of which the journal says this too.
func (g Grant) With(n journal.Note) Grant {
	g.note = &n
	return g
}

func noteOf(g Grant) journal.Note {
	if g.note == nil {
		return journal.Note{}
	}
	return *g.note
}
