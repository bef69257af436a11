package refreshtest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ refreshtest.TB = testing.TB(nil)

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // no usable answer
}

func (a answer) member(t *testing.T, name string) any {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(a.body), &members); err != nil {
		t.Fatalf("answer %d is not JSON: %v", a.status, err)
	}
	return members[name]
}

func (a answer) text(t *testing.T, name string) string {
	t.Helper()
	s, _ := a.member(t, name).(string)
	return s
}

// do sends one request on a connection of its own.
func do(ctx context.Context, req *http.Request) answer {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body), err}
}

// tokenRequest is a correct presentation, for tests to spoil.
func tokenRequest(s *refreshtest.Server, refreshToken string) *http.Request {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}}
	return formRequest(s, form.Encode())
}

func formRequest(s *refreshtest.Server, body string) *http.Request {
	req, err := http.NewRequest(http.MethodPost, s.TokenURL(), strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("client", "secret")
	return req
}

func present(t *testing.T, s *refreshtest.Server, refreshToken string) answer {
	t.Helper()
	return do(t.Context(), tokenRequest(s, refreshToken))
}

// mustRefresh presents a token and returns the pair that came of it.
func mustRefresh(t *testing.T, s *refreshtest.Server, refreshToken string) (access, refresh string) {
	t.Helper()
	a := present(t, s, refreshToken)
	if a.err != nil || a.status != http.StatusOK {
		t.Fatalf("refresh: %d %v\n%v", a.status, a.err, s.Ledger())
	}
	return a.text(t, "access_token"), a.text(t, "refresh_token")
}

func mustRefuse(t *testing.T, s *refreshtest.Server, refreshToken string) {
	t.Helper()
	a := present(t, s, refreshToken)
	if a.status != http.StatusBadRequest || a.text(t, "error") != "invalid_grant" {
		t.Fatalf("got %d %v, want 400 invalid_grant\n%v", a.status, a.err, s.Ledger())
	}
}

// background presents a token without waiting for the answer.
func background(ctx context.Context, s *refreshtest.Server, refreshToken string) <-chan answer {
	got := make(chan answer, 1)
	go func() { got <- do(ctx, tokenRequest(s, refreshToken)) }()
	return got
}

func callAPI(t *testing.T, s *refreshtest.Server, accessToken string) answer {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.APIURL()+"users/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	if accessToken != "" {
		req.Header.Set("Authorization", "Bearer "+accessToken)
	}
	return do(t.Context(), req)
}

// outcomes are those of the ledger, in order.
func outcomes(s *refreshtest.Server) []refreshtest.Outcome {
	var all []refreshtest.Outcome
	for _, p := range s.Ledger() {
		all = append(all, p.Outcome)
	}
	return all
}
