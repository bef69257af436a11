package provider

import (
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

func TestValidateNamesTheFieldAndTheRule(t *testing.T) {
	tests := []struct {
		p    Profile
		want []string
	}{
		{Profile{Replay: 99}, []string{"Replay", "99"}},
		{Profile{KillsAccessToken: 2}, []string{"KillsAccessToken"}},
		{Profile{Replay: ReplayGrace}, []string{"Grace", "positive"}},
		{Profile{Replay: ReplayGrace, Grace: -1}, []string{"Grace", "positive"}},
		{Profile{Name: "acme", Replay: ReplayDead, Grace: time.Minute}, []string{"acme", "Grace", "ReplayGrace only"}},
		{Profile{RefreshTokenIdle: -1}, []string{"RefreshTokenIdle", "negative"}},
		{Profile{RefreshTokenLife: -1}, []string{"RefreshTokenLife", "negative"}},
		{Profile{AccessTokenLife: -1}, []string{"AccessTokenLife", "negative"}},
		{Profile{MaxAccessTokenLife: -1}, []string{"MaxAccessTokenLife", "negative"}},
		{Profile{ExpiresInUnit: -1}, []string{"ExpiresInUnit", "negative"}},
		{Profile{RefreshAhead: 1}, []string{"RefreshAhead"}},
		{Profile{RefreshAhead: -0.1}, []string{"RefreshAhead"}},
		{Profile{RefreshAhead: math.NaN()}, []string{"RefreshAhead"}},
		{Profile{AuthStyle: 7}, []string{"AuthStyle", "7"}},
		{Profile{Codes: map[string]Class{"": Busy}}, []string{"Codes", "empty"}},
		{Profile{Codes: map[string]Class{"Access Denied": Busy}}, []string{"Codes", "never matches"}},
		{Profile{Codes: map[string]Class{"e@4xx": Busy}}, []string{"Codes", "three digits"}},
		{Profile{Codes: map[string]Class{"e": Unsent}}, []string{"Codes", "never unsent"}},
		{Profile{Codes: map[string]Class{"e": 77}}, []string{"Codes", "never"}},
		{Profile{Phrases: []Phrase{{Class: Busy}}}, []string{"Phrases", "Contains"}},
		{Profile{Phrases: []Phrase{{Code: "a b", Contains: "x", Class: Busy}}}, []string{"Phrases", `"a_b"`}},
		{Profile{Phrases: []Phrase{{Contains: "x", Class: Unsent}}}, []string{"Phrases", "never unsent"}},
		{Profile{CodeKeys: []string{""}}, []string{"CodeKeys"}},
		{Profile{TokenTypes: map[string]string{"": "Bearer"}}, []string{"TokenTypes", "scheme"}},
		{Profile{TokenTypes: map[string]string{"bot": "Bearer xoxb"}}, []string{"TokenTypes", "bot"}},
		{Profile{MemberNames: map[string]string{"token": "x"}}, []string{"MemberNames", `"token"`, "access_token"}},
		{Profile{MemberNames: map[string]string{"access_token": ""}}, []string{"MemberNames", "empty"}},
		{Profile{Replay: 99, AccessTokenLife: -1}, []string{"Replay", "AccessTokenLife"}}, // all at once
	}
	for _, tt := range tests {
		err := tt.p.Validate()
		if err == nil {
			t.Errorf("%v: no error", tt.want)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not say %q", err, w)
			}
		}
	}
	ok := Profile{Codes: map[string]Class{"a.b:c-d_E1@400": Busy, "@409": Busy, "e": Ambiguous}, RefreshAhead: 0.5}
	for _, p := range []Profile{{}, ok, {Replay: ReplayGrace, Grace: time.Second}} {
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheZeroProfileIsTheStrictest(t *testing.T) {
	var p Profile
	if p.Replay != ReplayRevokesFamily || p.KillsAccessToken != Yes {
		t.Errorf("%s, kills %s", p.Replay, p.KillsAccessToken)
	}
	if p.Lifetime(0) != 5*time.Minute || p.Lifetime(-1) != 5*time.Minute || p.Lifetime(time.Hour) != time.Hour {
		t.Error("Lifetime")
	}
	if got := (Profile{AccessTokenLife: time.Minute}).Lifetime(0); got != time.Minute {
		t.Errorf("Lifetime of the profile: %s", got)
	}
}

func TestEveryConstantHasAName(t *testing.T) {
	seen := make(map[string]bool)
	for c := Ambiguous; c <= Refused; c++ {
		seen[c.String()] = true
	}
	for r := ReplayRevokesFamily; r <= ReplayHarmless; r++ {
		seen[r.String()] = true
	}
	seen[Yes.String()], seen[No.String()] = true, true
	if len(seen) != 7+5+2 {
		t.Errorf("names are missing or double: %v", seen)
	}
	if Replay(9).String() != "Replay(9)" || Assumption(9).String() != "Assumption(9)" {
		t.Error("an unknown constant hides")
	}
}

// A consent's answer is read by golang.org/x/oauth2, a refresh's by Classify.
func TestTheRefreshTokensLifeIsReadAlikeFromAConsentAndFromARefresh(t *testing.T) {
	p := Profile{RefreshExpiryKeys: []string{"rt_ttl", "rt_life"}}
	for _, c := range []struct {
		name, contentType, body string
		want                    time.Duration
	}{
		{"a number", "application/json", `{"rt_ttl":7200}`, 2 * time.Hour},
		{"a fraction", "application/json", `{"rt_ttl":1.5}`, 1500 * time.Millisecond},
		{"an exponent", "application/json", `{"rt_ttl":1e3}`, 1000 * time.Second},
		{"a string", "application/json", `{"rt_ttl":"7200"}`, 2 * time.Hour},
		{"a form", "application/x-www-form-urlencoded", `rt_ttl=7200`, 2 * time.Hour},
		{"the second name", "application/json", `{"rt_ttl":0,"rt_life":60}`, time.Minute},
		{"another profile's name", "application/json", `{"refresh_token_expires_in":60}`, 0},
		{"nothing", "application/json", `{}`, 0},
		{"negative", "application/json", `{"rt_ttl":-1}`, 0},
		{"a word", "application/json", `{"rt_ttl":"never"}`, 0},
		{"a date by mistake", "application/json", `{"rt_ttl":1767225600000}`, maxLife},
	} {
		body := strings.Replace(c.body, "{", `{"access_token":"a","refresh_token":"r","x":1,`, 1)
		body = strings.Replace(body, ",}", "}", 1)
		if !strings.HasPrefix(body, "{") {
			body = "access_token=a&refresh_token=r&" + body
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.contentType)
			_, _ = io.WriteString(w, body)
		}))
		cfg := oauth2.Config{ClientID: "id", Endpoint: oauth2.Endpoint{TokenURL: server.URL, AuthStyle: oauth2.AuthStyleInParams}}
		tok, err := cfg.Exchange(t.Context(), "code")
		server.Close()
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		pair, err := Classify(p, Answer{Status: 200, Body: []byte(body)})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := p.RefreshTokenLifetime(tok.Extra); got != c.want || pair.RefreshTokenExpiresIn != c.want {
			t.Errorf("%s: a consent says %s, a refresh %s, want %s", c.name, got, pair.RefreshTokenExpiresIn, c.want)
		}
	}
}

func TestAnAPIRefusalThatWouldMatchEveryAnswerIsRefused(t *testing.T) {
	for _, r := range []APIRefusal{{}, {Status: 200}, {Status: 42, Value: "x"}, {Status: 200, Member: "error"}} {
		if (Profile{APIRefusals: []APIRefusal{r}}).Validate() == nil {
			t.Errorf("%+v was accepted", r)
		}
	}
}
