package refresh_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// operations returns docs/operations.md.
func operations(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// sampled are the fields that a sample of docs/operations.md has of the hash of that key, in order of their names.
func sampled(t *testing.T, key string) (fields []string) {
	t.Helper()
	_, sample, found := strings.Cut(operations(t), "$ redis-cli --raw HGETALL '"+key+"' | paste - -\n")
	if !found {
		t.Fatalf("docs/operations.md has no sample of %s", key)
	}
	for line := range strings.Lines(sample) {
		name, _, is := strings.Cut(line, "\t")
		if !is {
			break
		}
		fields = append(fields, name)
	}
	slices.Sort(fields)
	return fields
}

// The records that docs/operations.md shows have the fields that real ones have.
func TestTheSamplesOfRecordsAreWhole(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{Profile: provider.Zoom()})
	f.profile = provider.Zoom()
	w := f.worker()
	is := func(sample, key string) {
		t.Helper()
		record, err := w.rdb.HGetAll(f.ctx(), f.prefix+strings.TrimPrefix(key, "tl")).Result()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := slices.Sorted(maps.Keys(record)), sampled(t, sample); !slices.Equal(got, want) {
			t.Errorf("%s has the fields\n%s, and the sample\n%s", key, got, want)
		}
	}
	gate := f.server.Hold(refreshtest.BeforeCommit)
	f.connect(w, "acme", true)
	var call sync.WaitGroup
	call.Go(func() { f.token(w, "acme") })
	gate.Await(t)
	is("tl:{zoom:acme}:grant", "tl:{zoom:acme}:grant")
	gate.Release()
	call.Wait()
	f.state(w, "the client is accepted", func(s *engine.AppState) bool { return s.AcceptedAt != 0 })

	f.server.Script(refreshtest.Step{Times: -1, Status: 401, Body: `{"error":"invalid_client"}`})
	f.all(w, f.expired(w, 2))
	f.state(w, "the circuit is open", func(s *engine.AppState) bool { return s.Open })
	is("tl:app:zoom", "tl:app:zoom")
}

// Its tables explain each field that a record can have.
func TestEachFieldOfARecordIsExplained(t *testing.T) {
	var ofGrant []string
	for _, f := range grant.Fields {
		ofGrant = append(ofGrant, f.Name)
	}
	script, err := os.ReadFile("../tokencache/internal/store/lua/app.lua")
	if err != nil {
		t.Fatal(err)
	}
	_, order, _ := strings.Cut(string(script), "local app_order = {")
	order, _, _ = strings.Cut(order, "}")
	ofApp := strings.FieldsFunc(order, func(r rune) bool { return strings.ContainsRune("', \n", r) })
	if len(ofGrant) < 30 || len(ofApp) < 25 {
		t.Fatalf("%d and %d fields", len(ofGrant), len(ofApp))
	}
	_, page, _ := strings.Cut(operations(t), "\n### The record of a grant\n")
	ofGrants, ofApps, _ := strings.Cut(page, "\n### The record of an app\n")
	for _, c := range []struct {
		names []string
		text  string
	}{{ofGrant, ofGrants}, {ofApp, ofApps}} {
		for _, name := range c.names {
			if !regexp.MustCompile("(?m)^\\| (`[^|]*)?`" + name + "`").MatchString(c.text) {
				t.Errorf("no table explains %s", name)
			}
		}
	}
}
