package refreshtest

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/oauth2"
)

// refusal is an error answer of the token endpoint (RFC 6749 §5.2).
type refusal struct {
	status int
	code   string
	why    string // error_description; never holds what the client sent
}

func invalidRequest(why string) *refusal {
	return &refusal{http.StatusBadRequest, "invalid_request", why}
}

// readForm reads a token request. It returns what could be read even of a
// refused one: a refresh token in it has been presented all the same.
func readForm(r *http.Request) (url.Values, *refusal) {
	if r.Method != http.MethodPost {
		return nil, &refusal{http.StatusMethodNotAllowed, "invalid_request", "the token endpoint wants POST"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, 64<<10))
	if err != nil {
		return nil, invalidRequest("the body could not be read, or is over 64 KiB")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return form, invalidRequest("the body is not form-encoded")
	}
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media != "application/x-www-form-urlencoded" {
		return form, invalidRequest("Content-Type must be application/x-www-form-urlencoded")
	}
	if r.URL.RawQuery != "" {
		return form, invalidRequest("parameters belong into the body, where no access log shows them")
	}
	for _, values := range form {
		if len(values) > 1 {
			return form, invalidRequest("a parameter is repeated")
		}
	}
	return form, nil
}

// checkRequest is nil for a request whose refresh token may be looked at.
func (s *Server) checkRequest(r *http.Request, form url.Values) *refusal {
	if no := s.checkClient(r, form); no != nil {
		return no
	}
	switch grantType := form.Get("grant_type"); {
	case grantType == "":
		return invalidRequest("grant_type is missing")
	case grantType == codeGrant:
		return invalidRequest("a refresh token has no place where a code is redeemed")
	case grantType != "refresh_token":
		return &refusal{http.StatusBadRequest, "unsupported_grant_type", "known are refresh_token, authorization_code, client_credentials, account_credentials and the JWT bearer"}
	case form.Get("refresh_token") == "":
		return invalidRequest("refresh_token is missing")
	}
	return nil
}

// checkClient authenticates the client by header or body, never by both
// (RFC 6749 §2.3).
func (s *Server) checkClient(r *http.Request, form url.Values) *refusal {
	style := s.cfg.Profile.AuthStyle
	id, secret, inHeader := r.BasicAuth()
	if inHeader {
		if form.Has("client_secret") {
			return invalidRequest("the client authenticates twice")
		}
		// RFC 6749 §2.3.1: both are form-encoded before they become a Basic header.
		id, secret = unescape(id), unescape(secret)
	} else {
		id, secret = form.Get("client_id"), form.Get("client_secret")
	}
	switch {
	case inHeader && style == oauth2.AuthStyleInParams:
		return &refusal{http.StatusUnauthorized, "invalid_client", "this client authenticates in the body"}
	case !inHeader && style == oauth2.AuthStyleInHeader:
		return &refusal{http.StatusUnauthorized, "invalid_client", "this client authenticates in the header"}
	case id != s.cfg.ClientID || !s.knowsSecret(secret):
		return &refusal{http.StatusUnauthorized, "invalid_client", "unknown client or wrong secret"}
	case inHeader && form.Has("client_id") && form.Get("client_id") != id:
		return invalidRequest("header and body name different clients")
	}
	return nil
}

// SetClientSecrets changes the client secrets that are accepted: none, one, or two while an
// app rotates its secret.
func (s *Server) SetClientSecrets(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = slices.Clone(secrets)
}

func (s *Server) knowsSecret(secret string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.secrets, secret)
}

// unescape returns "" for what is not form-encoded; no client is called that.
func unescape(s string) string {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return ""
	}
	return plain
}
