package provider

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// An answer, and what it means for a provider.
type row struct {
	name   string
	p      Profile
	status int
	header string // "Name: value", one per line
	body   string
	want   Class
	code   string
	retry  time.Duration
}

func (r row) answer() Answer {
	h := make(http.Header)
	for line := range strings.Lines(r.header) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		h.Set(name, value)
	}
	return Answer{Status: r.status, Header: h, Body: []byte(r.body)}
}

const (
	jsonType = "Content-Type: application/json"
	htmlType = "Content-Type: text/html"
	formType = "Content-Type: application/x-www-form-urlencoded"
)

var refusals = []row{
	// What real providers say.
	{"zoom says no with 400", Zoom(), 400, jsonType, `{"reason":"Invalid Token!","error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"zoom said no with 401", Zoom(), 401, jsonType, `{"reason":"Invalid Token!","error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"zoom refuses the app", Zoom(), 401, jsonType, `{"reason":"Invalid client_id or client_secret","error":"invalid_client"}`, AppRefused, "invalid_client", 0},
	{"salesforce is busy", Salesforce(), 400, jsonType, `{"error":"invalid_grant","error_description":"Token request is already being processed"}`, Busy, "invalid_grant", 0},
	{"salesforce says no", Salesforce(), 400, jsonType, `{"error":"invalid_grant","error_description":"expired access/refresh token"}`, Reauthorize, "invalid_grant", 0},
	{"slack says no with 200", Slack(), 200, jsonType, `{"ok":false,"error":"invalid_refresh_token"}`, Reauthorize, "invalid_refresh_token", 0},
	{"slack refuses the app with 200", Slack(), 200, jsonType, `{"ok":false,"error":"bad_client_secret"}`, AppRefused, "bad_client_secret", 0},
	{"slack fails inside with 200", Slack(), 200, jsonType, `{"ok":false,"error":"internal_error"}`, Ambiguous, "internal_error", 0},
	{"atlassian says no with 403", Atlassian(), 403, jsonType, `{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}`, Reauthorize, "invalid_grant", 0},
	{"atlassian refuses the secret", Atlassian(), 403, jsonType, `{"error":"access_denied","error_description":"Unauthorized"}`, AppRefused, "access_denied", 0},
	{"atlassian calls a dead token a client", Atlassian(), 403, jsonType, `{"error":"unauthorized_client","error_description":"refresh_token is invalid"}`, Reauthorize, "unauthorized_client", 0},
	{"atlassian refuses the client", Atlassian(), 403, jsonType, `{"error":"unauthorized_client"}`, AppRefused, "unauthorized_client", 0},
	{"xero says no", Xero(), 400, jsonType, `{"error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"quickbooks says no without a description", QuickBooks(), 400, jsonType, `{"error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"google says no", Google(), 400, jsonType, `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`, Reauthorize, "invalid_grant", 0},
	{"microsoft wants the user", Microsoft(), 400, jsonType, `{"error":"interaction_required","error_codes":[50076],"suberror":"basic_action"}`, Reauthorize, "interaction_required", 0},
	{"microsoft: the customer's admin removed the app", Microsoft(), 400, jsonType, `{"error":"unauthorized_client","error_description":"AADSTS700016: Application with identifier '1' was not found in the directory 'Contoso'.","error_codes":[700016]}`, Reauthorize, "unauthorized_client", 0},
	{"microsoft: the customer's admin disabled the app", Microsoft(), 401, jsonType, `{"error":"invalid_client","error_description":"AADSTS7000112: Application '1'(x) is disabled.","error_codes":[7000112]}`, Reauthorize, "invalid_client", 0},
	{"microsoft refuses the secret", Microsoft(), 401, jsonType, `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215]}`, AppRefused, "invalid_client", 0},
	{"microsoft blocks a loop", Microsoft(), 400, jsonType, `{"error":"invalid_grant","error_description":"AADSTS50196: The server terminated an operation","error_codes":[50196]}`, Throttled, "invalid_grant", 0},
	{"hubspot says no without error", HubSpot(), 400, jsonType, `{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token"}`, Reauthorize, "BAD_REFRESH_TOKEN", 0},
	{"hubspot says something else", HubSpot(), 400, jsonType, `{"status":"error","message":"x"}`, Refused, "error", 0},
	{"auth0 says no", Auth0(), 403, jsonType, `{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}`, Reauthorize, "invalid_grant", 0},
	{"okta says no", Okta(), 400, jsonType, `{"error":"invalid_grant","error_description":"The refresh token is invalid or expired."}`, Reauthorize, "invalid_grant", 0},
	{"cognito says no", Cognito(), 400, jsonType, `{"error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"github says no, form-encoded, with 200", GitHub(), 200, formType, "error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect+or+expired.", Reauthorize, "bad_refresh_token", 0},
	{"github refuses the app", GitHub(), 200, jsonType, `{"error":"incorrect_client_credentials"}`, AppRefused, "incorrect_client_credentials", 0},
	{"gitlab says no", GitLab(), 400, jsonType, `{"error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"gitlab said no with 401", GitLab(), 401, jsonType, `{"error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"box is busy with an empty body", Box(), 409, "", "", Busy, "", 0},
	{"box is busy with an unknown code", Box(), 409, jsonType, `{"error":"conflict"}`, Busy, "conflict", 0},
	{"box says no with 409", Box(), 409, jsonType, `{"error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"zendesk says no", Zendesk(), 400, jsonType, `{"error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"zoho has had enough", Zoho(), 400, jsonType, `{"error":"Access Denied","error_description":"You have made too many requests continuously.","status":"failure"}`, Throttled, "Access_Denied", 0},
	{"linkedin says no", LinkedIn(), 400, jsonType, `{"error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"x says no", X(), 400, jsonType, `{"error":"invalid_request","error_description":"Value passed for the token was invalid."}`, Reauthorize, "invalid_request", 0},

	// What any provider may say.
	{"invalid_grant as text/plain", Profile{}, 400, "Content-Type: text/plain", `{"error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"invalid_grant without a type", Profile{}, 400, "", ` {"error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"invalid_grant in an object", Profile{}, 400, jsonType, `{"error":{"code":"invalid_grant","message":"x"}}`, Reauthorize, "invalid_grant", 0},
	{"invalid_grant, form-encoded", Profile{}, 400, formType, "error=invalid_grant\n", Reauthorize, "invalid_grant", 0},
	{"invalid_grant in capitals", Profile{}, 400, jsonType, `{"error":"INVALID_GRANT"}`, Reauthorize, "INVALID_GRANT", 0},
	{"invalid_grant with 200", Profile{}, 200, jsonType, `{"error":"invalid_grant"}`, Reauthorize, "invalid_grant", 0},
	{"invalid_grant before a cut", Profile{}, 400, jsonType, `{"error":"invalid_grant","error_desc`, Reauthorize, "invalid_grant", 0},
	{"invalid_client", Profile{}, 401, jsonType, `{"error":"invalid_client"}`, AppRefused, "invalid_client", 0},
	{"unauthorized_client", Profile{}, 400, jsonType, `{"error":"unauthorized_client"}`, AppRefused, "unauthorized_client", 0},
	{"unsupported_grant_type", Profile{}, 400, jsonType, `{"error":"unsupported_grant_type"}`, AppRefused, "unsupported_grant_type", 0},
	{"invalid_scope", Profile{}, 400, jsonType, `{"error":"invalid_scope"}`, AppRefused, "invalid_scope", 0},
	{"401 alone", Profile{}, 401, "", "", AppRefused, "", 0},
	{"401 with HTML", Profile{}, 401, htmlType, "<html>login</html>", AppRefused, "", 0},
	{"401 about the token", Profile{}, 401, jsonType, `{"error":"invalid_token"}`, Refused, "invalid_token", 0},
	{"invalid_request", Profile{}, 400, jsonType, `{"error":"invalid_request"}`, Refused, "invalid_request", 0},
	{"interaction_required", Profile{}, 400, jsonType, `{"error":"interaction_required"}`, Reauthorize, "interaction_required", 0},
	{"400 alone", Profile{}, 400, "", "", Refused, "", 0},
	{"400 with a code nobody knows", Profile{}, 400, jsonType, `{"error":"frobnicated"}`, Refused, "frobnicated", 0},
	{"403 from a firewall", Profile{}, 403, htmlType, "<html>blocked</html>", Refused, "", 0},
	{"404", Profile{}, 404, htmlType, "<html>", Refused, "", 0},
	{"409 of another provider", Profile{}, 409, "", "", Refused, "", 0},
	{"a proxy gave up: 408", Profile{}, 408, "", "", Ambiguous, "", 0},
	{"a proxy gave up: 499", Profile{}, 499, "", "", Ambiguous, "", 0},

	{"429", Profile{}, 429, "", "", Throttled, "", 0},
	{"429 in seconds", Profile{}, 429, "Retry-After: 17", "", Throttled, "", 17 * time.Second},
	{"429 with invalid_grant", Profile{}, 429, jsonType, `{"error":"invalid_grant"}`, Throttled, "invalid_grant", 0},
	{"429 with a date", Profile{}, 429, "Retry-After: Wed, 21 Oct 2015 07:28:30 GMT\nDate: Wed, 21 Oct 2015 07:28:00 GMT", "", Throttled, "", 30 * time.Second},
	{"429 with a date and no Date", Profile{}, 429, "Retry-After: Wed, 21 Oct 2015 07:28:30 GMT", "", Throttled, "", 0},
	{"slow_down", Profile{}, 400, jsonType, `{"error":"slow_down"}`, Throttled, "slow_down", 0},
	{"temporarily_unavailable as 400", Profile{}, 400, jsonType, `{"error":"temporarily_unavailable"}`, Throttled, "temporarily_unavailable", 0},
	{"slow_down in a server that stumbles", Profile{}, 500, jsonType, `{"error":"slow_down"}`, Ambiguous, "slow_down", 0},
	{"503 with Retry-After", Profile{}, 503, "Retry-After: 120", "", Ambiguous, "", 2 * time.Minute},
	{"503 with a date and no Date", Profile{}, 503, "Retry-After: Wed, 21 Oct 2015 07:28:30 GMT", "", Ambiguous, "", time.Second},
	{"503 with a pause of nothing", Profile{}, 503, "Retry-After: 0", "", Ambiguous, "", time.Second},
	{"503 with Retry-After and a code", Profile{}, 503, "Retry-After: 1", `{"error":"temporarily_unavailable"}`, Ambiguous, "temporarily_unavailable", time.Second},
	{"503 with Retry-After from a gateway", Profile{}, 503, "Retry-After: 1", "<html>upstream timed out</html>", Ambiguous, "", time.Second},
	{"503 with Retry-After and invalid_grant", Profile{}, 503, "Retry-After: 1", `{"error":"invalid_grant"}`, Ambiguous, "invalid_grant", time.Second},
	{"503 without", Profile{}, 503, "", "", Ambiguous, "", 0},
	{"503 with a Retry-After nobody can read", Profile{}, 503, "Retry-After: soon", "", Ambiguous, "", 0},
	{"503 temporarily_unavailable", Profile{}, 503, jsonType, `{"error":"temporarily_unavailable"}`, Ambiguous, "temporarily_unavailable", 0},

	{"500 server_error", Profile{}, 500, jsonType, `{"error":"server_error"}`, Ambiguous, "server_error", 0},
	{"400 server_error", Profile{}, 400, jsonType, `{"error":"server_error"}`, Ambiguous, "server_error", 0},
	{"500 never kills a grant", Profile{}, 500, jsonType, `{"error":"invalid_grant"}`, Ambiguous, "invalid_grant", 0},
	{"500 with Retry-After", Profile{}, 500, "Retry-After: 5", "", Ambiguous, "", 5 * time.Second},
	{"502 with HTML", Profile{}, 502, htmlType, "<html>Bad Gateway</html>", Ambiguous, "", 0},
	{"504 with text", Profile{}, 504, "Content-Type: text/plain", "gateway timeout", Ambiguous, "", 0},
	{"503 by profile", Profile{Codes: map[string]Class{"locked@503": Busy}}, 503, "", `{"error":"locked"}`, Busy, "locked", 0},

	{"a redirect", Profile{}, 302, "Location: https://elsewhere/?x=1", "", AppRefused, "", 0},
	{"a redirect that keeps the method", Profile{}, 307, "Location: /token", "", AppRefused, "", 0},
	{"a redirect after the fact", Profile{}, 303, "Location: /done", "", Ambiguous, "", 0},
	{"a redirect with a token is no pair", Profile{}, 302, jsonType, `{"access_token":"a"}`, AppRefused, "", 0},

	{"200 empty", Profile{}, 200, "", "", Ambiguous, "", 0},
	{"204", Profile{}, 204, "", "", Ambiguous, "", 0},
	{"200 HTML with a token in a link", Profile{}, 200, htmlType, `<a href="/x?y=1&access_token=abc&z">`, Ambiguous, "", 0},
	{"200 with an envelope of two pairs", Profile{}, 200, jsonType, `{"error":0,"app":{"access_token":"a"},"user":{"access_token":"b"}}`, Ambiguous, "0", 0},
	{"200 with an unknown error", Profile{}, 200, jsonType, `{"error":"frobnicated"}`, Ambiguous, "frobnicated", 0},
	{"200 with an empty token", Profile{}, 200, jsonType, `{"access_token":"","refresh_token":"r"}`, Ambiguous, "", 0},
	{"200 with a list", Profile{}, 200, jsonType, `[{"access_token":"a"}]`, Ambiguous, "", 0},
	{"200 cut in the access token", Profile{}, 200, jsonType, `{"refresh_token":"r","access_token":"a`, Ambiguous, "", 0},
	{"200 cut before a refresh token", Profile{}, 200, jsonType, `{"access_token":"a","refresh_tok`, Ambiguous, "", 0},

	{"a code too long to be one", Profile{}, 400, jsonType, `{"error":"` + strings.Repeat("x", 65) + `"}`, Refused, "", 0},
	{"a code with markup", Profile{}, 400, jsonType, `{"error":"<b>no</b>"}`, Refused, "", 0},
	{"a code that is a sentence", Profile{}, 400, jsonType, `{"error":"Bad Thing"}`, Refused, "Bad_Thing", 0},
	{"a code that is the refresh token", Profile{}, 400, jsonType, `{"error":"` + canaryRefresh + `"}`, Refused, "", 0},
	{"a code that holds the access token", Profile{}, 400, jsonType, `{"error":"bad:` + canaryAccess + `"}`, Refused, "", 0},
	{"a code that is a piece of the secret", Profile{}, 400, jsonType, `{"error":"CANARY-client"}`, Refused, "", 0},
}

func TestEveryRefusalNamesWhoActsNext(t *testing.T) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			_, err := Classify(r.p, r.answer(), canaryRefresh, canaryAccess, canarySecret)
			e := asError(t, err)
			if e.Class != r.want || e.Code != r.code || e.Status != r.status || e.RetryAfter != r.retry {
				t.Errorf("got %s %q %d %s, want %s %q %d %s",
					e.Class, e.Code, e.Status, e.RetryAfter, r.want, r.code, r.status, r.retry)
			}
			if wants := e.RetryAfter > 0; e.Status == 503 && e.Throttles() != wants {
				t.Errorf("a 503 that wants a pause of %s: throttles %t", e.RetryAfter, !wants)
			}
			if strings.Contains(e.Error(), "CANARY") {
				t.Errorf("leaks: %s", e)
			}
		})
	}
}

func TestEverySuccessIsAPair(t *testing.T) {
	full := Pair{AccessToken: "a", RefreshToken: "r", TokenType: "Bearer", Scope: "s t", ExpiresIn: time.Hour}
	bare := Pair{AccessToken: "a", RefreshToken: "r"}
	tests := []struct {
		name   string
		p      Profile
		status int
		header string
		body   string
		want   Pair
	}{
		{"rotated", Zoom(), 200, jsonType, `{"access_token":"a","refresh_token":"r","token_type":"Bearer","scope":"s t","expires_in":3600}`, full},
		{"kept", Google(), 200, jsonType, `{"access_token":"a","expires_in":3599}`, Pair{AccessToken: "a", ExpiresIn: 3599 * time.Second}},
		{"kept: null", Profile{}, 200, jsonType, `{"access_token":"a","refresh_token":null}`, Pair{AccessToken: "a"}},
		{"201", Profile{}, 201, jsonType, `{"access_token":"a","refresh_token":"r"}`, bare},
		{"form-encoded", GitHub(), 200, formType,
			"access_token=a&expires_in=28800&refresh_token=r&refresh_token_expires_in=15811200&scope=&token_type=bearer",
			Pair{AccessToken: "a", RefreshToken: "r", TokenType: "bearer", ExpiresIn: 8 * time.Hour, RefreshTokenExpiresIn: 183 * day}},
		{"form-encoded, partly malformed", Profile{}, 200, formType, "x=%zz&access_token=a%2B&refresh_token=r&k=v",
			Pair{AccessToken: "a+", RefreshToken: "r", Extra: map[string]any{"k": "v"}}},
		{"JSON as text/plain", Profile{}, 200, "Content-Type: text/plain", `{"access_token":"a","refresh_token":"r"}`, bare},
		{"JSON as HTML", Profile{}, 200, htmlType, "\n" + `{"access_token":"a","refresh_token":"r"}`, bare},
		{"JSON as a form", Profile{}, 200, formType, `{"access_token":"a","refresh_token":"r"}`, bare},
		{"JSON after a byte order mark", Profile{}, 200, jsonType, "\xef\xbb\xbf" + `{"access_token":"a","refresh_token":"r"}`, bare},
		{"JSON before rubbish", Profile{}, 200, jsonType, `{"access_token":"a","refresh_token":"r"} <!-- 3 ms -->`, bare},
		{"JSON that breaks off after the pair", Profile{}, 200, jsonType, `{"access_token":"a","refresh_token":"r","x":{"y`, bare},
		{"JSON in other case", Profile{}, 200, jsonType, `{"Access_Token":"a","REFRESH_TOKEN":"r"}`, bare},
		{"broken off, but nothing rotates", Google(), 200, jsonType, `{"access_token":"a","sco`, Pair{AccessToken: "a"}},
		{"a scope list", Profile{}, 200, jsonType, `{"access_token":"a","refresh_token":"r","scope":["s","t"]}`, Pair{AccessToken: "a", RefreshToken: "r", Scope: "s t"}},
		{"the living pair beats an error", Profile{}, 200, jsonType, `{"access_token":"a","refresh_token":"r","error":"invalid_grant"}`,
			Pair{AccessToken: "a", RefreshToken: "r", Extra: map[string]any{"error": "invalid_grant"}}},
		{"quickbooks", QuickBooks(), 200, jsonType, `{"access_token":"a","refresh_token":"r","x_refresh_token_expires_in":8726400}`,
			Pair{AccessToken: "a", RefreshToken: "r", RefreshTokenExpiresIn: 101 * day}},
		{"a lifetime under a name of the profile's", Profile{RefreshExpiryKeys: []string{"rt_ttl"}}, 200, jsonType, `{"access_token":"a","refresh_token":"r","rt_ttl":"60"}`,
			Pair{AccessToken: "a", RefreshToken: "r", RefreshTokenExpiresIn: time.Minute}},
		{"extras keep their digits", Profile{}, 200, jsonType, `{"access_token":"a","refresh_token":"r","id":9007199254740993,"id_token":"j"}`,
			Pair{AccessToken: "a", RefreshToken: "r", Extra: map[string]any{"id": json.Number("9007199254740993"), "id_token": "j"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := row{status: tt.status, header: tt.header, body: tt.body}
			got, err := Classify(tt.p, r.answer())
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %#v\nwant %#v", plainPair(got), plainPair(tt.want))
			}
		})
	}
}

// plainPair prints: the test's own pairs are no secret.
func plainPair(p Pair) any {
	type open Pair
	return open(p)
}

func TestExpiresInIsReadHoweverItIsWritten(t *testing.T) {
	for in, want := range map[string]time.Duration{
		`3600`: time.Hour, `"3600"`: time.Hour, `3600.0`: time.Hour, `1e3`: 1000 * time.Second, `" 60 "`: time.Minute,
		`0.5`: 500 * time.Millisecond,
		`""`:  0, `null`: 0, `0`: 0, `"0"`: 0, `-1`: 0, `"-3600"`: 0, `"soon"`: 0, `true`: 0, `{}`: 0, `[3600]`: 0, `"NaN"`: 0, `"-Inf"`: 0,
		`1e999`: maxLife, `9223372036854775807`: maxLife, `99999999999999999999`: maxLife, `1735689600`: maxLife, `-1e999`: 0,
	} {
		body := `{"access_token":"a","refresh_token":"r","expires_in":` + in + `,"scope":"s"}`
		pair, err := Classify(Profile{}, Answer{Status: 200, Body: []byte(body)})
		if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if pair.ExpiresIn != want || pair.Scope != "s" {
			t.Errorf("%s: got %s, scope %q; want %s", in, pair.ExpiresIn, pair.Scope, want)
		}
	}
}

func TestRetryAfterNeedsNoClock(t *testing.T) {
	const date = "Wed, 21 Oct 2015 07:28:00 GMT"
	tests := []struct {
		retry, date string
		want        time.Duration
		said        bool
	}{
		{"", date, 0, false},
		{"soon", date, 0, false},
		{"NaN", date, 0, false},
		{"0", date, 0, true},
		{" 30 ", date, 30 * time.Second, true},
		{"1.5", "", 1500 * time.Millisecond, true},
		{"-5", "", 0, true},
		{"-Inf", "", 0, true},
		{"999999999999", "", maxRetryAfter, true},
		{"Wed, 21 Oct 2015 07:29:00 GMT", date, time.Minute, true},
		{"Wednesday, 21-Oct-15 07:29:00 GMT", date, time.Minute, true},
		{"Wed, 21 Oct 2015 07:27:00 GMT", date, 0, true},
		{"Wed, 21 Oct 2099 07:28:00 GMT", date, maxRetryAfter, true},
		{"Wed, 21 Oct 2099 07:28:00 GMT", "", 0, true},
		{"Wed, 21 Oct 2099 07:28:00 GMT", "yesterday", 0, true},
	}
	for _, tt := range tests {
		got, said := retryAfter(http.Header{"Retry-After": {tt.retry}, "Date": {tt.date}})
		if got != tt.want || said != tt.said {
			t.Errorf("%q after %q: got %s, %t; want %s, %t", tt.retry, tt.date, got, said, tt.want, tt.said)
		}
	}
}

// A gateway answers so when it has given up on a server that then redeems the token.
func TestAServerThatWantsAPauseMayStillHaveSpentTheToken(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504, 520, 529} {
		for _, body := range []string{"", "<html>", `{"error":"temporarily_unavailable"}`, `{"error":"slow_down"}`, `{"error":"invalid_client"}`} {
			for _, p := range append(valuesOf(Presets()), Profile{}) {
				_, err := Classify(p, Answer{Status: status, Header: http.Header{"Retry-After": {"7"}}, Body: []byte(body)})
				e := asError(t, err)
				if !e.Class.MaybeSpent() || e.RetryAfter != 7*time.Second {
					t.Errorf("%s, HTTP %d %s: %s, retry after %s", p.Name, status, body, e.Class, e.RetryAfter)
				}
				if status == 503 && !e.Throttles() {
					t.Errorf("%s, HTTP %d %s: its wish for a pause is lost", p.Name, status, body)
				}
			}
		}
	}
}

// RFC 6749 §5.2 answers invalid_client with 401, and nothing else: any other code
// there is about that code, hence about this tenant.
func TestA401WithAnotherCodeIsNotTheClientsFault(t *testing.T) {
	for body, want := range map[string]Class{
		`{"error":"invalid_request","error_description":"This request requires an active refresh_token."}`: Refused,
		`{"error":"token_inactive","error_description":"Token is inactive."}`:                              Refused,
		`{"error":"invalid_token"}`:                    Refused,
		`{"error":"expired"}`:                          Refused,
		`{"error":"The refresh token has gone away!"}`: Refused, // words that are no code
		`{"error":{"code":"session_not_found"}}`:       Refused,
		`error=revoked`:                                Refused,
		`{"error":"` + canaryRefresh + `"}`:            Refused, // a code that must not get out counts too
		`{"error":"` + strings.Repeat("x", 99) + `"}`:  Refused,
		`{"error":"invalid_grant"}`:                    Reauthorize,
		`{"error":"login_required"}`:                   Reauthorize,

		`{"error":"invalid_client"}`:         AppRefused,
		`{"error":"unauthorized_client"}`:    AppRefused,
		`{"error":"invalid_scope"}`:          AppRefused,
		`{"error":"unsupported_grant_type"}`: AppRefused,
		``:                                   AppRefused,
		`<html>Unauthorized</html>`:          AppRefused,
		`{"message":"Unauthorized"}`:         AppRefused,
		`{"error":""}`:                       AppRefused,
		`{"error":null}`:                     AppRefused,
		`{"error":401}`:                      AppRefused, // says no more than the status
		`{"error":{"code":401,"message":"Unauthorized."}}`: AppRefused,
	} {
		_, err := Classify(Profile{}, Answer{Status: 401, Body: []byte(body)}, canaryRefresh)
		e := asError(t, err)
		if e.Class != want {
			t.Errorf("%s: got %s, want %s", body, e.Class, want)
		}
		if e.ClientRefused() != strings.Contains(body, "invalid_client") {
			t.Errorf("%s: certainly the client's fault: %t", body, e.ClientRefused())
		}
	}
}

func TestAnAnswerCutShortIsAPairOnlyIfBothTokensAreWhole(t *testing.T) {
	tests := []struct {
		body string
		pair bool
	}{
		{`{"access_token":"a","refresh_token":"r"`, true},
		{`{"access_token":"a","refresh_token":"r`, false},
		{`{"access_token":"a"`, false},
		{`{"access_token":"a"}`, true}, // the object is whole, whatever was lost behind it
		{`access_token=a&refresh_token=r&x`, true},
		{`access_token=a&refresh_token=r`, false}, // may be half of it
		{`refresh_token=r&access_token=a`, false},
	}
	for _, tt := range tests {
		a := Answer{Status: 200, Body: []byte(tt.body), Err: io.ErrUnexpectedEOF}
		pair, err := Classify(Profile{}, a)
		if (err == nil) != tt.pair {
			t.Errorf("%s: %v", tt.body, err)
		}
		if err == nil && pair.AccessToken != "a" {
			t.Errorf("%s: access token %q", tt.body, pair.AccessToken)
		}
		if err != nil && (asError(t, err).Class != Ambiguous || !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("%s: %v", tt.body, err)
		}
	}
}

func TestNoAnswerIsAmbiguousUnlessProvablyUnsent(t *testing.T) {
	for unsent, want := range map[bool]Class{false: Ambiguous, true: Unsent} {
		_, err := Classify(Profile{}, Answer{Err: io.EOF, Unsent: unsent})
		if e := asError(t, err); e.Class != want || e.Status != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("unsent %t: %v", unsent, err)
		}
	}
	_, err := Classify(Profile{}, Answer{})
	if e := asError(t, err); e.Class != Ambiguous || !e.Class.MaybeSpent() {
		t.Errorf("the zero answer: %v", err)
	}
}

func TestPhrasesComeBeforeCodesAndNeedTheirCode(t *testing.T) {
	p := Profile{
		Codes:   map[string]Class{"e@400": AppRefused, "e": Throttled, "other": Throttled},
		Phrases: []Phrase{{Code: "e", Contains: "WAIT a bit", Class: Busy}},
	}
	for body, want := range map[string]Class{
		`{"error":"e","message":"please wait A bit"}`: Busy,
		`{"error":"e"}`: AppRefused,
		`{"error":"other","message":"wait a bit"}`: Throttled,
	} {
		_, err := Classify(p, Answer{Status: 400, Body: []byte(body)})
		if e := asError(t, err); e.Class != want {
			t.Errorf("%s: got %s, want %s", body, e.Class, want)
		}
	}
	_, err := Classify(p, Answer{Status: 403, Body: []byte(`{"error":"e"}`)})
	if e := asError(t, err); e.Class != Throttled {
		t.Errorf("e@400 held for 403: %v", e)
	}
}

// Each of these was told of one tenant whose grant or directory was the matter, while
// the others were served. None may be taken for proof against the client.
func TestAnAnswerAboutOneTenantIsNoProofAgainstTheClient(t *testing.T) {
	for _, r := range []row{
		{"a shop's dead token", Profile{}, 401, jsonType, `{"error":"invalid_request","error_description":"This request requires an active refresh_token"}`, Refused, "invalid_request", 0},
		{"an inactive token", Profile{}, 401, jsonType, `{"error":"token_inactive"}`, Refused, "token_inactive", 0},
		{"a dead session", Profile{}, 401, "", "", AppRefused, "", 0},
		{"a wrong token, but scopes are checked first", Profile{}, 400, jsonType, `{"error":"invalid_scope"}`, AppRefused, "invalid_scope", 0},
		{"a directory that does not know the app", Profile{}, 400, jsonType, `{"error":"unauthorized_client"}`, AppRefused, "unauthorized_client", 0},
		{"a login host that leads to the tenant's own", Profile{}, 302, "Location: https://acme.example/token", "", AppRefused, "", 0},
		{"a removed app", Microsoft(), 400, jsonType, `{"error":"unauthorized_client","error_description":"AADSTS700016: x"}`, Reauthorize, "unauthorized_client", 0},
		{"a disabled app", Microsoft(), 401, jsonType, `{"error":"invalid_client","error_description":"AADSTS7000112: x"}`, Reauthorize, "invalid_client", 0},
	} {
		_, err := Classify(r.p, r.answer())
		if e := asError(t, err); e.Class != r.want || e.Code != r.code || e.ClientRefused() || e.Throttles() {
			t.Errorf("%s: %v", r.name, e)
		}
	}
}
