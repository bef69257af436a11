package integration

import (
	"reflect"
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// Whoever configures a worker reads one table: it has every setting, but those that each snippet shows.
func TestTheSettingsTableHasEverySetting(t *testing.T) {
	t.Parallel()
	_, table, found := strings.Cut(read(t, "../docs/operations.md"), "\n## Settings\n")
	if !found {
		t.Fatal("docs/operations.md has no Settings")
	}
	required := map[string]bool{"refresh.Config.App": true, "refresh.Config.Cache": true, "refresh.Config.Provider": true}
	for of, config := range map[string]any{"refresh": refresh.Config{}, "tokencache": tokencache.Config{}, "lock": lock.Config{}} {
		c := reflect.TypeOf(config)
		for field := range c.NumField() {
			name := of + ".Config." + c.Field(field).Name
			if c.Field(field).IsExported() && !required[name] && !strings.Contains(table, "`"+name+"`") {
				t.Errorf("the Settings table lacks `%s`", name)
			}
		}
	}
}
