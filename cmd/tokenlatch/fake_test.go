package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

// startFake runs the command and returns what it has printed once all of it is there.
func startFake(t *testing.T, args ...string) (c *tokenlatch, printed string) {
	t.Helper()
	c = prepare(t, append([]string{"fake", "--listen", "127.0.0.1:0"}, args...)...)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	t.Cleanup(func() { _ = read.Close() })
	c.Stdout = write
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(read); lines.Scan(); {
		printed += lines.Text() + "\n"
		if strings.Contains(lines.Text(), "curl") {
			return c, printed
		}
	}
	t.Fatalf("it ended after\n%s\n%s", printed, &c.stderr)
	return nil, ""
}

// address is what stands behind a word that was printed.
func address(t *testing.T, printed, word string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^  ` + word + ` +(http\S+)`).FindStringSubmatch(printed)
	if found == nil {
		t.Fatalf("no %s in\n%s", word, printed)
	}
	return found[1]
}

// ask sends a request and returns the answer's status and body; redirects are not followed.
func ask(t *testing.T, method, address, token string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestFakePrintsAllThatAnotherProgramNeeds(t *testing.T) {
	t.Parallel()
	c, printed := startFake(t)
	cfg := oauth2.Config{
		ClientID: "client", ClientSecret: "secret", RedirectURL: "http://127.0.0.1/callback",
		Endpoint: oauth2.Endpoint{AuthURL: address(t, printed, "authorize"), TokenURL: address(t, printed, "token"), AuthStyle: oauth2.AuthStyleInHeader},
	}
	resp, _ := ask(t, http.MethodGet, cfg.AuthCodeURL("s", oauth2.SetAuthURLParam("login_hint", "acme")), "")
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || back.Query().Get("code") == "" {
		t.Fatalf("consent: %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tok, err := cfg.Exchange(context.WithValue(t.Context(), oauth2.HTTPClient, client), back.Query().Get("code"))
	if err != nil {
		t.Fatal(err)
	}
	api := address(t, printed, "API")
	if resp, body := ask(t, http.MethodGet, api, tok.AccessToken); resp.StatusCode != 200 || !strings.Contains(body, "acme") {
		t.Errorf("the API answers %d %s", resp.StatusCode, body)
	}
	try := regexp.MustCompile(`curl -X POST '(http\S+)'`).FindStringSubmatch(printed)
	if try == nil {
		t.Fatalf("nothing to try in\n%s", printed)
	}
	if resp, body := ask(t, http.MethodPost, try[1], ""); resp.StatusCode != 200 || !strings.Contains(body, "refresh_token") {
		t.Errorf("what is to be tried is answered %d %s", resp.StatusCode, body)
	}
	if resp, _ := ask(t, http.MethodGet, api, tok.AccessToken); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the token of the consent before: the API answers %d", resp.StatusCode)
	}
	_ = c.Process.Signal(os.Interrupt)
	if code := c.exit(t); code != cli.ExitOK || c.stderr.Len() > 0 {
		t.Errorf("exit code %d: %s", code, &c.stderr)
	}
}

func TestFakeSaysHowItsProfileWantsTheClient(t *testing.T) {
	t.Parallel()
	for profile, want := range map[string]string{"zoom": "in the Basic header", "google": "in the body"} {
		c, printed := startFake(t, "--profile", profile)
		if !strings.Contains(printed, want) || !strings.Contains(printed, profile+"'s rules") {
			t.Errorf("%s: no %q in\n%s", profile, want, printed)
		}
		_ = c.Process.Signal(syscall.SIGTERM)
		if code := c.exit(t); code != cli.ExitOK {
			t.Errorf("exit code %d: %s", code, &c.stderr)
		}
	}
}

func TestFakeOnAnAddressThatIsTakenSaysSo(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var stdout, stderr strings.Builder
	code := run([]string{"fake", "--listen", taken.Addr().String()}, &stdout, &stderr)
	if code != cli.ExitFailed || !strings.Contains(stderr.String(), taken.Addr().String()) || !strings.Contains(stderr.String(), "hint: --listen") || stdout.Len() > 0 {
		t.Errorf("code %d: %s%s", code, &stdout, &stderr)
	}
}
