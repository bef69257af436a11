package pair

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// maxExtra bounds the further members of an answer, in bytes of JSON: what is sealed must open again.
const maxExtra = 4 << 20

var errNoJSON = errors.New("the members cannot be written as JSON of 4 MiB at most: give strings, numbers, booleans, lists and maps")

// Storable returns further members of an answer as they can be stored.
func Storable(members map[string]any) (map[string]any, error) {
	text, err := jsonOf(members)
	if err != nil {
		return nil, err
	}
	numbers := json.NewDecoder(bytes.NewReader(text))
	numbers.UseNumber()
	var out map[string]any
	if err := numbers.Decode(&out); err != nil || out == nil {
		return nil, err
	}
	kept, _ := provider.WithoutRefreshTokens(out).(map[string]any)
	return kept, nil
}

// storableOf is Storable for what an Exchanger of one's own has brought. That may be no JSON, or hold
// refresh tokens: those members are left out, the pair is kept.
func storableOf(members map[string]any) (kept map[string]any, dropped int) {
	if len(members) == 0 {
		return nil, 0
	}
	if kept, err := Storable(members); err == nil {
		return kept, 0
	}
	kept, size := make(map[string]any), 0
	for name, value := range members {
		text, err := jsonOf(value)
		one, err2 := Storable(map[string]any{name: value})
		if size += len(text); err != nil || err2 != nil || size > maxExtra {
			dropped++
			continue
		}
		maps.Copy(kept, one)
	}
	return kept, dropped
}

// jsonOf is json.Marshal of what somebody else has made.
func jsonOf(v any) (text []byte, err error) {
	defer func() {
		if recover() != nil {
			text, err = nil, errNoJSON
		}
	}()
	if text, err = json.Marshal(v); err != nil || len(text) > maxExtra {
		return nil, errNoJSON
	}
	return text, nil
}

// newOver returns the members of a newer answer over those of an older one. A member that the newer has
// left empty keeps its value.
func newOver(old, said map[string]any) map[string]any {
	both := maps.Clone(old)
	for name, v := range said {
		if _, had := old[name]; !had || v != nil && v != "" {
			both[name] = v
		}
	}
	return both
}
