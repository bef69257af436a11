package engine

import "github.com/tokenlatch/tokenlatch/tokencache/grant"

// App is one app's grants and its own state.
type App struct {
	c    *Cache
	name string
}

// App returns the handle of an app. It costs nothing.
func (c *Cache) App(name string) App { return App{c, name} }

// Grant returns the handle of a tenant's grant.
func (app App) Grant(tenant string) Grant {
	return Grant{app.c, grant.Key{App: app.name, Tenant: tenant}}
}

// Grant is one grant: what Redis has of it, and what this process remembers.
type Grant struct {
	c   *Cache
	key grant.Key
}

// Grant returns the handle of a grant. It costs nothing.
func (c *Cache) Grant(k grant.Key) Grant { return Grant{c, k} }

// Key names the grant.
func (g Grant) Key() grant.Key { return g.key }
