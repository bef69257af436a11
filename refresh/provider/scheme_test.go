package provider

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestAForeignTypeIsNotTheScheme(t *testing.T) {
	own := Profile{TokenTypes: map[string]string{"Access": "Token"}}
	rest := Profile{TokenTypes: map[string]string{"*": "Bearer", "odd": "Odd"}}
	for _, c := range []struct {
		p          Profile
		said, want string
	}{
		{Slack(), "bot", "Bearer"},
		{Slack(), "user", "Bearer"},
		{Slack(), "BOT", "Bearer"},
		{Slack(), "Bearer", "Bearer"},
		{Slack(), "", ""},
		{Profile{}, "BearerToken", "Bearer"},
		{Profile{}, "N_A", "Bearer"},
		{Profile{}, "bearer", "bearer"},
		{Profile{}, "DPoP", "DPoP"},
		{Profile{}, "MAC", "MAC"},
		{Profile{}, "bot", "bot"}, // as sent: nobody has said what it means
		{own, "access", "Token"},
		{own, "other", "other"},
		{rest, "anything", "Bearer"},
		{rest, "odd", "Odd"},
		{rest, "DPoP", "DPoP"},
		{rest, "bearer", "bearer"},
	} {
		body := `{"access_token":"a","refresh_token":"r","token_type":"` + c.said + `"}`
		pair, err := Classify(c.p, Answer{Status: 200, Body: []byte(body)})
		if err != nil || pair.TokenType != c.want {
			t.Errorf("%s %q: %q, %v", c.p.Name, c.said, pair.TokenType, err)
		}
		if again := c.p.Scheme(pair.TokenType); again != pair.TokenType {
			t.Errorf("%q becomes %q, and then %q", c.said, pair.TokenType, again)
		}
	}
}

func TestMembersThatSayWhereTheAPIIsAreKept(t *testing.T) {
	answer := map[string]any{
		"access_token": "CANARY", "refresh_token": "CANARY", "instance_url": "https://eu1.example", "api_domain": "https://www.zohoapis.eu",
		"id_token": "j", "realmId": json.Number("9007199254740993"), "team": map[string]any{"id": "T1", "refresh_token": "CANARY"},
		"other": "o", "enterprise": nil, "authed_user": map[string]any{"id": "U1", "refreshToken": "CANARY"}, "api_url": "",
	}
	member := func(name string) any { return answer[name] }
	always := map[string]any{"instance_url": "https://eu1.example", "api_domain": "https://www.zohoapis.eu", "id_token": "j",
		"realmId": json.Number("9007199254740993"), "team": map[string]any{"id": "T1"}}
	if got := (Profile{}).KeptMembers(member); !reflect.DeepEqual(got, always) {
		t.Errorf("got %v", got)
	}
	if got := (Profile{KeepExtra: []string{"other", "refresh_token"}}).KeptMembers(member); got["other"] != "o" || len(got) != len(always)+1 {
		t.Errorf("named: %v", got)
	}
	if got := Slack().KeptMembers(member); !reflect.DeepEqual(got["authed_user"], map[string]any{"id": "U1"}) {
		t.Errorf("slack: %v", got)
	}
}
