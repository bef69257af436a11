package bearer

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Stayed reports whether a request goes to the host that the first one was for, and so did every
// request in between that was redirected.
// http.Client leaves that trail: Request.Response is the redirect a request stems from.
func Stayed(req *http.Request) bool {
	for r := req; r.Response != nil; r = r.Response.Request {
		from := r.Response.Request
		if from == nil || from.URL == nil || HostPort(from.URL) != HostPort(req.URL) {
			return false
		}
	}
	return true
}

// HostPort returns where a URL leads, without the port that its scheme stands for: http and
// https at their default ports are one host.
func HostPort(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return host
	}
	return net.JoinHostPort(host, port)
}

// HostPorts returns hosts, each a host or host:port, as [HostPort] spells them.
func HostPorts(hosts []string) ([]string, error) {
	var out []string
	for _, h := range hosts {
		u, err := url.Parse("http://" + h)
		if err != nil || u.Host != h || u.Hostname() == "" || strings.HasSuffix(h, ":") || strings.Contains(h, "*") {
			return nil, fmt.Errorf("%q must be a host or host:port, as in a URL: \"sidecar\", \"10.0.0.7:8080\", \"[fd00::7]\"", h)
		}
		out = append(out, HostPort(u))
	}
	return out, nil
}
