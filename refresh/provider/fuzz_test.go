package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/oauth2"
)

// FuzzClassify holds Classify to four laws: it never panics; no error tells a
// secret; a 2xx with an access token is a pair; and whatever x/oauth2 takes for
// a token is one here too.
func FuzzClassify(f *testing.F) {
	for _, r := range refusals {
		a := r.answer()
		f.Add(a.Status, a.Header.Get("Content-Type"), a.Header.Get("Retry-After"), a.Body, false)
	}
	for _, body := range []string{
		`{"access_token":"a","refresh_token":"r","expires_in":1e999}`,
		`{"access_token":"a"} x`, `access_token=a&refresh_token=r`, `{"access_token":"a","acce\u017f\u017f_token":null}`,
		`{"error":"` + canaryRefresh + `"}`, `{"error":{"code":"` + canarySecret + `"}}`, `error=` + canaryAccess,
		`{"error":"invalid_grant","error_description":"` + canaryRefresh + `"}`,
	} {
		f.Add(200, "application/json", canaryRefresh, []byte(body), false)
		f.Add(400, "text/plain", "1", []byte(body), true)
	}
	profiles := append([]Profile{{}}, valuesOf(Presets())...)
	f.Fuzz(func(t *testing.T, status int, contentType, retry string, body []byte, cut bool) {
		a := Answer{Status: status, Body: body, Header: http.Header{"Content-Type": {contentType}, "Retry-After": {retry}}}
		if cut {
			a.Err = errors.New("cut after " + string(body))
		}
		p := profiles[len(body)%len(profiles)]
		pair, err := Classify(p, a, canaryRefresh, canaryAccess, canarySecret)
		holdsLaws(t, a, pair, err)
	})
}

func holdsLaws(t *testing.T, a Answer, pair Pair, err error) {
	t.Helper()
	if err == nil {
		if pair.AccessToken == "" || pair.ExpiresIn < 0 || pair.ExpiresIn > maxLife || pair.RefreshTokenExpiresIn < 0 {
			t.Errorf("no pair: %+v", plainPair(pair))
		}
		return
	}
	e := asError(t, err)
	for _, secret := range []string{canaryRefresh, canaryAccess, canarySecret} {
		if strings.Contains(e.Error(), secret) || strings.Contains(e.Code, secret) {
			t.Errorf("leaks: %s", e)
		}
	}
	if len(e.Code) > maxCode || e.RetryAfter < 0 || e.RetryAfter > maxRetryAfter || e.Class == Unsent && a.Status != 0 {
		t.Errorf("out of bounds: %#v", e)
	}
	if a.Status/100 != 2 {
		return
	}
	var oracle struct {
		AccessToken string `json:"access_token"`
	}
	if json.Unmarshal(a.Body, &oracle) == nil && oracle.AccessToken != "" {
		t.Errorf("a living pair was lost: %v", err)
	}
	if a.Err == nil && xoauth2Accepts(a) {
		t.Errorf("x/oauth2 would have kept what was lost: %v", err)
	}
}

// xoauth2Accepts reports whether x/oauth2 makes a token of an answer that is
// form-encoded. What looks like JSON or markup is left out: labelled a form,
// x/oauth2 finds "&access_token=" in the middle of a link.
func xoauth2Accepts(a Answer) bool {
	body := bytes.TrimSpace(a.Body)
	if len(body) == 0 || strings.IndexByte("<[{\"\xef", body[0]) >= 0 {
		return false
	}
	client := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: a.Status, Header: a.Header, Body: io.NopCloser(bytes.NewReader(a.Body))}, nil
	})}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, client)
	cfg := &oauth2.Config{Endpoint: oauth2.Endpoint{TokenURL: "https://x", AuthStyle: oauth2.AuthStyleInParams}}
	tok, err := cfg.TokenSource(ctx, &oauth2.Token{RefreshToken: "x"}).Token()
	return err == nil && strings.TrimSpace(tok.AccessToken) != ""
}

func valuesOf(m map[string]Profile) []Profile {
	var all []Profile
	for _, name := range PresetNames() {
		all = append(all, m[name])
	}
	return all
}
