package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// canary is in each secret and value: where an error shows it, a secret may leak.
const canary = "canary7d1f"

func read(t *testing.T, text string) (*File, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "app.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Read(name)
}

func app(t *testing.T, text string) *App {
	t.Helper()
	f, err := read(t, text)
	if err != nil {
		t.Fatal(err)
	}
	a, err := f.App("zoom")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTheProfileWinsOverThePresetInAnyOrder(t *testing.T) {
	for _, text := range []string{
		"apps: {zoom: {provider: zoom, profile: {replay: grace, grace: 30s, refresh_token_idle: 7d}, client_id: a, token_url: https://x.example/t}}",
		"apps: {zoom: {profile: {replay: grace, grace: 30s, refresh_token_idle: 7d}, provider: zoom, client_id: a, token_url: https://x.example/t}}",
	} {
		p := app(t, text).Profile()
		if p.Name != "zoom" || p.Replay != provider.ReplayGrace || p.Grace != 30*time.Second || p.RefreshTokenIdle != 7*24*time.Hour || p.AuthStyle != oauth2.AuthStyleInHeader {
			t.Errorf("%+v", p)
		}
	}
}

func TestAPresetIsNotChangedByAFile(t *testing.T) {
	app(t, "apps: {zoom: {provider: slack, profile: {codes: {bad_client_secret: busy}}, client_id: a, token_url: https://x.example/t}}")
	if p, _ := provider.Preset("slack"); p.Codes["bad_client_secret"] != provider.AppRefused {
		t.Error("the file has changed the preset")
	}
}

func TestEachKindOfProviderIsMade(t *testing.T) {
	t.Setenv("SECRET", canary)
	const common = "client_id: a, client_secret: {env: SECRET}, auth_style: body, "
	for name, c := range map[string]struct {
		text  string
		mints bool
	}{
		"refresh_token":      {common + "provider: zoom, token_url: https://x.example/t", false},
		"client_credentials": {common + "provider: zoom, grant: client_credentials, params: {account_id: '{tenant}'}, token_url: https://x.example/t", true},
		"per tenant":         {common + "provider: shopify", false},
		"former secret":      {common + "provider: zoom, former_client_secret: {env: SECRET}, token_url: https://x.example/t", false},
		"a profile alone":    {common + "profile: {replay: dead, kills_access_token: false}, token_url: https://x.example/t", false},
	} {
		p, err := app(t, "apps: {zoom: {"+c.text+"}}").Provider()
		if err != nil || p.Exchanger == nil || p.Mints != c.mints || (p.Fallback != nil) != (name == "former secret") {
			t.Errorf("%s: %v, %v", name, p.Mints, err)
		}
	}
}

func TestNoErrorQuotesAValue(t *testing.T) {
	t.Setenv("TWO_LINES", canary+"\n"+canary)
	t.Setenv("EMPTY", "")
	for text, want := range map[string]string{
		canary:                      ":1: the file must be a mapping",
		"a: *" + canary:             ":1: ",
		"keyset: " + canary:         ":1: keyset: no secret stands in this file",
		"keyset: {env: a, file: b}": ":1: keyset needs file or env, one of them",
		"a: b\n---\nc: d":           "one document is expected",
		"apps:\n  zoom: {provider: [" + canary + "]}":     ":2: apps.zoom.provider is not known",
		"apps:\n  zoom: {auth_style: " + canary + "}":     ":2: apps.zoom.auth_style must be one of body, header",
		"apps:\n  zoom:\n    scopes: " + canary:           ":3: apps.zoom.scopes must be a list",
		"apps:\n  zoom: {exchange_timeout: -1s}":          "must be a duration",
		"apps:\n  zoom: {profile: {json_body: maybe}}":    ":2: apps.zoom.profile.json_body must be true or false",
		"apps:\n  zoom: {profile: {budget: {per: soon}}}": ":2: apps.zoom.profile.budget.per must be a duration",
		"apps: {zoom: {<<: {a: b}}}":                      "must be a plain text",
		"a: \"" + canary:                                  ": ",
	} {
		_, err := read(t, text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for env, want := range map[string]string{"TWO_LINES": "on one line", "EMPTY": "it is empty", "UNSET_VARIABLE": "is not set"} {
		_, err := app(t, "apps: {zoom: {provider: zoom, client_id: a, token_url: https://x.example/t, client_secret: {env: "+env+"}}}").Provider()
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ":1: apps.zoom.client_secret") || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", env, err)
		}
	}
}

func TestARuleThatCannotHoldIsRefusedWithItsPlace(t *testing.T) {
	_, err := app(t, "apps:\n  zoom: {profile: {replay: grace}, client_id: a, auth_style: body, token_url: https://x.example/t}").Provider()
	if err == nil || !strings.Contains(err.Error(), ":2: apps.zoom: ") || !strings.Contains(err.Error(), "Grace must be positive") {
		t.Error(err)
	}
}
