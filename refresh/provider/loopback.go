package provider

import "net"

// Loopback reports whether host, as [net/url.URL.Hostname] has it, is this machine for
// sure, so that secrets may go there over plain http: exactly "localhost", or a loopback
// address. Of any other spelling, such as LOCALHOST or foo.localhost, net/http sends
// the request to a proxy (HTTP_PROXY) in clear text, or asks DNS who that is.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
