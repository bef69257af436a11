package bearer

import (
	"net/http"
	"testing"
)

func TestChallengeDecidesWhetherA401IsAboutTheToken(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []string
		token   bool
	}{
		{"no header says nothing", nil, true},
		{"empty", []string{""}, true},
		{"no error", []string{`Bearer realm="api"`}, true},
		{"bare scheme", []string{`Bearer`}, true},
		{"empty code", []string{`Bearer error=""`}, true},
		{"RFC 6750", []string{`Bearer realm="api", error="invalid_token", error_description="expired"`}, true},
		{"without quotes", []string{`Bearer error=invalid_token`}, true},
		{"any case", []string{`bEARER Error="INVALID_TOKEN"`}, true},
		{"blanks around =", []string{"Bearer realm = \"x\" ,\terror\t=  \"insufficient_scope\""}, false},
		{"in other words: token", []string{`Bearer error="expired_token"`}, true},
		{"in other words: expired", []string{`Bearer error="auth_EXPIRED"`}, true},
		{"in other words: session", []string{`Bearer error="INVALID_SESSION_ID"`}, true},
		{"scope", []string{`Bearer error="insufficient_scope", scope="token session"`}, false},
		{"scope in any case", []string{`Bearer error="Insufficient_Scope"`}, false},
		{"request", []string{`Bearer error="invalid_request"`}, false},
		{"RFC 9470", []string{`Bearer error="insufficient_user_authentication", error_description="a token is not enough", max_age=60`}, false},
		{"unknown code", []string{`Bearer error="quota"`}, false},
		{"the description is not the code", []string{`Bearer error="quota", error_description="error=\"invalid_token\""`}, false},
		{"comma in quotes", []string{`Bearer realm="a, Bearer error=invalid_token", error="quota"`}, false},
		{"escape", []string{`Bearer realm="a\", error=\"invalid_token\\", error="quo\ta"`}, false},
		{"another scheme's error", []string{`DPoP error="use_dpop_nonce"`}, true},
		{"another scheme first", []string{`DPoP error="invalid_token", Bearer error="quota"`}, false},
		{"another scheme after", []string{`Bearer error="quota", DPoP error="invalid_token"`}, false},
		{"token68", []string{`Negotiate a87421/+000==, Bearer error="quota"`}, false},
		{"token68 without padding", []string{`Negotiate error, Bearer error="quota"`}, false},
		{"token68 like a parameter", []string{`Bearer error=`}, true},
		{"second header", []string{`Basic realm="x"`, `Bearer error="quota"`}, false},
		{"a header's scheme ends with it", []string{`Bearer realm="x"`, `error="quota"`}, true},
		{"two Bearer challenges", []string{`Bearer error="quota", Bearer realm="y", error="invalid_token"`}, true},
		{"scope beats", []string{`Bearer error="invalid_token"`, `Bearer error="insufficient_scope"`}, false},
		{"forgotten comma", []string{`Bearer realm="x" error="quota"`}, false},
		{"forgotten comma between challenges", []string{`Basic realm="x" Bearer error="quota"`}, false},
		{"empty elements", []string{`,, Bearer ,, error="quota",`}, false},
		{"junk before", []string{`@?{} "x, y" ="z" , Bearer error="quota"`}, false},
		{"junk only", []string{"\x00\xff\"", `"`, `=`, `==="`}, true},
		{"cut off in quotes", []string{`Bearer error="quo`}, true},
		{"cut off after the code", []string{`Bearer error="quota", realm="x\`}, false},
		{"unnamed scheme", []string{`error="quota"`}, true},
	} {
		h := http.Header{"Www-Authenticate": c.headers}
		if got := RefusesToken(&http.Response{StatusCode: 401, Header: h}); got != c.token {
			t.Errorf("%s: %q: token problem %v, want %v", c.name, c.headers, got, c.token)
		}
		for _, status := range []int{200, 400, 403, 407, 500} {
			if RefusesToken(&http.Response{StatusCode: status, Header: h}) {
				t.Errorf("%s: a %d is taken for a token problem", c.name, status)
			}
		}
	}
}

func FuzzChallenge(f *testing.F) {
	for _, s := range []string{`Bearer error="a\"b", x=y`, `Negotiate abc==, Bearer error=x`, `"`, `\`, `Bearer error="`, "é=\"", "Bearer é"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		// A header of its own does not depend on what stands before it.
		before := bearerErrors([]string{`Bearer error="first"`, header})
		if len(before) == 0 || before[0] != "first" || len(before)-1 != len(bearerErrors([]string{header})) {
			t.Errorf("%q: %q", header, before)
		}
	})
}
