package main

import (
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// One host of several refuses the client: people see which, and what is known of a tenant's.
func TestPeopleSeeWhichHostRefuses(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	tell(t, rdb)
	now := rdb.Time(t.Context()).Val()
	err := rdb.HSet(t.Context(), "tl:app:zoom", "accepted_at", 1, "several", 1,
		"circuit@login.eu.example.com", "open", "error@login.eu.example.com", "app_refused/invalid_client/401",
		"changed_at@login.eu.example.com", now.UnixMilli()-60_000, "opened_at@login.eu.example.com", now.UnixMilli()-60_000, "probes@login.eu.example.com", 4,
		"probe_at@login.eu.example.com", now.UnixMilli()+60_000, "refused@login.eu.example.com", "01234567 "+grant.Fingerprint("refused")[:8]).Err()
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"due", "refused"} {
		record := []any{"v", 2, "state", "active", "gen", 2, "epoch", 1, "rev", 1, "issued_at", 1, "refresh_at", 2, "expires_at", 3, "used_at", now.UnixMilli(), "by", "w1"}
		if err := rdb.HSet(t.Context(), "tl:{zoom:"+tenant+"}:grant", record...).Err(); err != nil {
			t.Fatal(tenant, err)
		}
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"apps"}, []string{"host_circuit_open: the provider refuses the client at login.eu.example.com (invalid_client, HTTP 401)"}},
		{[]string{"explain", "zoom"}, []string{"zoom: host_circuit_open since ", "the provider refuses the client at login.eu.example.com (invalid_client, HTTP 401) (TL401): operator acts"}},
		{[]string{"explain", "zoom", "refused"}, []string{"TL401", "refuses the app's client at login.eu.example.com"}},
		{[]string{"explain", "zoom", "due"}, []string{"TL102", "whether its token endpoint is at login.eu.example.com"}},
	} {
		_, stdout, stderr := told(t, server, c.args...)
		text := strings.Join(strings.Fields(stdout), " ")
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%q lacks %q:\n%s%s", c.args, want, stdout, stderr)
			}
		}
	}
}
