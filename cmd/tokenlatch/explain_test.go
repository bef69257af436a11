package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// What stops an app comes before what is the matter with its grants, also while no grant has failed yet: what, since
// when, and who acts.
func TestExplainPutsTheAppsTroubleFirst(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	tell(t, rdb)
	now := rdb.Time(t.Context()).Val()
	ago, soon := now.Add(-time.Minute).UnixMilli(), now.Add(time.Minute).UnixMilli()
	warned := []any{"warned_at", ago, "rt_expires_at", now.Add(100 * time.Hour).UnixMilli()} // TL307, which is the tenant's
	if err := rdb.HSet(t.Context(), "tl:{hubspot:fine%20too}:grant", warned...).Err(); err != nil {
		t.Fatal(err)
	}
	const since = ` since (\d\d-\d\d )?\d\d:\d\d(:\d\d)? UTC \(\d+s ago\)`
	left := regexp.MustCompile(`\d+s (ago|more)`) // the second look is later
	const until = ` until (\d\d-\d\d )?\d\d:\d\d(:\d\d)? UTC`
	for _, c := range []struct {
		state, when, why string
		code, who        string
		fields           []any
	}{
		{"data_lost", since, "Redis has lost data", "TL606", "operator", []any{"lost_at", ago}},
		{"circuit_open", since, `the provider refuses the client \(invalid_client, HTTP 401\)`, "TL401", "operator", []any{"circuit", "open", "opened_at", ago, "error", "app_refused/invalid_client/401"}},
		{"braked", since, "the provider's successes cannot be read", "TL405", "operator", []any{"circuit", "open", "opened_at", ago, "brake", "abc"}},
		{"mass_death", since, "the provider calls many grants dead", "TL504", "provider", []any{"mass_at", ago}},
		{"provider_down", since, "the provider gives several tenants in a row no usable answer", "TL501", "provider", []any{"down_at", ago}},
		{"paused", until, "the provider wants a pause", "TL205", "nobody", []any{"throttled_until", soon}},
		{"host_circuit_open", since, "the provider refuses the client at eu.example.com", "TL401", "operator", []any{"circuit@eu.example.com", "open", "opened_at@eu.example.com", ago, "changed_at@eu.example.com", ago}},
		{"host_paused", until, "the provider wants a pause at eu.example.com", "TL205", "nobody", []any{"throttled_until@eu.example.com", soon, "changed_at@eu.example.com", ago}},
	} {
		if err := rdb.Del(t.Context(), "tl:app:hubspot").Err(); err != nil {
			t.Fatal(err)
		}
		if err := rdb.HSet(t.Context(), "tl:app:hubspot", append([]any{"rev", 1}, c.fields...)...).Err(); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := told(t, server, "explain", "hubspot", "--exit-code")
		text := strings.Join(strings.Fields(stdout), " ")
		want := "^hubspot: " + c.state + c.when + ": " + c.why + `.* \(` + c.code + `\): ` + c.who + " acts; "
		if code != cli.ExitFindings || !regexp.MustCompile(want).MatchString(text) || strings.Contains(text, "all is well") {
			t.Errorf("%s: code %d, and not %s:\n%s", c.state, code, want, stdout)
		}
		if want := "tokenlatch explain " + c.code + " says what to do"; !strings.Contains(stderr, want) {
			t.Errorf("%s lacks %q: %s", c.state, want, stderr)
		}
		_, stdout, _ = told(t, server, "explain", "hubspot", "--json")
		parsed(t, stdout, "explain-app")
		var got struct {
			State, Why, Cause, Who, Title string
			Since, Until                  time.Time
		}
		if err := json.Unmarshal([]byte(stdout), &got); err != nil {
			t.Fatal(err)
		}
		if got.State != c.state || got.Cause != c.code || got.Who != c.who || got.Since.IsZero() == got.Until.IsZero() ||
			!regexp.MustCompile(c.why).MatchString(got.Why) || !strings.HasPrefix(left.ReplaceAllString(text, ""), left.ReplaceAllString(strings.Join(strings.Fields(got.Title), " "), "")) {
			t.Errorf("%s: %s", c.state, stdout)
		}
		// A grant that is served knows it, too.
		if c.state == "data_lost" || strings.HasPrefix(c.state, "host_") { // nothing of this grant; its host is not known
			continue
		}
		if _, stdout, _ := told(t, server, "explain", "hubspot", "fine too", "--json"); !strings.Contains(stdout, "(app: ") {
			t.Errorf("%s: the grant does not tell it: %s", c.state, stdout)
		}
	}
	if _, stdout, _ := told(t, server, "apps", "--json"); !strings.Contains(stdout, `"code":"TL205"`) {
		t.Errorf("apps lacks the code: %s", stdout)
	}
}
