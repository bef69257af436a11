package refreshtest

import (
	"encoding/json"
	"net/http"
	"strings"
)

// api is what the tokens are for.
type api struct{ *world }

// serve answers {"tenant": name} to a living access token, whatever the
// method and path, and 401 to every other.
func (a api) serve(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	bearer := strings.EqualFold(scheme, "Bearer") && token != ""
	if !bearer {
		token = ""
	}
	tenant, ok := a.useAccess(token)
	if !ok {
		a.refuseAPI(w, bearer)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"tenant": tenant})
}

// useAccess counts the call and says whose living token it shows.
func (a api) useAccess(token string) (tenant string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.book.stats.APICalls++
	t := a.issuer.accesses[token]
	if t == nil || !t.alive(a.now()) {
		a.book.stats.Unauthorized++
		return "", false
	}
	t.used = true
	return t.family.tenant, true
}

// refuseAPI is RFC 6750 §3: a request without a token gets no error code.
func (a api) refuseAPI(w http.ResponseWriter, bearer bool) {
	rep := jsonReply(http.StatusUnauthorized, map[string]any{"code": 124, "message": "Invalid access token."})
	switch {
	case a.cfg.BareUnauthorized:
	case bearer:
		rep.header.Set("WWW-Authenticate", `Bearer realm="refreshtest", error="invalid_token"`)
	default:
		rep.header.Set("WWW-Authenticate", `Bearer realm="refreshtest"`)
	}
	rep.send(w, NoFault)
}
