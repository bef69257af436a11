package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/oauth2"
)

var silent = log.New(io.Discard, "", 0)

// prints is everything that common printers make of v.
func prints(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb+"\n", v)
	}
	fmt.Fprintf(&b, "%+v %#v\n", struct{ V any }{v}, []any{v})
	j, err := json.Marshal(v)
	if err != nil {
		t.Errorf("%T: %v", v, err)
	}
	b.Write(j)
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
	z := zerolog.New(&b)
	z.Info().Interface("v", v).Any("w", v).Send()
	if m, ok := v.(zerolog.LogObjectMarshaler); ok {
		z.Info().Object("v", m).EmbedObject(m).Send()
	}
	return b.String()
}

func TestNoPublicTypePrintsASecret(t *testing.T) {
	pr, err := OAuth2(&oauth2.Config{ClientID: "id", ClientSecret: canarySecret,
		Endpoint: oauth2.Endpoint{TokenURL: "https://host/?k=CANARY", AuthStyle: oauth2.AuthStyleInHeader}}, Zoom())
	if err != nil {
		t.Fatal(err)
	}
	ep := pr.Exchanger.(*TokenEndpoint)
	pair := Pair{AccessToken: canaryNew, RefreshToken: canaryNewRT, Extra: map[string]any{"id_token": "CANARY"}}
	answer := Answer{Status: 200, Body: []byte(canaryNew), Header: http.Header{"X": {"CANARY"}}, Err: errors.New("CANARY")}
	failure := &Error{Class: Ambiguous, Err: safeCause(&url.Error{Op: "Post", URL: "https://h/?CANARY", Err: errors.New("CANARY")})}

	// The Transport of a TokenEndpoint is the caller's, and printed by none of these.
	for _, v := range []any{ep, *ep, pr, &pr, pair, &pair, grant, &grant, answer, &answer, failure, *failure} {
		if s := prints(t, v); strings.Contains(s, "CANARY") || strings.Contains(s, fmt.Sprintf("%x", "CANARY")) {
			t.Errorf("%T leaks: %s", v, s)
		}
	}
	// Printers that reach into unexported fields find no secret there either.
	hidden := struct{ ep TokenEndpoint }{*ep}
	if s := fmt.Sprintf("%+v %#v", hidden, hidden); strings.Contains(s, "CANARY") {
		t.Errorf("a TokenEndpoint in an unexported field leaks: %s", s)
	}
}

func TestCausesAreToldInSafeWords(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&url.Error{Op: "Post", URL: "https://h/?CANARY", Err: io.EOF}, "EOF"},
		{fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", errors.New("malformed CANARY")), "the transport failed (*errors.errorString)"},
		{fmt.Errorf("CANARY: %w", errors.New("http: server closed idle connection")), "http: server closed idle connection"},
		{errors.Join(io.ErrUnexpectedEOF, errors.New("CANARY")), "unexpected EOF"},
		{timeoutError{}, "timeout"},
	} {
		got := safeCause(tt.err)
		if got.Error() != tt.want || !errors.Is(got, tt.err) && tt.err != (timeoutError{}) {
			t.Errorf("%T: %q, want %q", tt.err, got, tt.want)
		}
		var u *url.Error
		if errors.As(got, &u) || errors.Unwrap(got) != nil {
			t.Errorf("%T: the original can be reached", tt.err)
		}
	}
	if safeCause(nil) != nil {
		t.Error("nil has a cause")
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "CANARY" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }
