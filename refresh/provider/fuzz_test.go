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
	"unicode/utf8"

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
	if len(body) == 0 || strings.IndexByte("<[{\"\xef\xff\xfe\x1f\x00", body[0]) >= 0 {
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

// FuzzBody holds the reading of a body to two laws: a pair is the same in whatever dress it comes, and
// what is cut is never taken for a whole.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		plainAnswer, `{"data":` + plainAnswer + `}`, `{"access_token":"a","x":{"y":[1,{"z":"\u0000"}]}}`, `{"a":1} x`,
		`{"body":"{\"access_token\":\"a\"}"}`, `{"accessToken":"a","refresh":{"token":"r"}}`, `access_token=a&refresh_token=r`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, dress := range []string{string(body), zipped(string(body)), utf16Of("\ufeff"+string(body), true), inString(string(body)), ")]}'" + string(body)} {
			_, _ = readMembers([]byte(dress), false)
		}
		if !json.Valid(body) || !utf8.Valid(body) || bytes.TrimSpace(body)[0] != '{' {
			return
		}
		want, err := Classify(Profile{}, Answer{Status: 200, Body: body})
		if m, _ := readMembers(body, false); err != nil || text(m.find("access_token")) == "" {
			return
		}
		whole := string(body)
		for name, dress := range map[string]string{
			"gzip": zipped(whole), "UTF-16": utf16Of("\ufeff"+whole, true), "UTF-16, big": utf16Of("\ufeff"+whole, false),
			"a string": inString(whole), "after rubbish": ")]}'" + whole, "below": `{"data":` + whole + `}`,
		} {
			got, err := Classify(Profile{}, Answer{Status: 200, Body: []byte(dress)})
			if err != nil || got.AccessToken != want.AccessToken || got.RefreshToken != want.RefreshToken || got.ExpiresIn != want.ExpiresIn {
				t.Errorf("%s: %v, %#v, want %#v", name, err, plainPair(got), plainPair(want))
			}
		}
		for at := range min(len(body), 100) {
			cut, err := Classify(Profile{}, Answer{Status: 200, Body: body[:at], Err: io.ErrUnexpectedEOF})
			if err == nil && cut.RefreshToken == "" {
				if _, whole := readMembers(body[:at], true); !whole {
					t.Errorf("cut at %d: %#v", at, plainPair(cut))
				}
			}
		}
	})
}
