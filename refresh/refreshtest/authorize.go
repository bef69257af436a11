package refreshtest

import (
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// authorizationEndpoint asks which tenant consents, in a browser.
type authorizationEndpoint struct{ *world }

// serve answers an authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3).
func (e authorizationEndpoint) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "the authorization endpoint wants GET", http.StatusMethodNotAllowed)
		return
	}
	ask, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		http.Error(w, "the query is not form-encoded", http.StatusBadRequest)
		return
	}
	back, why := e.callback(ask)
	if why != "" { // RFC 6749 §4.1.2.1: never redirect to an address that may not be the client's
		http.Error(w, why, http.StatusBadRequest)
		return
	}
	tenant := ask.Get("login_hint")
	switch no := checkAuthorize(ask); {
	case no != nil:
		sendBack(w, back, ask, url.Values{"error": {no.code}, "error_description": {no.why}})
	case ask.Has("deny"):
		sendBack(w, back, ask, url.Values{"error": {"access_denied"}})
	case tenant == "":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, ask)
	default:
		sendBack(w, back, ask, url.Values{"code": {e.issueCode(tenant, ask)}})
	}
}

// issueCode is issuer.issueCode at this moment.
func (e authorizationEndpoint) issueCode(tenant string, ask url.Values) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.issuer.issueCode(tenant, ask, e.now())
}

// callback returns the address to which the browser carries the answer, or why the request has none.
func (e authorizationEndpoint) callback(ask url.Values) (back *url.URL, why string) {
	if id := ask["client_id"]; len(id) != 1 || id[0] != e.cfg.ClientID {
		return nil, "client_id is not that of the one client here"
	}
	uri := ask["redirect_uri"]
	if len(uri) != 1 {
		return nil, "redirect_uri is missing or repeated"
	}
	back, err := url.Parse(uri[0])
	switch {
	case err != nil || !back.IsAbs() || back.Host == "" || back.Fragment != "":
		return nil, "redirect_uri is not an absolute URL without fragment"
	case len(e.cfg.RedirectURLs) > 0 && !slices.Contains(e.cfg.RedirectURLs, uri[0]):
		return nil, "redirect_uri is not registered: it must be one of Config.RedirectURLs, letter by letter"
	case len(e.cfg.RedirectURLs) == 0 && !provider.Loopback(back.Hostname()):
		return nil, "redirect_uri is not on the loopback interface; register it in Config.RedirectURLs"
	}
	return back, ""
}

// challenges are 32 bytes in base64url (RFC 7636 §4.2).
var challenges = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// checkAuthorize returns why a request is refused; nil if the tenant may be asked.
func checkAuthorize(ask url.Values) *refusal {
	for _, values := range ask {
		if len(values) > 1 {
			return invalidRequest("a parameter is repeated")
		}
	}
	challenge := ask.Get("code_challenge")
	switch kind := ask.Get("response_type"); {
	case kind == "":
		return invalidRequest("response_type is missing")
	case kind != "code":
		return &refusal{code: "unsupported_response_type", why: "known is code"}
	case challenge == "" && ask.Has("code_challenge_method"):
		return invalidRequest("code_challenge is missing")
	case challenge != "" && ask.Get("code_challenge_method") != "S256":
		return invalidRequest("code_challenge_method must be S256")
	case challenge != "" && !challenges.MatchString(challenge):
		return invalidRequest("code_challenge is no SHA-256 in base64url")
	case challenge == "" && ask.Get("state") == "": // RFC 9700 §2.1
		return invalidRequest("neither state nor code_challenge: an attacker could send the client a code of their own")
	}
	return nil
}

// sendBack redirects the browser to the client, with the answer and the client's state.
func sendBack(w http.ResponseWriter, back *url.URL, ask, answer url.Values) {
	query := back.Query()
	for name, values := range answer {
		query[name] = values
	}
	if state := ask.Get("state"); state != "" {
		query.Set("state", state)
	}
	to := *back
	to.RawQuery = query.Encode()
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusFound)
}

// page asks which tenant consents. Its form sends the same request again, with the tenant's name.
var page = template.Must(template.New("").Parse(`<!DOCTYPE html>
<meta charset="utf-8"><title>refreshtest</title>
<h1>{{index .client_id 0}} asks for access</h1>
<p>This is a fake authorization server. Every tenant exists and may consent.</p>
<form>
{{range $name, $values := .}}{{if and (ne $name "login_hint") (ne $name "deny")}}<input type="hidden" name="{{$name}}" value="{{index $values 0}}">
{{end}}{{end}}<label>Tenant <input name="login_hint" value="acme"></label>
<button>Allow</button> <button name="deny" value="1">Deny</button>
</form>
`))
