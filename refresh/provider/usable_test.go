package provider

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAnAccessTokenIsUsableIfAHeaderCanCarryIt(t *testing.T) {
	for c := range 256 {
		token := "a" + string([]byte{byte(c)}) + "b"
		want := c >= 0x20 && c <= 0x7e
		if got := (Pair{AccessToken: token, TokenType: "Bearer"}).Usable(); got != want {
			t.Errorf("a token with %#02x: %t", c, got)
		}
		if got := (Pair{AccessToken: "a", TokenType: token}).Usable(); got != want {
			t.Errorf("a type with %#02x: %t", c, got)
		}
	}
	for _, token := range []string{"ü", "a\u2028", "a\r\nX-Evil: 1", string(utf8.RuneError)} {
		if (Pair{AccessToken: token}).Usable() {
			t.Errorf("%q is usable", token)
		}
	}
	if !(Pair{AccessToken: "x.y-z_~+/==", TokenType: ""}).Usable() {
		t.Error("an ordinary token is not usable")
	}
}

// What is called usable must get through net/http.
func TestAUsableTokenGoesThroughNetHTTPAsItIs(t *testing.T) {
	var all strings.Builder
	for c := byte(0x20); c <= 0x7e; c++ {
		all.WriteByte(c)
	}
	want := "Bearer x" + all.String() + "x"
	s, n := counting(t, func(_ http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != want {
			t.Errorf("got %q", got)
		}
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	req.Header.Set("Authorization", want)
	resp, err := s.Client().Do(req)
	if err != nil || n.Load() != 1 {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

func TestAPairWithAnUnusableAccessTokenIsStillAPair(t *testing.T) {
	for _, body := range []string{
		`{"access_token":"a\r\nX-Evil: 1","refresh_token":"r","expires_in":3600}`,
		`{"access_token":"a\u0000b","refresh_token":"r","expires_in":3600}`,
		`{"access_token":"a","refresh_token":"r","token_type":"Bearer\r\nX-Evil: 1","expires_in":3600}`,
		`access_token=a%0Ab&refresh_token=r`,
	} {
		pair, err := Classify(Profile{}, Answer{Status: 200, Body: []byte(body)})
		if err != nil || pair.RefreshToken != "r" || pair.Usable() {
			t.Errorf("%s: %v, usable %t", body, err, pair.Usable())
		}
	}
}
