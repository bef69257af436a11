package tokencache

// Change is one state change of a grant, as the journal calls it: "connect", "commit",
// "fail", "reauthorize", "reauth_due", "suspect", "reject", "restore", "disconnect", "claim",
// "spare".
type Change struct {
	Key
	Kind   string
	Record Record // as it was then
	At     int64  // Redis' clock, unix ms
}

// OnChange has f called for every state change of an app's grants that this process makes,
// or hears of because it has the grant in memory; for one's own also twice. f runs on the
// subscriber's goroutine among others, and must not block. nil ends it.
func (c *Cache) OnChange(app string, f func(Change)) {
	if f == nil {
		c.watchers.Delete(app)
		return
	}
	c.watchers.Store(app, f)
}

func (c *Cache) changed(kind string, k Key, r *Record, now int64) {
	if f, ok := c.watchers.Load(k.App); ok {
		f(Change{Key: k, Kind: kind, Record: *r, At: now})
	}
}

// kindOf is the kind of a change that a script has made to a grant, from its answer.
func kindOf(op string, r *Record) string {
	if op == "fail" && r.State == Reauthorize {
		return "reauthorize"
	}
	return op
}
