package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// certFiles are the PEM files that a rediss:// address may name in its query: whose certificates are trusted, and
// the client's own.
type certFiles struct{ ca, cert, key string }

// takeCertFiles returns an address without the names of files in its query, and those.
func takeCertFiles(addr string) (string, certFiles, error) {
	h := splitHosts(addr)
	path, query, ok := strings.Cut(h.tail, "?")
	values, err := url.ParseQuery(query)
	if !ok || err != nil {
		return addr, certFiles{}, nil // whoever parses it says what is wrong
	}
	f := certFiles{values.Get("ca_file"), values.Get("cert_file"), values.Get("key_file")}
	if f == (certFiles{}) {
		return addr, f, nil
	}
	switch {
	case !strings.HasPrefix(h.head, "rediss"):
		return "", f, errors.New("ca_file, cert_file and key_file are for TLS: the address must begin with rediss")
	case (f.cert == "") != (f.key == ""):
		return "", f, errors.New("cert_file and key_file go together")
	}
	for _, name := range []string{"ca_file", "cert_file", "key_file"} {
		values.Del(name)
	}
	h.tail = strings.TrimSuffix(path+"?"+values.Encode(), "?")
	return h.with(h.more), f, nil
}

// config is a client's configuration with the files. Its errors name files only.
func (f certFiles) config(base *tls.Config) (*tls.Config, error) {
	if f == (certFiles{}) || base == nil {
		return base, nil
	}
	own := base.Clone()
	if f.ca != "" {
		text, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		if own.RootCAs = x509.NewCertPool(); !own.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", f.ca)
		}
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w", err)
		}
		own.Certificates = []tls.Certificate{pair}
	}
	return own, nil
}

// arguments are those of redis-cli for the same.
func (f certFiles) arguments() (args []string) {
	for _, arg := range [][2]string{{"--cacert", f.ca}, {"--cert", f.cert}, {"--key", f.key}} {
		if arg[1] != "" {
			args = append(args, arg[0], arg[1])
		}
	}
	return args
}
