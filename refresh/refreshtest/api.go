package refreshtest

import (
	"encoding/json"
	"net/http"
	"strings"
)

// serveAPI answers {"tenant": name} to a living access token, whatever the
// method and path, and 401 to every other.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	bearer := strings.EqualFold(scheme, "Bearer") && token != ""
	if !bearer {
		token = ""
	}
	tenant, ok := s.useAccess(token)
	if !ok {
		s.refuseAPI(w, bearer)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"tenant": tenant})
}

// useAccess counts the call and says whose living token it shows.
func (s *Server) useAccess(token string) (tenant string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.APICalls++
	a := s.accesses[token]
	if a == nil || !a.alive(s.now()) {
		s.stats.Unauthorized++
		return "", false
	}
	a.used = true
	return a.family.tenant, true
}

// refuseAPI is RFC 6750 §3: a request without a token gets no error code.
func (s *Server) refuseAPI(w http.ResponseWriter, bearer bool) {
	rep := jsonReply(http.StatusUnauthorized, map[string]any{"code": 124, "message": "Invalid access token."})
	switch {
	case s.cfg.BareUnauthorized:
	case bearer:
		rep.header.Set("WWW-Authenticate", `Bearer realm="refreshtest", error="invalid_token"`)
	default:
		rep.header.Set("WWW-Authenticate", `Bearer realm="refreshtest"`)
	}
	rep.send(w, NoFault)
}
