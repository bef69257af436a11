package refresh

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// entitled says whether a request may carry the access token. It may not once a
// redirect has led to another host: that one would get the token of an API it is not, and
// might send the caller back with a URL of its own making. The error is for a request
// that would carry it unencrypted.
func (t *transport) entitled(req *http.Request) (bool, error) {
	if req.URL == nil || !stayed(req) {
		return false, nil // without a URL the base says what is wrong
	}
	if !t.private(req.URL) {
		return false, t.error(ErrClientConfig, "insecure_url", fmt.Errorf(
			"the access token is not sent to %q over %q: use https, or list %[3]q in Config.InsecureHosts", req.URL.Host, req.URL.Scheme, hostPort(req.URL)))
	}
	return true, nil
}

// stayed reports whether a request and all whose redirects led to it go to one host.
// http.Client leaves that trail: Request.Response is the redirect a request stems from.
func stayed(req *http.Request) bool {
	for r := req; r.Response != nil; r = r.Response.Request {
		from := r.Response.Request
		if from == nil || from.URL == nil || hostPort(from.URL) != hostPort(req.URL) {
			return false
		}
	}
	return true
}

// hostPort is where a URL leads, without the port that its scheme stands for: http and
// https at their default ports are one host.
func hostPort(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return host
	}
	return net.JoinHostPort(host, port)
}

// private reports whether nobody on the way can read what is sent there.
func (t *transport) private(u *url.URL) bool {
	switch u.Scheme {
	case "https":
		return true
	case "http":
		return provider.Loopback(u.Hostname()) || slices.Contains(t.c.cfg.InsecureHosts, hostPort(u))
	}
	return false
}

// insecureHosts are Config.InsecureHosts in the words of hostPort.
func insecureHosts(hosts []string) ([]string, error) {
	var out []string
	for _, h := range hosts {
		u, err := url.Parse("http://" + h)
		if err != nil || u.Host != h || u.Hostname() == "" || strings.HasSuffix(h, ":") || strings.Contains(h, "*") {
			return nil, fmt.Errorf("refresh: Config.InsecureHosts: %q must be a host or host:port, as in a URL: \"sidecar\", \"10.0.0.7:8080\", \"[fd00::7]\"", h)
		}
		out = append(out, hostPort(u))
	}
	return out, nil
}
