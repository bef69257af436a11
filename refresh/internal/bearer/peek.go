package bearer

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// Peek lets judge look at a response, and at the first most bytes of its body. The response is then as it
// was: its body still has all that judge has read. What judge does not read is not waited for.
func Peek(resp *http.Response, most int64, judge func(*http.Response) bool) bool {
	if resp.Body == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return judge(resp)
	}
	body := resp.Body
	var seen bytes.Buffer
	shown := *resp
	shown.Body = io.NopCloser(io.TeeReader(io.LimitReader(body, most), &seen))
	verdict := judge(&shown)
	if seen.Len() > 0 {
		resp.Body = unread{io.MultiReader(&seen, body), body}
	}
	return verdict
}

// unread is a body with what was read of it put back.
type unread struct {
	io.Reader
	io.Closer
}

// Challenges reports whether a response's Bearer challenge has that error code.
func Challenges(resp *http.Response, code string) bool {
	for _, said := range bearerErrors(resp.Header.Values("WWW-Authenticate")) {
		if strings.EqualFold(said, code) {
			return true
		}
	}
	return false
}
