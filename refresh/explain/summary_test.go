package explain

import (
	"encoding/json"
	"testing"
)

// What stops the app comes first, and nothing is called well beside it.
func TestASummaryPutsTheAppFirst(t *testing.T) {
	const why = "zoom: circuit_open since 11:58:00 UTC (2m ago): the provider refuses the client"
	for _, c := range []struct {
		grants map[string]int
		want   string
	}{
		{nil, why + " (TL401): operator acts; there is no grant"},
		{map[string]int{"TL101": 1}, why + " (TL401): operator acts; its one grant is not in trouble yet"},
		{map[string]int{"TL101": 3}, why + " (TL401): operator acts; none of its 3 grants is in trouble yet"},
		{map[string]int{"TL101": 2, "TL307": 1}, why + " (TL401): operator acts; 1 of 3 grants are in trouble, most of them (1) for one reason (TL307): tenant acts"},
	} {
		if s := Sum("zoom", c.grants).Under("TL401", why); s.Title != c.want || s.Cause != "TL401" || s.Who != Operator {
			t.Errorf("%+v, want\n%s", s, c.want)
		}
	}
}

func TestASummarySaysWhetherItIsOneTenantOrAll(t *testing.T) {
	for _, c := range []struct {
		grants map[string]int
		want   string
	}{
		{nil, `{"grants":0,"trouble":0,"counts":[],"cause":"","who":"","title":"zoom: there is no grant"}`},
		{map[string]int{"TL101": 998, "TL104": 3, "TL999": 7},
			`{"grants":1001,"trouble":0,"counts":[{"code":"TL101","count":998},{"code":"TL104","count":3}],"cause":"","who":"","title":"zoom: all is well with its 1001 grants"}`},
		{map[string]int{"TL101": 10, "TL201": 2, "TL401": 40, "TL302": 1, "TL601": 60},
			`{"grants":113,"trouble":43,"counts":[{"code":"TL601","count":60},{"code":"TL401","count":40},{"code":"TL101","count":10},{"code":"TL201","count":2},{"code":"TL302","count":1}],"cause":"TL401","who":"operator","title":"zoom: 43 of 113 grants are in trouble, most of them (40) for one reason (TL401): operator acts"}`},
		{map[string]int{"TL203": 1, "TL401": 1},
			`{"grants":2,"trouble":2,"counts":[{"code":"TL203","count":1},{"code":"TL401","count":1}],"cause":"TL401","who":"operator","title":"zoom: 2 of 2 grants are in trouble, 1 of them for one reason (TL401): operator acts"}`},
	} {
		got, err := json.Marshal(Sum("zoom", c.grants))
		if err != nil || string(got) != c.want {
			t.Errorf("%s, %v, want\n%s", got, err, c.want)
		}
	}
}
