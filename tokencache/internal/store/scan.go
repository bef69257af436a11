package store

import (
	"strings"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// AllRecords is the pattern of the records of all apps.
func (n Names) AllRecords() string { return string(n) + ":{*}:grant" }

// AllApps is the pattern of the states of all apps.
func (n Names) AllApps() string { return string(n) + ":app:*" }

// GrantAt is the grant of a record's key.
func (n Names) GrantAt(record string) (grant.Key, bool) {
	name, ok := strings.CutSuffix(record, ":grant")
	if !ok {
		return grant.Key{}, false
	}
	k, ok := n.GrantOf(name + ":events")
	return k, ok && k.Validate() == nil
}

// AppAt is the app of a state's key. A key of a longer prefix has a colon more.
func (n Names) AppAt(key string) (app string, ok bool) {
	app, ok = n.IsApp(key)
	return grant.Unescape(app), ok && app != "" && !strings.Contains(app, ":")
}
