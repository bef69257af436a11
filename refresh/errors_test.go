package refresh_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

func TestNoNameForgesALogLine(t *testing.T) {
	t.Parallel()
	const forged = "x\n2030-01-01T00:00:00Z INF all is well\r\x1b[2J\x00\u2028\u202e\xff"
	cause := errors.New(forged)
	for what, e := range map[string]*refresh.Error{
		"names":               {App: forged, Tenant: forged, Kind: refresh.ErrNotConnected},
		"a code":              {App: "zoom", Tenant: "acme", Kind: refresh.ErrUnavailable, Code: forged, Status: 400},
		"a cause":             {App: "zoom", Tenant: "acme", Kind: refresh.ErrUnavailable, Err: errors.Join(cause, errors.New("two"))},
		"a provider's answer": {App: "zoom", Tenant: "acme", Kind: refresh.ErrUnavailable, Err: &provider.Error{Code: forged, Err: cause}},
	} {
		before := *e
		for _, text := range []string{e.Error(), fmt.Sprintf("%v", e), (&url.Error{Op: "Get", URL: "https://h", Err: e}).Error()} {
			if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
				t.Errorf("%s: %q", what, text)
			}
		}
		if e.App != before.App || e.Tenant != before.Tenant || e.Code != before.Code || e.Err != nil && !errors.Is(e, cause) {
			t.Errorf("%s: the fields were changed: %#v", what, e)
		}
	}
	plain := &refresh.Error{App: "zoom", Tenant: "a:b c", Kind: refresh.ErrNotConnected, Err: errors.New(`"ü"`)}
	if got := plain.Error(); got != `refresh: zoom:a%3Ab%20c: the tenant has not connected the app: "ü"` {
		t.Error(got)
	}
}
