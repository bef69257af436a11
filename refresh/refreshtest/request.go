package refreshtest

import (
	"io"
	"mime"
	"net/http"
	"net/url"
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
