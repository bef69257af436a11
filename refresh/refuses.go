package refresh

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/tokenlatch/tokenlatch/refresh/internal/bearer"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// maxLook is how much of a response's body is looked at, in bytes. Refusals are short.
const maxLook = 16 << 10

// refusals are the ways in which APIs refuse a token.
type refusals struct {
	rules []provider.APIRefusal
	own   func(*http.Response) bool
}

// refuses reports whether a response refuses the access token. It leaves the response as it was.
func (known refusals) refuses(resp *http.Response) bool {
	if bearer.RefusesToken(resp) {
		return true
	}
	var look []provider.APIRefusal
	for _, r := range known.rules {
		switch {
		case r.Status != 0 && r.Status != resp.StatusCode || r.Challenge != "" && !bearer.Challenges(resp, r.Challenge):
		case r.Value == "":
			return true
		default:
			look = append(look, r)
		}
	}
	if len(look) > 0 && readable(resp) && bearer.Peek(resp, maxLook, func(seen *http.Response) bool { return says(look, seen.Body) }) {
		return true
	}
	return known.own != nil && bearer.Peek(resp, maxLook, known.own)
}

// readable reports whether a body may be a refusal: an event stream or a file in a success is not
// waited for.
func readable(resp *http.Response) bool {
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return resp.StatusCode >= 400 || media == "" || strings.Contains(media, "json") || media == "text/plain" || media == "text/html"
}

// says reports whether a body says what one of the rules is about. Of JSON no more than the one value is
// waited for; other text is read to its end, for rules that name no member.
func says(rules []provider.APIRefusal, body io.Reader) bool {
	var seen strings.Builder
	dec := json.NewDecoder(io.TeeReader(body, &seen))
	dec.UseNumber()
	var value any
	isJSON := dec.Decode(&value) == nil
	for _, r := range rules {
		if r.Member == "" {
			_, _ = io.Copy(&seen, body)
			if strings.Contains(seen.String(), r.Value) {
				return true
			}
		} else if isJSON && has(value, strings.Split(r.Member, "."), r.Value) {
			return true
		}
	}
	return false
}

// has reports whether a value is found in JSON on that way, through lists by each element.
func has(v any, way []string, want string) bool {
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			if has(element, way, want) {
				return true
			}
		}
	case map[string]any:
		return len(way) > 0 && has(v[way[0]], way[1:], want)
	case string:
		return len(way) == 0 && v == want
	case json.Number:
		return len(way) == 0 && v.String() == want
	case bool:
		return len(way) == 0 && (v && want == "true" || !v && want == "false")
	}
	return false
}
