package provider

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/oauth2"
)

func TestTheRequestIDOfAnAnswerIsKept(t *testing.T) {
	const uuid = "7d1f62b0-3c1e-4c55-9a7a-0f6f4f1f2b9e"
	for name, c := range map[string]struct {
		header http.Header
		want   string
	}{
		"none":                    {nil, ""},
		"one":                     {http.Header{"X-Request-Id": {uuid}}, uuid},
		"Zoom's":                  {http.Header{"X-Zm-Trackingid": {"v=2.0;clid=us04;rid=WEB_1"}}, "v=2.0;clid=us04;rid=WEB_1"},
		"the most telling":        {http.Header{"Cf-Ray": {"8f1-FRA"}, "Request-Id": {uuid}}, uuid},
		"spaces around it":        {http.Header{"Cf-Ray": {" 8f1-FRA "}}, "8f1-FRA"},
		"64 bytes":                {http.Header{"Cf-Ray": {strings.Repeat("a", 64)}}, strings.Repeat("a", 64)},
		"longer, not cut":         {http.Header{"X-Request-Id": {strings.Repeat("a", 65)}, "Cf-Ray": {"8f1-FRA"}}, "8f1-FRA"},
		"two words":               {http.Header{"X-Request-Id": {"one two"}}, ""},
		"not printable":           {http.Header{"X-Request-Id": {"a\x1b[2J"}}, ""},
		"not ASCII":               {http.Header{"X-Request-Id": {"ä"}}, ""},
		"another header's":        {http.Header{"X-Other": {uuid}}, ""},
		"the presented token":     {http.Header{"X-Request-Id": {"refresh-7d1f"}}, ""},
		"the new access token":    {http.Header{"X-Request-Id": {"access-62b0"}}, ""},
		"a piece of the new one":  {http.Header{"X-Request-Id": {"id=rotated-"}}, ""},
		"the secret, upper case":  {http.Header{"X-Request-Id": {"SECRET-3C1E"}}, ""},
		"nothing of an empty one": {http.Header{"X-Request-Id": {"short"}}, "short"},
	} {
		t.Run(name, func(t *testing.T) {
			secrets := []string{"refresh-7d1f", "secret-3c1e", ""}
			pair, err := Classify(Profile{}, Answer{
				Status: 200, Header: c.header, Body: []byte(`{"access_token":"access-62b0","refresh_token":"rotated-9b9e"}`),
			}, secrets...)
			if err != nil || pair.RequestID != c.want {
				t.Errorf("of a pair: %q, %v, want %q", pair.RequestID, err, c.want)
			}
			if strings.Contains(name, "new") { // a refusal has none
				return
			}
			_, err = Classify(Profile{}, Answer{Status: 400, Header: c.header, Body: []byte(`{"error":"invalid_grant"}`)}, secrets...)
			if e := (&Error{}); !errors.As(err, &e) || e.RequestID != c.want {
				t.Errorf("of a refusal: %v, want %q", err, c.want)
			}
		})
	}
}

func TestNoFormOfASecretComesBackAsARequestID(t *testing.T) {
	var quoted string
	s, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", quoted)
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
	})
	g := Grant{Tenant: "acme", AccessToken: canaryAccess, RefreshToken: canaryRefresh}
	pr, err := OAuth2(&oauth2.Config{ClientID: "id", ClientSecret: canarySecret, Endpoint: oauth2.Endpoint{TokenURL: s.URL, AuthStyle: oauth2.AuthStyleInHeader}}, Profile{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, secret := range []string{canarySecret, canaryAccess, canaryRefresh} {
		for how, text := range maps.All(quotes(secret)) {
			if quoted = text; strings.Contains(text, "=") && strings.Contains(how, "end") {
				continue // without its padding it is shorter than what is taken for a piece
			}
			_, err := pr.Exchanger.Exchange(t.Context(), g)
			if e := (&Error{}); !errors.As(err, &e) || e.RequestID != "" {
				t.Errorf("%s: %q of %v", how, e.RequestID, err)
			}
			n++
		}
	}
	if n == 0 {
		t.Error("nothing was quoted")
	}
}
