package store

import (
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// The Lua side writes only the fields it lists; the Go side restores only those it knows.
func TestLuaAndGoKnowTheSameFields(t *testing.T) {
	list := common[strings.Index(common, "local order"):]
	list = list[:strings.Index(list, "}")]
	for _, f := range grant.Fields {
		if !strings.Contains(list, "'"+f.Name+"'") {
			t.Errorf("common.lua does not write %s", f.Name)
		}
	}
	if n := strings.Count(list, "'") / 2; n != len(grant.Fields) {
		t.Errorf("common.lua lists %d fields, Go %d", n, len(grant.Fields))
	}
}
