package provider

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"
)

var loopbacks = []string{"localhost", "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"}

var almostLoopbacks = []string{
	"", "LOCALHOST", "Localhost", "localhost.", "foo.localhost", "a.b.localhost", "localhost.example.com", "localhost6",
	"10.0.0.1", "0.0.0.0", "::", "127.1", "0x7f000001", "2130706433", "127.0.0.1.", "127.0.0.01", "::1%lo", " localhost", "[::1]",
}

func TestOnlyOneSpellingOfLocalhostAndLoopbackAddressesAreThisMachine(t *testing.T) {
	for _, host := range loopbacks {
		if !Loopback(host) {
			t.Errorf("%q is not", host)
		}
	}
	for _, host := range almostLoopbacks {
		if Loopback(host) {
			t.Errorf("%q is", host)
		}
	}
}

func TestATokenURLOverHTTPMustBeThisMachineForSure(t *testing.T) {
	key := signingKey(t)
	makers := map[string]func(address string) error{
		"OAuth2": func(address string) error {
			_, err := OAuth2(&oauth2.Config{ClientID: "id", Endpoint: oauth2.Endpoint{TokenURL: address}}, header)
			return err
		},
		"ClientCredentials": func(address string) error {
			_, err := ClientCredentials(&clientcredentials.Config{ClientID: "id", TokenURL: address}, header)
			return err
		},
		"JWTBearer": func(address string) error {
			_, err := JWTBearer(&jwt.Config{Email: "e", PrivateKey: key, TokenURL: address}, Profile{})
			return err
		},
	}
	for name, maker := range makers {
		for _, host := range []string{"LOCALHOST", "LocalHost:80", "foo.localhost", "localhost.:8080", "[::2]", "127.1"} {
			if err := maker("http://" + host + "/CANARY"); err == nil || !strings.Contains(err.Error(), "must be https") ||
				!strings.Contains(err.Error(), "written as localhost") || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("%s, http://%s: %v", name, host, err)
			}
			if err := maker("https://" + host + "/"); err != nil {
				t.Errorf("%s, https://%s: %v", name, host, err)
			}
		}
		for _, host := range loopbacks {
			u := url.URL{Scheme: "http", Host: host}
			if strings.Contains(host, ":") {
				u.Host = "[" + host + "]"
			}
			if err := maker(u.String()); err != nil {
				t.Errorf("%s, %s: %v", name, &u, err)
			}
		}
	}
}

// net/http decides, once per process, what goes to a proxy. What is taken for this machine
// here must not go there: the request holds secrets in clear text.
func TestNoProxySeesWhatGoesToThisMachine(t *testing.T) {
	if os.Getenv("PROVIDER_TEST_PROXIED") != "" {
		for _, host := range loopbacks {
			req := &http.Request{URL: &url.URL{Scheme: "http", Host: host}}
			if strings.Contains(host, ":") {
				req.URL.Host = "[" + host + "]"
			}
			if proxy, err := http.ProxyFromEnvironment(req); proxy != nil || err != nil {
				t.Errorf("%s goes to %v, %v", host, proxy, err)
			}
		}
		req := &http.Request{URL: &url.URL{Scheme: "http", Host: "foo.localhost"}}
		if proxy, err := http.ProxyFromEnvironment(req); proxy == nil || err != nil {
			t.Errorf("there is no proxy: nothing is proven (%v)", err)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "PROVIDER_TEST_PROXIED=1", "HTTP_PROXY=http://proxy.invalid", "NO_PROXY=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
