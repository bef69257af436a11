package engine

import (
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/apps"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/due"
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
	return Grant{app.c, grant.Key{App: app.name, Tenant: tenant}, app.by}
}

// Grant is the handle of one grant: what Redis has of it, and what this process remembers.
type Grant struct {
	c   *Cache
	key grant.Key
	by  string
}

// Grant returns the handle of a grant, whose changes are signed with the cache's name. It costs nothing.
func (c *Cache) Grant(k grant.Key) Grant { return Grant{c, k, c.name} }

// As returns the same handle for changes that are signed with another name.
func (g Grant) As(by string) Grant {
	g.by = by
	return g
}
