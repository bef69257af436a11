package provider

import (
	"maps"
	"slices"
	"testing"
	"time"
)

func TestEveryPresetIsValidAndUnderItsName(t *testing.T) {
	names := PresetNames()
	if len(names) != 21 || !slices.IsSorted(names) {
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
	harmless := []string{"google", "hubspot", "linkedin", "microsoft", "zoho"}
	alive := []string{"google", "hubspot", "linkedin", "microsoft", "slack"}
	lenient := map[string]Replay{"atlassian": ReplayGrace, "xero": ReplayGrace, "box": ReplaySamePair, "shopify": ReplaySamePair, "gitlab": ReplayDead}
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
	if a, x := Atlassian(), Xero(); a.Grace != 10*time.Minute || x.Grace != 30*time.Minute {
		t.Errorf("graces: %s, %s", a.Grace, x.Grace)
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
		HubSpot().CodeKeys[0] != "status" || len(Presets()) != 21 {
		t.Error("a preset was changed from outside")
	}
}
