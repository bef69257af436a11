package explain

import (
	"encoding/json"
	"testing"
)

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
