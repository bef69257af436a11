package provider

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/oauth2/jwt"
)

const (
	forged = "x\n2030-01-01T00:00:00Z INF all is well\r\x1b[2J\x00\u2028\u202e\xff"
	quoted = `a "b" \c` + "\n"
)

// oneSafeLine fails the test unless a log or a terminal shows a text as it is.
func oneSafeLine(t *testing.T, what, s string) {
	t.Helper()
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.ContainsRune(s, unicode.ReplacementChar) {
		t.Errorf("%s: %q", what, s)
	}
}

func TestNoTextOfAProviderForgesALogLine(t *testing.T) {
	g := Grant{App: "zoom:" + forged, Tenant: forged}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		oneSafeLine(t, "a grant by "+verb, fmt.Sprintf(verb, g))
	}
	if got := fmt.Sprint(Grant{App: "zoom", Tenant: "a:b@c.d/e f"}); !strings.HasPrefix(got, "zoom:a%3Ab@c.d%2Fe%20f generation") {
		t.Error(got)
	}
	own := &Error{Class: Refused, Code: forged, Err: errors.Join(errors.New(forged), errors.New("two"))} // an Exchanger of one's own
	oneSafeLine(t, "an error", own.Error())
	if own.Code != forged {
		t.Error("the field was changed")
	}
	cert := &x509.Certificate{DNSNames: []string{forged}}
	refused := safeCause(&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: cert, Host: "h"}})
	oneSafeLine(t, "a certificate", refused.Error())
	oneSafeLine(t, "a profile", Profile{Name: forged, AccessTokenLife: -1}.Validate().Error())
	_, err := JWTBearer(&jwt.Config{Email: "e", PrivateKey: signingKey(t), TokenURL: "https://h", PrivateClaims: map[string]any{forged: func() {}}}, Profile{})
	oneSafeLine(t, "a claim", err.Error())
}

func TestATextThatIsOneLineStaysAsItIs(t *testing.T) {
	for _, s := range []string{"", `a "b" \c`, "dial tcp [::1]:1: ü, 東京"} {
		if got := oneLine(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	if got := oneLine(quoted); got != `a "b" \\c\n` {
		t.Errorf("%s", got)
	}
}
