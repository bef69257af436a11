package provider

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf16"
)

const plainAnswer = `{"access_token":"a","refresh_token":"r","token_type":"Bearer","expires_in":3600}`

var plainRead = Pair{AccessToken: "a", RefreshToken: "r", TokenType: "Bearer", ExpiresIn: time.Hour}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func zlibbed(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func utf16Of(s string, little bool) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		if little {
			b = append(b, byte(u), byte(u>>8))
		} else {
			b = append(b, byte(u>>8), byte(u))
		}
	}
	return string(b)
}

func inString(s string) string {
	q, _ := json.Marshal(s)
	return string(q)
}

func TestAPairIsReadInWhateverDressItComes(t *testing.T) {
	for name, body := range map[string]string{
		"gzip that nobody told of":      zipped(plainAnswer),
		"gzip of a form":                zipped("access_token=a&refresh_token=r&token_type=Bearer&expires_in=3600"),
		"gzip of UTF-16":                zipped(utf16Of("\ufeff"+plainAnswer, true)),
		"zlib":                          zlibbed(plainAnswer),
		"XML":                           `<?xml version="1.0"?><OAuth><access_token>a</access_token><refresh_token> r </refresh_token><token_type>Bearer</token_type><expires_in>3600</expires_in></OAuth>`,
		"XML, one below":                `<r><data><access_token>a</access_token><refresh_token>r</refresh_token><token_type>Bearer</token_type><expires_in>3600</expires_in></data></r>`,
		"XML, cut behind it":            `<r><access_token>a</access_token><refresh_token>r</refresh_token><token_type>Bearer</token_type><expires_in>3600</expires_in><sco`,
		"a byte order mark":             "\xef\xbb\xbf" + plainAnswer,
		"UTF-16, little endian":         utf16Of("\ufeff"+plainAnswer, true),
		"UTF-16, big endian":            utf16Of("\ufeff"+plainAnswer, false),
		"UTF-16, no mark, little":       utf16Of(plainAnswer, true),
		"UTF-16, no mark, big":          utf16Of(plainAnswer, false),
		"JSON in a string":              inString(plainAnswer),
		"a form in a string":            inString("access_token=a&refresh_token=r&token_type=Bearer&expires_in=3600"),
		"after what stops browsers":     ")]}'\n" + plainAnswer,
		"after a comma, too":            ")]}',\n" + plainAnswer,
		"after an endless loop":         "for(;;);" + plainAnswer,
		"in a callback":                 "cb(" + plainAnswer + ");",
		"after a warning":               "Notice: undefined index in /srv/x.php on line 3\n" + plainAnswer,
		"form-encoded":                  "access_token=a&refresh_token=r&token_type=Bearer&expires_in=3600",
		"camelCase":                     `{"accessToken":"a","refreshToken":"r","tokenType":"Bearer","expiresIn":3600}`,
		"PascalCase":                    `{"AccessToken":"a","RefreshToken":"r","TokenType":"Bearer","ExpiresIn":"3600"}`,
		"dashes":                        `{"access-token":"a","refresh-token":"r","token-type":"Bearer","expires-in":3600}`,
		"camelCase, form-encoded":       "accessToken=a&refreshToken=r&tokenType=Bearer&expiresIn=3600",
		"one below":                     `{"data":` + plainAnswer + `}`,
		"two below":                     `{"result":{"tokens":` + plainAnswer + `}}`,
		"in a list below":               `{"data":[` + plainAnswer + `]}`,
		"as a text below":               `{"body":` + inString(plainAnswer) + `}`,
		"gzip of one below":             zipped(`{"data":` + plainAnswer + `}`),
		"one below in camelCase":        `{"data":{"accessToken":"a","refreshToken":"r","tokenType":"Bearer","expiresIn":3600}}`,
		"the rest at the top":           `{"refresh_token":"r","token_type":"Bearer","expires_in":3600,"token":{"access_token":"a"}}`,
		"an empty one at the top":       `{"access_token":"","data":` + plainAnswer + `}`,
		"beside null":                   `{"error":null,"data":` + plainAnswer + `}`,
		"cut behind it":                 `{"data":{"access_token":"a","refresh_token":"r","token_type":"Bearer","expires_in":3600,"sco`,
		"cut behind it in a list":       `{"data":[{"access_token":"a","refresh_token":"r","token_type":"Bearer","expires_in":3600,"x":{`,
		"the outer of one in the other": `{"data":{"access_token":"a","refresh_token":"r","token_type":"Bearer","expires_in":3600}, "x":{"access_token":null}}`,
	} {
		got, err := Classify(Profile{}, Answer{Status: 200, Body: []byte(body)})
		got.Extra = nil
		if err != nil || !reflect.DeepEqual(got, plainRead) {
			t.Errorf("%s: %#v, %v", name, plainPair(got), err)
		}
	}
}

func TestAPairBelowTheTopBringsItsMembers(t *testing.T) {
	slack := `{"ok":true,"team":{"id":"T1"},"authed_user":{"id":"U1","access_token":"a","refresh_token":"r","token_type":"user","expires_in":43200,"scope":"s"}}`
	user := Slack()
	user.PairIn = "authed_user"
	for _, c := range []struct {
		name string
		p    Profile
		body string
		want Pair
	}{
		{"TikTok Business, U-Tec", Profile{}, `{"code":200,"data":{"access_token":"a","refresh_token":"r"}}`,
			Pair{AccessToken: "a", RefreshToken: "r", Extra: map[string]any{"code": json.Number("200")}}},
		{"a user's token at Slack", Slack(), slack,
			Pair{AccessToken: "a", RefreshToken: "r", TokenType: "Bearer", Scope: "s", ExpiresIn: 12 * time.Hour,
				Extra: map[string]any{"ok": true, "id": "U1", "team": map[string]any{"id": "T1"}}}},
		{"beside a bot's", user, `{"ok":true,"access_token":"bot","refresh_token":"botr","authed_user":{"id":"U1","access_token":"a","refresh_token":"r"}}`,
			Pair{AccessToken: "a", RefreshToken: "r", Extra: map[string]any{"ok": true, "id": "U1"}}},
		{"the bot's", Slack(), `{"ok":true,"access_token":"a","refresh_token":"r","authed_user":{"id":"U1"}}`,
			Pair{AccessToken: "a", RefreshToken: "r", Extra: map[string]any{"ok": true, "authed_user": map[string]any{"id": "U1"}}}},
		{"a refresh, at the top", user, `{"ok":true,"access_token":"a","refresh_token":"r"}`,
			Pair{AccessToken: "a", RefreshToken: "r", Extra: map[string]any{"ok": true}}},
		{"named, of two", Profile{PairIn: "user"}, `{"app":{"access_token":"b","refresh_token":"CANARY"},"user":{"access_token":"a","refresh_token":"r"}}`,
			Pair{AccessToken: "a", RefreshToken: "r", Extra: map[string]any{"app": map[string]any{"access_token": "b"}}}},
		{"named two below, of two", Profile{PairIn: "data.user"}, `{"data":{"app":{"access_token":"b"},"user":{"access_token":"a","refresh_token":"r"}}}`,
			Pair{AccessToken: "a", RefreshToken: "r"}},
		{"names of its own", Profile{MemberNames: map[string]string{"access_token": "token", "refresh_token": "renewal"}}, `{"token":"a","renewal":"r","id":"1"}`,
			Pair{AccessToken: "a", RefreshToken: "r", Extra: map[string]any{"id": "1"}}},
		{"names that are paths", Profile{MemberNames: map[string]string{"access_token": "access.token", "refresh_token": "refresh.token", "expires_in": "access.ttl"}},
			`{"access":{"token":"a","ttl":60},"refresh":{"token":"r"}}`, Pair{AccessToken: "a", RefreshToken: "r", ExpiresIn: time.Minute}},
		{"the standard's names all the same", Profile{MemberNames: map[string]string{"access_token": "token"}}, `{"access_token":"a","refresh_token":"r"}`,
			Pair{AccessToken: "a", RefreshToken: "r"}},
	} {
		got, err := Classify(c.p, Answer{Status: 200, Body: []byte(c.body)})
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v\ngot  %#v\nwant %#v", c.name, err, plainPair(got), plainPair(c.want))
		}
	}
}

func TestAPairThatMayBeAnothersIsNotTaken(t *testing.T) {
	torn := zipped(plainAnswer)
	for body, want := range map[string]Class{
		`{"app":{"access_token":"a","refresh_token":"r"},"user":{"access_token":"b","refresh_token":"s"}}`: Ambiguous,
		`{"data":[{"access_token":"a"},{"access_token":"b"}]}`:                                             Ambiguous,
		`{"data":{"access_token":"a","refresh_tok`:                                                         Ambiguous, // a rotated one may be lost
		`{"body":"{\"access_token\":\"a\",\"refresh_tok"}`:                                                 Ambiguous,
		`<html>{"access_token":"a"}`:                                                                       Ambiguous,
		"\x1f\x8bnonsense":                                                                                 Ambiguous,
		torn[:len(torn)/3]:                                                                                 Ambiguous,
		// An answer that says no, and quotes the request.
		`{"ok":false,"error":"invalid_refresh_token","request":{"access_token":"` + canaryAccess + `","refresh_token":"` + canaryRefresh + `"}}`: Reauthorize,
		`{"errors":[{"code":"invalid_grant"}],"request":{"access_token":"` + canaryAccess + `"}}`:                                                Reauthorize,
	} {
		pair, err := Classify(Slack(), Answer{Status: 200, Body: []byte(body)}, canaryRefresh, canaryAccess)
		if err == nil {
			t.Errorf("%q: taken: %#v", body, plainPair(pair))
			continue
		}
		if e := asError(t, err); e.Class != want {
			t.Errorf("%q: %v", body, e)
		}
	}
	// The same token again, and nothing says no.
	if _, err := Classify(Profile{}, Answer{Status: 200, Body: []byte(`{"data":{"access_token":"same"}}`)}, "same"); err != nil {
		t.Error(err)
	}
	bomb := Answer{Status: 200, Body: []byte(zipped(`{"access_token":"a","refresh_token":"r","x":"` + strings.Repeat("x", 8<<20) + `"}`))}
	if pair, err := Classify(Profile{}, bomb); err != nil || pair.Extra != nil {
		t.Errorf("a long one in gzip: %v", err)
	}
}
