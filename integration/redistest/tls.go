package redistest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Certs are an authority's certificate and one that it has signed, for both ends of a connection on loopback.
type Certs struct {
	// CA, Cert and Key are PEM files.
	CA, Cert, Key string
	pool          *x509.CertPool
	pair          tls.Certificate
}

// MakeCerts makes an authority and a certificate, valid for an hour.
func MakeCerts(t testing.TB) *Certs {
	t.Helper()
	dir := t.TempDir()
	c := &Certs{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "redis.crt"), Key: filepath.Join(dir, "redis.key"), pool: x509.NewCertPool()}
	caKey, key := makeKey(t), makeKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redistest"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"}, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.ParseIP(loopback)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	writePEM(t, c.CA, "CERTIFICATE", signed(t, ca, ca, caKey, caKey))
	writePEM(t, c.Cert, "CERTIFICATE", signed(t, leaf, ca, key, caKey))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, c.Key, "PRIVATE KEY", der)
	text, err := os.ReadFile(c.CA)
	if err != nil || !c.pool.AppendCertsFromPEM(text) {
		t.Fatal("redistest: the authority's certificate cannot be read", err)
	}
	if c.pair, err = tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
		t.Fatal(err)
	}
	return c
}

// Client returns what a client of a server with these certificates needs: it shows its own, too.
func (c *Certs) Client() *tls.Config {
	return &tls.Config{RootCAs: c.pool, Certificates: []tls.Certificate{c.pair}, MinVersion: tls.VersionTLS12}
}

// directives are those of redis.conf for a TLS port. Links between servers use TLS, too.
func (c *Certs) directives(addr string) []string {
	_, port := split(addr)
	return []string{
		"tls-port", strconv.Itoa(port), "tls-cert-file", c.Cert, "tls-key-file", c.Key, "tls-ca-cert-file", c.CA,
		"tls-auth-clients", "yes", "tls-replication", "yes",
	}
}

// WithTLS gives the server a second port, [Server.TLSAddr], at which it wants TLS and a certificate of its client.
// The test is skipped where the server's program was built without TLS.
func WithTLS(t testing.TB, c *Certs) Option {
	t.Helper()
	program, err := binary()
	if err == nil {
		// It ends at once: the last directive is none, and there is no port to listen at.
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		said, _ := exec.CommandContext(ctx, program, "--port", "0", "--tls-port", "0", "--no-such-directive", "x").CombinedOutput()
		if strings.Contains(string(said), "tls-port") {
			t.Skipf("redistest: %s was built without TLS", program)
		}
	}
	return func(s *Server) { s.certs = c }
}

// TLSAddr is the host:port at which the server wants TLS; see [WithTLS].
func (s *Server) TLSAddr() string { return s.tlsAddr }

func makeKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signed(t testing.TB, cert, by *x509.Certificate, key, byKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, by, &key.PublicKey, byKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
