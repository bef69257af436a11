package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/settings"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// rotation is a deployment whose keyset is changed.
type rotation struct {
	*world
	t      *testing.T
	server *redistest.Server
	dir    string
}

// use makes a keyset file the configured one.
func (r *rotation) use(keyset string) {
	r.t.Helper()
	text, err := os.ReadFile(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n")
	r.write("tokenlatch.yaml", "keyset: {file: "+keyset+"}\n"+rest)
}

func (r *rotation) does(want int, args ...string) (stdout, stderr string) {
	r.t.Helper()
	server := r.server
	if args[0] == "keys" && (args[1] == "generate" || args[1] == "prepare" || args[1] == "rotate") {
		server = nil
	}
	code, stdout, stderr := told(r.t, server, args...)
	if code != want {
		r.t.Fatalf("tokenlatch %v: code %d, want %d\n%s%s", args, code, want, stdout, stderr)
	}
	return stdout, stderr
}

// status is what keys status counts, by role.
func (r *rotation) status() map[string]sealedBy {
	r.t.Helper()
	stdout, _ := r.does(cli.ExitOK, "keys", "status", "--json")
	parsed(r.t, stdout, "keys-status")
	var keys []sealedBy
	if err := json.Unmarshal([]byte(stdout), &keys); err != nil {
		r.t.Fatal(err)
	}
	all := map[string]sealedBy{}
	for _, k := range keys {
		all[k.Role] = k
	}
	return all
}

// The whole way of a key, in the steps that the help names; workers go on all the while.
func TestAKeyIsRotatedAndRetired(t *testing.T) {
	server, dir := redistest.Own(t), t.TempDir()
	r := &rotation{newWorld(t, dir, server, provider.Profile{AuthStyle: oauth2.AuthStyleInHeader}), t, server, dir}
	t.Setenv(settings.Variable, r.config)
	r.connect("a", "b", "c")
	file := func(n int) string { return filepath.Join(dir, fmt.Sprintf("keyset-%d.json", n)) }

	before := r.status()
	if before[rolePrimary].Pairs != 3 || len(before) != 1 {
		t.Fatalf("%+v", before)
	}
	stdout, _ := r.does(cli.ExitOK, "keys", "prepare", "--out", file(2), "--json")
	parsed(t, stdout, "keys")
	r.use("keyset-2.json")
	if now := r.status(); now[rolePrimary].ID != before[rolePrimary].ID || now[roleOpens].Pairs != 0 {
		t.Errorf("prepared: %+v", now)
	}
	r.does(cli.ExitOK, "keys", "rotate", "--out", file(3))
	r.use("keyset-3.json")
	old := fmt.Sprint(before[rolePrimary].ID)
	if now := r.status(); now[roleOpens].Pairs != 3 || fmt.Sprint(now[roleOpens].ID) != old {
		t.Errorf("rotated: %+v", now)
	}

	// It still opens something, and no worker is known to have the new one.
	_, stderr := r.does(cli.ExitFailed, "keys", "retire", old, "--out", file(4))
	if !strings.Contains(stderr, "key "+old+" still opens 3 pairs") || !strings.Contains(stderr, "hint: tokenlatch keys reseal") {
		t.Error(stderr)
	}
	if _, err := os.Stat(file(4)); !os.IsNotExist(err) {
		t.Error("a refused keyset is written")
	}
	if _, stderr = r.does(cli.ExitUnconfirmed, "keys", "reseal"); !strings.Contains(stderr, "nothing is sealed with key") {
		t.Error(stderr)
	}
	r.does(cli.ExitOK, "refresh", "zoom", "a") // a worker has it
	stdout, _ = r.does(cli.ExitOK, "keys", "reseal", "--json", "--rate", "1000")
	parsed(t, stdout, "keys-reseal")
	if !strings.Contains(stdout, `"resealed": 2`) || !strings.Contains(stdout, `"already": 1`) {
		t.Error(stdout)
	}
	if stdout, _ = r.does(cli.ExitOK, "keys", "reseal"); !strings.Contains(stdout, "0 sealed anew") {
		t.Error(stdout)
	}
	r.does(cli.ExitFailed, "keys", "retire", fmt.Sprint(r.status()[rolePrimary].ID)) // the primary
	r.does(cli.ExitOK, "keys", "retire", old, "--out", file(4))
	r.use("keyset-4.json")
	if now := r.status(); now[rolePrimary].Pairs != 3 || len(now) != 1 {
		t.Errorf("retired: %+v", now)
	}
	for _, tenant := range []string{"a", "b", "c"} {
		if code, _, stderr := shown(t, server, "refresh", "zoom", tenant); code != cli.ExitOK {
			t.Errorf("%s is lost: %s", tenant, stderr)
		}
	}
	// With the first keyset nothing opens, and it is said by which key it was sealed.
	r.use("keyset.json")
	if now := r.status(); now[roleMissing].Pairs != 3 {
		t.Errorf("with the first keyset: %+v", now)
	}
	_, stderr = r.does(cli.ExitFailed, "keys", "reseal", "--confirm", old)
	if !strings.Contains(stderr, "the values of 3 grants do not open") {
		t.Error(stderr)
	}
	for n := 2; n <= 4; n++ {
		if info, err := os.Stat(file(n)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

func TestStatusCountsWhatIsSealedBesidePairs(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	w := newWorld(t, t.TempDir(), server, provider.Profile{AuthStyle: oauth2.AuthStyleInHeader})
	w.connect("a")
	ctx := context.Background()
	sealed := w.rdb.Get(ctx, "tl:{zoom:a}:secret").Val()
	for _, err := range []error{
		w.rdb.Set(ctx, "tl:{zoom:a}:spare", sealed, 0).Err(),
		w.rdb.RPush(ctx, "tl:{zoom:a}:unread", "id-1\n"+sealed, "id-2\n"+sealed).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tell(t, w.rdb) // in plaintext
	_, stdout, stderr := told(t, server, "keys", "status")
	for _, want := range []string{"unknown  1      1       2\n", "no_key   11     0       0\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s%s", want, stdout, stderr)
		}
	}
}
