package engine

import (
	"strings"
	"testing"
)

// The Lua side writes only the fields it lists; the Go side restores only those it knows.
func TestLuaAndGoKnowTheSameFields(t *testing.T) {
	list := common[strings.Index(common, "local order"):]
	list = list[:strings.Index(list, "}")]
	for _, f := range fields {
		if !strings.Contains(list, "'"+f.name+"'") {
			t.Errorf("common.lua does not write %s", f.name)
		}
	}
	if n := strings.Count(list, "'") / 2; n != len(fields) {
		t.Errorf("common.lua lists %d fields, Go %d", n, len(fields))
	}
}
