package provider

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestNoRefreshTokenIsAmongTheFurtherMembers(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{`{"access_token":"a","refresh_token":"r","authed_user":{"id":"U1","refresh_token":"CANARY","expires_in":43200}}`,
			`{"authed_user":{"id":"U1","expires_in":43200}}`},
		{`{"access_token":"a","refresh_token":"r","x":{"y":[{"z":{"Refresh_Token":"CANARY","k":9007199254740993}},[{"REFRESH_TOKEN":"CANARY"}],null,"s"]}}`,
			`{"x":{"y":[{"z":{"k":9007199254740993}},[{}],null,"s"]}}`},
		{`{"access_token":"a","refresh_token":"r","refreshToken":"CANARY","refresh-token":["CANARY"],"d":{"refreshToken":{"token":"CANARY"}}}`, `{"d":{}}`},
		{`{"access_token":"a","refresh_token":"r","authed_user":{"refresh_token":null}}`, `{"authed_user":{}}`},
		// What only sounds like one stays.
		{`{"access_token":"a","refresh_token":"r","refresh_token_issued_at":1,"has_refresh_token":true,"u":{"refresh_token_expires_in":2}}`,
			`{"refresh_token_issued_at":1,"has_refresh_token":true,"u":{"refresh_token_expires_in":2}}`},
		{`access_token=a&refresh_token=r&RefreshToken=CANARY&k=v`, `{"k":"v"}`},
	} {
		pair, err := Classify(Profile{}, Answer{Status: 200, Body: []byte(tt.body)})
		if err != nil || pair.RefreshToken != "r" {
			t.Fatalf("%s: %v, %v", tt.body, pair, err)
		}
		var want map[string]any
		dec := json.NewDecoder(strings.NewReader(tt.want))
		dec.UseNumber()
		if err := dec.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(pair.Extra, want) {
			t.Errorf("%s: got %v", tt.body, pair.Extra)
		}
	}
	for _, body := range []string{`{"access_token":"a","refresh_token":"r"}`, `{"access_token":"a","refresh_token":"r","refreshToken":"CANARY"}`} {
		pair, err := Classify(Profile{}, Answer{Status: 200, Body: []byte(body)})
		if err != nil || pair.Extra != nil {
			t.Errorf("%s: members from nowhere: %v, %v", body, pair.Extra, err)
		}
	}
}

func TestLeavingRefreshTokensOutChangesNothingOfTheCallers(t *testing.T) {
	in := map[string]any{"u": map[string]any{"refresh_token": "r", "a": "b"}, "l": []any{map[string]any{"refresh_token": "r"}}}
	out := WithoutRefreshTokens(in).(map[string]any)
	if in["u"].(map[string]any)["refresh_token"] != "r" || in["l"].([]any)[0].(map[string]any)["refresh_token"] != "r" {
		t.Error("the caller's value was changed")
	}
	out["u"].(map[string]any)["a"] = "changed"
	if in["u"].(map[string]any)["a"] != "b" {
		t.Error("the copy is the caller's own")
	}
	for _, v := range []any{nil, "s", true, json.Number("1"), 1.5, map[string]any(nil), []any(nil)} {
		if got := WithoutRefreshTokens(v); !reflect.DeepEqual(got, v) {
			t.Errorf("%#v became %#v", v, got)
		}
	}
	typed := []map[string]any{{"refresh_token": "r", "k": map[string]string{"Refresh_Token": "r", "x": "y"}}}
	want := []map[string]any{{"k": map[string]string{"x": "y"}}}
	if got := WithoutRefreshTokens(typed); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}
