package provider

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"
)

// JWTBearer is a provider that mints access tokens from assertions which the app
// signs with its private key (RFC 7523 §2.1, RS256). There is no refresh token, and
// nothing is spent. Its Exchanger is a [*TokenEndpoint].
//
// cfg needs Email, the issuer of the assertion (often the client id), PrivateKey,
// an RSA key without a passphrase, and TokenURL (https, except on the loopback
// interface). In Subject the text {tenant} stands for the grant's tenant.
// JWTBearer refuses UseIDToken, since a pair holds an access token. The client shows
// nothing besides the assertion, so AuthStyle does not matter.
//
// The returned Profile is changed as [ClientCredentials] changes it.
func JWTBearer(cfg *jwt.Config, p Profile, opts ...Option) (Provider, error) {
	if cfg == nil || cfg.Email == "" {
		return Provider{}, errors.New("provider: JWTBearer: Email is missing: it names your app as the assertion's issuer")
	}
	a, err := newAsking(p, opts)
	if a.signs {
		err = errNoKey("JWTBearer")
	}
	if err := errors.Join(p.Validate(), err); err != nil {
		return Provider{}, err
	}
	host, err := tokenHost("JWTBearer: TokenURL", cfg.TokenURL)
	if err != nil {
		return Provider{}, err
	}
	own, err := ownJWT(cfg)
	if err != nil {
		return Provider{}, err
	}
	return minting(host, p, a, askJWT(own)), nil
}

func askJWT(own *jwt.Config) func(Grant) (request, error) {
	named := hasTenantMark(own.Subject)
	return func(g Grant) (request, error) {
		if named && g.Tenant == "" {
			return request{}, &Error{Class: Unsent, Err: errNoTenant}
		}
		cfg := *own
		cfg.Subject = strings.ReplaceAll(own.Subject, tenantMark, g.Tenant)
		return request{
			source:  func(ctx context.Context) oauth2.TokenSource { return cfg.TokenSource(ctx) },
			secrets: []string{g.AccessToken}, // the key is never sent
			mints:   true,
			client:  credentials{id: cfg.Email, url: cfg.TokenURL},
		}, nil
	}
}

// ownJWT is a deep copy of cfg, which must be fit to sign with.
func ownJWT(cfg *jwt.Config) (*jwt.Config, error) {
	if why := unfitKey(cfg.PrivateKey); why != "" {
		return nil, errors.New("provider: JWTBearer: PrivateKey " + why)
	}
	switch {
	case cfg.Expires < 0:
		return nil, errors.New("provider: JWTBearer: Expires must not be negative; 0 is an hour")
	case cfg.UseIDToken:
		return nil, errors.New("provider: JWTBearer: UseIDToken is not supported: what is kept is the access token")
	}
	own := *cfg
	own.PrivateKey = slices.Clone(cfg.PrivateKey)
	own.Scopes = slices.Clone(cfg.Scopes)
	own.PrivateClaims = make(map[string]any, len(cfg.PrivateClaims))
	for name, claim := range cfg.PrivateClaims {
		raw, err := json.Marshal(claim)
		if err != nil {
			return nil, errors.New("provider: JWTBearer: PrivateClaims: " + oneLine(name) + " cannot be written as JSON")
		}
		own.PrivateClaims[name] = json.RawMessage(raw)
	}
	return &own, nil
}

// unfitKey says, without a byte of it, why x/oauth2 could not sign with the key.
func unfitKey(key []byte) string {
	block, _ := pem.Decode(key)
	switch {
	case len(key) == 0:
		return "is missing: the assertion is signed with it"
	case block != nil && (block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != ""):
		return "has a passphrase: write it without one (openssl pkey -in key.pem)"
	case block != nil:
		key = block.Bytes
	}
	parsed, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		parsed, err = x509.ParsePKCS1PrivateKey(key)
	}
	if err != nil {
		return "cannot be read: it must be an RSA key in PKCS #8 or PKCS #1, as PEM or DER"
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return "must be an RSA key: assertions are signed with RS256"
	}
	digest := sha256.Sum256(nil)
	if _, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:]); err != nil {
		return "cannot sign: RSA keys have 2048 bits or more"
	}
	return ""
}
