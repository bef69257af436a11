package provider

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// quotes are the ways in which a server may quote one text that it was sent.
func quotes(s string) map[string]string {
	all := map[string]string{
		"plain": s, "upper case": strings.ToUpper(s), "escaped": url.QueryEscape(s), "escaped as a path": url.PathEscape(s),
		"hex": hex.EncodeToString([]byte(s)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(s))),
		"base64": base64.StdEncoding.EncodeToString([]byte(s)), "base64 raw": base64.RawStdEncoding.EncodeToString([]byte(s)),
		"base64 url": base64.URLEncoding.EncodeToString([]byte(s)), "base64 raw url": base64.RawURLEncoding.EncodeToString([]byte(s)),
		"base64 of escaped":     base64.RawURLEncoding.EncodeToString([]byte(url.QueryEscape(s))),
		"base64 in a text":      base64.RawURLEncoding.EncodeToString([]byte("x" + s + "xyz")),
		"base64 in longer text": base64.RawURLEncoding.EncodeToString([]byte("xy" + s + "z")),
	}
	for name, text := range maps.Clone(all) {
		all[name+", in a longer code"] = "Basic_" + text
		size := minPiece
		if strings.Contains(name, " text") {
			size += 7 // may begin or end with what is around the secret
		}
		for i, part := range []string{"its begin", "its middle", "its end"} {
			at := i * (len(text) - size) / 2
			all[name+", "+part] = text[at : at+size]
			all[name+", "+part+" in a longer code"] = "bad:" + text[at:at+size] + "."
		}
	}
	return all
}

func TestNoFormOfASecretComesBackAsAnErrorCode(t *testing.T) {
	var quote func(*http.Request) string
	s, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.WriteHeader(http.StatusBadRequest)
		body, _ := json.Marshal(map[string]any{"error": quote(r), "status": quote(r)})
		_, _ = w.Write(body)
	})
	g := Grant{Tenant: "acme", AccessToken: canaryAccess + " 1/+", RefreshToken: canaryRefresh + " ?>~"}
	const id, secret = "the id:1", canarySecret + " ü/+?"
	presented := map[string]string{
		"secret": secret, "refresh token": g.RefreshToken, "access token": g.AccessToken,
		"id:secret": id + ":" + secret, "Basic": url.QueryEscape(id) + ":" + url.QueryEscape(secret),
	}
	for _, p := range append(valuesOf(Presets()), Profile{}, ZoomServerToServer()) {
		for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
			pr, err := OAuth2(&oauth2.Config{ClientID: id, ClientSecret: secret, Endpoint: oauth2.Endpoint{TokenURL: s.URL, AuthStyle: style}}, p)
			if err != nil {
				t.Fatal(err)
			}
			ep := pr.Exchanger.(*TokenEndpoint)
			silently := func(what string) {
				t.Helper()
				_, err := ep.Exchange(t.Context(), g)
				if e := asError(t, err); e.Code != "" {
					t.Errorf("%s, style %d, %s: %s", p.Name, style, what, e)
				}
			}
			// What the server really got, and then everything that can be made of it.
			quote = func(r *http.Request) string {
				if style == oauth2.AuthStyleInHeader {
					return strings.TrimRight(r.Header.Get("Authorization"), "=")[:50]
				}
				return r.PostFormValue("client_secret")
			}
			silently("the client's authentication")
			if p.Name != "" && p.Name != "slack" {
				ep.CloseIdleConnections()
				continue // the rest is the same for all
			}
			for name, s := range presented {
				for how, text := range quotes(s) {
					quote = func(*http.Request) string { return text }
					silently(name + ", " + how)
				}
			}
			quote = func(*http.Request) string { return "not_a_secret_at_all" }
			if _, err := ep.Exchange(t.Context(), g); asError(t, err).Code != "not_a_secret_at_all" {
				t.Errorf("a harmless code is lost: %v", err)
			}
			ep.CloseIdleConnections()
		}
	}
}

func TestAMintsSecretParametersDoNotComeBackAsAnErrorCode(t *testing.T) {
	s, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":"bad_%s"}`, base64.RawURLEncoding.EncodeToString([]byte(r.PostFormValue("api_key"))))
	})
	p, err := ClientCredentials(&clientcredentials.Config{ClientID: "id", TokenURL: s.URL,
		EndpointParams: url.Values{"api_key": {"CANARY-api-key"}}}, header)
	if err != nil {
		t.Fatal(err)
	}
	ep := p.Exchanger.(*TokenEndpoint)
	t.Cleanup(ep.CloseIdleConnections)
	if e := refuses(t, ep, t.Context(), Refused); e.Code != "" {
		t.Error(e)
	}
}

// Whoever chooses a token cannot make a code that the standards or the profile name
// unreadable.
func TestAKnownCodeIsReportedWhateverTheTokensLookLike(t *testing.T) {
	p := Profile{Codes: map[string]Class{"refresh_token_not_found@400": Reauthorize}, Phrases: []Phrase{{Code: "odd_client_code", Contains: "x", Class: Busy}}}
	for _, code := range []string{"invalid_client", "invalid_grant", "refresh_token_not_found", "odd_client_code"} {
		_, err := Classify(p, Answer{Status: 400, Body: []byte(`{"error":"` + code + `"}`)}, "my-invalid_client-and-refresh_token_not_found", "invalid_grant-odd_client_code")
		if e := asError(t, err); e.Code != code {
			t.Errorf("%s: %v", code, e)
		}
	}
}
