package lock

import (
	"maps"
	"testing"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

func TestRoundTripsOfALease(t *testing.T) {
	t.Parallel()
	rdb := redistest.Own(t).Client(t)
	l := New(Config{TTL: long}, rdb)
	release(t, try(t, l, "lock")) // loads the script

	got := redistest.Commands(t, rdb, func() { release(t, try(t, l, "lock")) })
	if want := (map[string]int{"set": 1, "evalsha": 1, "get": 1, "del": 1}); !maps.Equal(got, want) {
		t.Errorf("a lease costs %v, not %v", got, want)
	}

	lease := try(t, l, "lock")
	got = redistest.Commands(t, rdb, func() { mustBeHeld(t, l, "lock") })
	if want := (map[string]int{"set": 1, "pttl": 1}); !maps.Equal(got, want) {
		t.Errorf("a waiter's failed try costs %v, not %v", got, want)
	}
	release(t, lease)
}
