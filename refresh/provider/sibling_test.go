package provider

import (
	"testing"
)

func TestARefreshTokenIsOfTheSamePair(t *testing.T) {
	for _, c := range []struct {
		in, body, want string
	}{
		{"authed_user", `{"access_token":"bot","refresh_token":"bots","authed_user":{"access_token":"a"}}`, ""},
		{"", `{"data":{"token":{"access_token":"a"},"refresh_token":"r"}}`, "r"},
		{"", `{"data":{"access":{"access_token":"a"},"refresh":{"refresh_token":"r"}}}`, "r"},
		{"", `{"access_token":"a","refresh":{"refresh_token":"r"}}`, "r"},
		{"", `{"access_token":"a","other":{"access_token":"b","refresh_token":"r"}}`, ""},
		{"", `{"access_token":"a","x":{"refresh_token":"r"},"y":{"refresh_token":"s"}}`, ""},
		{"", `{"access_token":"a","x":{"refresh_token":"r"},"request":{"refresh_token":"old"}}`, "r"},
	} {
		pair, err := Classify(Profile{PairIn: c.in}, Answer{Status: 200, Body: []byte(c.body)}, "old")
		if err != nil || pair.AccessToken != "a" || pair.RefreshToken != c.want {
			t.Errorf("%s: %q, %q, %v", c.body, pair.AccessToken, pair.RefreshToken, err)
		}
	}
}

func TestXMLIsReadWhateverEncodingItClaims(t *testing.T) {
	pair, err := Classify(Profile{}, Answer{Status: 200, Body: []byte(`<?xml version="1.0" encoding="ISO-8859-1"?><r><access_token>a</access_token><refresh_token>r</refresh_token></r>`)})
	if err != nil || pair.RefreshToken != "r" {
		t.Error(err)
	}
}
