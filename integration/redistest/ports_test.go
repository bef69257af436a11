package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// Who dials a killed server must not reach that of another test.
func TestAPortIsOneTestsAsLongAsThatGoesOn(t *testing.T) {
	for round := range blocks + 2 { // more than there are: those of a test that has ended can be had again
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			taken := map[string]bool{}
			for range blockSize {
				addr := freeAddr(t)
				if taken[addr] {
					t.Fatalf("%s is had twice", addr)
				}
				taken[addr] = true
			}
		})
	}
}

func TestAPortThatAnotherProgramHasIsNotTaken(t *testing.T) {
	var next string
	t.Run("inner", func(t *testing.T) {
		next = freeAddr(t)
	})
	ln, err := net.Listen("tcp", next)
	must(t, err)
	defer ln.Close()
	for range 2 * blockSize {
		if addr := freeAddr(t); addr == next {
			t.Fatalf("%s is had by another", addr)
		}
	}
}

// Between the look at a port and Redis' bind another program may take it, that of the Cluster's bus too.
func TestANodeOfAClusterTriesOtherPortsIfItsBusHasNone(t *testing.T) {
	server, err := binary()
	must(t, err)
	refuses := filepath.Join(t.TempDir(), "refuses-its-first-bus-port")
	must(t, os.WriteFile(refuses, []byte(`#!/bin/sh
for word; do [ "$last" = --cluster-port ] && port=$word; last=$word; done
[ -f "$0.port" ] || echo "$port" >"$0.port"
[ "$(cat "$0.port")" = "$port" ] && exit 1
exec `+server+` "$@"
`), 0o700))
	t.Setenv("REDIS_SERVER", refuses)
	must(t, node(t).Client(t).Ping(ctx).Err())
	if _, err := os.Stat(refuses + ".port"); err != nil {
		t.Error("it was not refused:", err)
	}
}
