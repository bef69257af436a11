package refreshtest

import (
	"net/http"
)

// revocationEndpoint is RFC 7009's.
type revocationEndpoint struct{ *world }

// serve answers 200 also for a token that nobody knows (RFC 7009 §2.2).
func (e revocationEndpoint) serve(w http.ResponseWriter, r *http.Request) {
	form, no := readForm(r)
	if no == nil {
		no = e.client.checkClient(r, form)
	}
	if no == nil && form.Get("token") == "" {
		no = invalidRequest("token is missing")
	}
	if no != nil {
		no.reply(r).send(w, NoFault)
		return
	}
	e.mu.Lock()
	e.issuer.revokeToken(form.Get("token"))
	e.mu.Unlock()
	w.WriteHeader(http.StatusOK)
}

// revokeToken ends a refresh token with its family, spent or not, or an access token alone.
func (i *issuer) revokeToken(raw string) {
	if t := i.refreshes[raw]; t != nil {
		t.family.revoked = true
	}
	if t := i.accesses[raw]; t != nil {
		t.dead = true
	}
}
