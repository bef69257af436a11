package provider

import (
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"
)

func TestEveryPresetIsValidAndUnderItsName(t *testing.T) {
	names := PresetNames()
	if len(names) != 43 || !slices.IsSorted(names) {
		t.Fatalf("%d names: %v", len(names), names)
	}
	for _, name := range names {
		p, ok := Preset(name)
		if !ok || p.Name != name {
			t.Errorf("Preset(%q) = %q, %t", name, p.Name, ok)
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := slices.Sorted(maps.Keys(Presets())); !slices.Equal(got, names) {
		t.Errorf("Presets: %v", got)
	}
	if p, ok := Preset("no such"); ok || p.Name != "" {
		t.Error("an unknown name has a profile")
	}
}

func TestPresetsClaimNoMoreThanIsKnown(t *testing.T) {
	harmless := []string{"adobe_sign", "dropbox", "entra", "google", "hubspot", "linkedin", "microsoft", "square", "zoho"}
	alive := []string{"entra", "google", "hubspot", "linkedin", "microsoft", "slack"}
	lenient := map[string]Replay{"atlassian": ReplayGrace, "xero": ReplayGrace, "box": ReplaySamePair, "shopify": ReplaySamePair, "gitlab": ReplayDead, "withings": ReplayGrace}
	for name, p := range Presets() {
		want := lenient[name]
		if slices.Contains(harmless, name) {
			want = ReplayHarmless
		}
		if p.Replay != want {
			t.Errorf("%s: Replay is %s, want %s", name, p.Replay, want)
		}
		if (p.KillsAccessToken == No) != slices.Contains(alive, name) {
			t.Errorf("%s: KillsAccessToken is %s", name, p.KillsAccessToken)
		}
	}
	if a, x, w := Atlassian(), Xero(), Withings(); a.Grace != 10*time.Minute || x.Grace != 30*time.Minute || w.Grace != 8*time.Hour {
		t.Errorf("graces: %s, %s, %s", a.Grace, x.Grace, w.Grace)
	}
}

func TestACallerCannotChangeAnotherCallersPreset(t *testing.T) {
	p, _ := Preset("slack")
	p.Codes["invalid_refresh_token"] = Busy
	m, _ := Preset("microsoft")
	m.Phrases[0].Class = Busy
	all := Presets()
	all["hubspot"].CodeKeys[0] = "x"
	delete(all, "zoom")

	if Slack().Codes["invalid_refresh_token"] != Reauthorize || Microsoft().Phrases[0].Class != Throttled ||
		HubSpot().CodeKeys[0] != "status" || len(Presets()) != 43 {
		t.Error("a preset was changed from outside")
	}
}

// What is known of the answers of providers that have their own ways.
func TestPresetsReadTheAnswersOfTheirProviders(t *testing.T) {
	const json = "application/json"
	for _, c := range []struct {
		name   string
		p      Profile
		status int
		body   string
		want   any // a class, or the access token of the pair
	}{
		{"discord, dead", Discord(), 400, `{"error":"invalid_request","error_description":"Invalid \"refresh_token\" in request."}`, Reauthorize},
		{"discord, another request that is wrong", Discord(), 400, `{"error":"invalid_request","error_description":"Invalid \"scope\" in request."}`, Refused},
		{"fitbit, dead", Fitbit(), 400, `{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid: x"}],"success":false}`, Reauthorize},
		{"hydra, dead", Hydra(), 401, `{"error":"token_inactive"}`, Reauthorize},
		{"keycloak, dead", Keycloak(), 400, `{"error":"invalid_grant","error_description":"Token is not active"}`, Reauthorize},
		{"keycloak, two clients at once", Keycloak(), 400, `{"error":"invalid_grant","error_description":"Session doesn't have required client"}`, Busy},
		{"twitch, dead", Twitch(), 400, `{"status":400,"message":"Invalid refresh token"}`, Reauthorize},
		{"withings, dead", Withings(), 200, `{"status":503,"error":"Invalid Params: invalid refresh_token"}`, Reauthorize},
		{"withings, a pair", Withings(), 200, `{"status":0,"body":{"access_token":"a","refresh_token":"r","expires_in":10800}}`, "a"},
		{"square, a pair", Square(), 200, `{"access_token":"a","refresh_token":"r","expires_at":"2026-12-27T03:00:00Z","short_lived":false}`, "a"},
		{"spotify, kept", Spotify(), 200, `{"access_token":"a","expires_in":3600}`, "a"},
	} {
		pair, err := Classify(c.p, Answer{Status: c.status, Header: http.Header{"Content-Type": {json}}, Body: []byte(c.body)})
		var got any = pair.AccessToken
		if err != nil {
			got = asError(t, err).Class
		}
		if got != c.want {
			t.Errorf("%s: %v (%v), want %v", c.name, got, err, c.want)
		}
	}
}
