package provider

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// mark is what stands for something of the grant in an address.
var mark = regexp.MustCompile(`\{([A-Za-z][A-Za-z0-9_-]*)\}`)

// errAddress is why no address could be made of a pattern for a grant. Its text holds no value.
type errAddress struct {
	text    string
	missing bool // a member of the grant, which another pattern may not need
}

func (e *errAddress) Error() string { return e.text }

// addressOf is a pattern with what the grant says in place of its marks. A value is sent secrets by it,
// and tenants may choose theirs, so none can lead elsewhere than the pattern and hosts allow.
func addressOf(pattern string, hosts []string, g Grant) (string, error) {
	if !mark.MatchString(pattern) {
		return pattern, nil
	}
	address, rest := "", pattern
	for {
		at := mark.FindStringSubmatchIndex(rest)
		if at == nil {
			break
		}
		address += rest[:at[0]]
		name := rest[at[2]:at[3]]
		rest = rest[at[1]:]
		value, err := fill(address, rest, name, memberOf(g, name))
		if err != nil {
			return "", err
		}
		address += value
	}
	address += rest
	u, err := url.Parse(address)
	if err != nil || !among(u.Hostname(), hosts) {
		return "", &errAddress{text: "the address that the grant leads to is not at one of the profile's TokenHosts"}
	}
	return address, nil
}

// memberOf returns what a mark stands for: the tenant, or a member of the answer that brought the pair.
func memberOf(g Grant, name string) string {
	if "{"+name+"}" == tenantMark {
		return g.Tenant
	}
	return text(g.Extra[name])
}

// fill is a value as it goes between what is before and after it in an address.
func fill(before, after, name, value string) (string, error) {
	switch {
	case value == "" && "{"+name+"}" == tenantMark:
		return "", &errAddress{text: errNoTenant.Error()}
	case value == "":
		return "", &errAddress{missing: true, text: "the grant has no member " + name + ", which says where its tokens are refreshed: keep it with refresh.WithExtra when the tenant connects"}
	case before == "":
		return base(name, value)
	case strings.Contains(before, "?"):
		return url.QueryEscape(value), nil
	case pastHost(before):
		if value == "." || value == ".." {
			return "", &errAddress{text: name + " cannot be a part of an address"}
		}
		return url.PathEscape(value), nil
	}
	suffix, _, _ := strings.Cut(after, "/") // acme and acme.myshopify.com are the same shop
	if n := len(value) - len(suffix); suffix != "" && n > 0 && strings.EqualFold(value[n:], suffix) {
		value = value[:n]
	}
	if !hostLike(value) {
		return "", &errAddress{text: name + " cannot be a part of a host's name: letters, digits, dots and hyphens are"}
	}
	return value, nil
}

// pastHost reports whether the beginning of an address holds all of its host.
func pastHost(before string) bool {
	scheme, rest, ok := strings.Cut(before, "://")
	if !ok {
		rest = scheme
	}
	return strings.Contains(rest, "/")
}

// base is the beginning of an address, as a member of an answer has it: with or without https://.
func base(name, value string) (string, error) {
	if !strings.Contains(value, "://") {
		value = "https://" + value
	}
	u, err := url.Parse(value)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.ContainsAny(value, "?#") {
		return "", &errAddress{text: name + " is not an address"}
	}
	return strings.TrimSuffix(value, "/"), nil
}

func hostLike(s string) bool {
	for _, label := range strings.Split(s, ".") {
		if label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// among reports whether a host is one of hosts, or below one that begins with a dot. No hosts: any is.
// What is no plain name is none of them: an IPv6 address may have a zone that ends like a host.
func among(host string, hosts []string) bool {
	if len(hosts) > 0 && !hostLike(host) {
		return false
	}
	for _, h := range hosts {
		if strings.EqualFold(host, h) || strings.HasPrefix(h, ".") && len(host) > len(h) && strings.EqualFold(host[len(host)-len(h):], h) {
			return true
		}
	}
	return len(hosts) == 0
}

// openHost reports whether it is up to the grant whose host a pattern leads to: what is after the last
// mark in the host does not end in a name with a dot below which it is, such as ".example.com".
func openHost(pattern string) bool {
	_, rest, ok := strings.Cut(pattern, "://")
	if at := mark.FindStringIndex(pattern); !ok || at != nil && at[0] == 0 {
		return at != nil
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	marks := mark.FindAllStringIndex(rest, -1)
	if len(marks) == 0 {
		return false
	}
	fixed, _, _ := strings.Cut(rest[marks[len(marks)-1][1]:], ":")
	_, parent, _ := strings.Cut(fixed, ".")
	return !strings.Contains(parent, ".")
}

// tokenHost checks the address that secrets are sent to. Its errors do not quote
// it, since it may hold some.
func tokenHost(field, raw string) (string, error) {
	switch {
	case raw == "":
		return "", errors.New("provider: " + field + " is missing")
	case strings.ContainsAny(raw, "{}"):
		return "", errors.New("provider: " + field + " holds a mark in braces, which means nothing there: an address that depends on the tenant is for PerTenant (or in ClientCredentials, {tenant})")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "":
		return "", errors.New("provider: " + field + " is not an absolute URL")
	case u.User != nil:
		return "", errors.New("provider: " + field + " must not hold a user or password: write ClientID and ClientSecret")
	case u.Fragment != "":
		return "", errors.New("provider: " + field + " must not have a fragment (RFC 6749 §3.2)")
	case u.Scheme == "https", u.Scheme == "http" && Loopback(u.Hostname()):
		return u.Host, nil
	default:
		return "", errors.New("provider: " + field + " must be https: it is sent secrets; " +
			"http is for the loopback interface only, written as localhost, 127.0.0.1 or [::1]")
	}
}

func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Host
	}
	return ""
}

// withoutQuery is an address without query and fragment (RFC 9449 §4.2).
func withoutQuery(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	u.RawQuery, u.ForceQuery, u.Fragment = "", false, ""
	return u.String()
}
