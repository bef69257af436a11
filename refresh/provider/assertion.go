package provider

import (
	"crypto"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	assertionLife = 2 * time.Minute
)

// Assertion is the JWT by which a client authenticates (RFC 7523 §2.2). Its times are by this
// process's clock. Providers accept a clock that is some minutes off.
type Assertion struct {
	// Key signs it (private_key_jwt): RSA, ECDSA on P-256, P-384 or P-521, or Ed25519, also where the key
	// is in a KMS. nil: the client's secret signs it (client_secret_jwt) and is not sent.
	Key crypto.Signer
	// KeyID is the header "kid", by which the provider finds the public key.
	KeyID string
	// Algorithm is the header "alg". Default: RS256 for RSA, HS256 for a secret, the one of the curve else.
	Algorithm string
	// Audience is the claim "aud". Default: the token endpoint's address. FAPI 2.0 wants the issuer.
	Audience string
	// Life is how long it holds. Default 2 minutes.
	Life time.Duration
	// Header are further headers, e.g. "x5t#S256" for Entra ID.
	Header map[string]any
}

// ClientAssertion authenticates the client by a signed JWT instead of a secret. Each request has a new JWT
// (RFC 7523 §2.2).
func ClientAssertion(as Assertion) Option {
	return func(a *asking) {
		as.Header = maps.Clone(as.Header)
		a.keyed, a.signs = true, as.Key == nil
		if as.Life < 0 {
			a.broken = append(a.broken, errors.New("provider: ClientAssertion: Life must not be negative; 0 is 2 minutes"))
		}
		if as.Key != nil {
			if _, err := as.sign(credentials{id: "id", url: "https://token"}); err != nil {
				a.broken = append(a.broken, errors.New("provider: ClientAssertion: Key and Algorithm do not fit: the key must be RSA (RS256, PS256, …), ECDSA on P-256, P-384 or P-521 (ES256, …), or Ed25519 (EdDSA), and Header must be JSON"))
			}
		}
		a.shapes = append(a.shapes, as.show)
	}
}

// show puts a new assertion where the secret would be.
func (as Assertion) show(d *draft) error {
	signed, err := as.sign(d.client)
	if err != nil {
		return errors.Join(errUnsigned, err)
	}
	d.form.Set("client_assertion_type", assertionType)
	d.form.Set("client_assertion", signed)
	d.hide(signed)
	return nil
}

func (as Assertion) sign(c credentials) (string, error) {
	life, audience, now := as.Life, as.Audience, time.Now()
	if life == 0 {
		life = assertionLife
	}
	if audience == "" {
		audience = withoutQuery(c.url)
	}
	key, algorithm := joseKey(as.Key, c.secret, as.Algorithm)
	options := (&jose.SignerOptions{}).WithType("JWT")
	if as.KeyID != "" {
		options.WithHeader("kid", as.KeyID)
	}
	for _, name := range slices.Sorted(maps.Keys(as.Header)) {
		options.WithHeader(jose.HeaderKey(name), as.Header[name])
	}
	return signJWT(jose.SigningKey{Algorithm: algorithm, Key: key}, options, map[string]any{
		"iss": c.id, "sub": c.id, "aud": audience, "jti": rand.Text(),
		"iat": jwt.NewNumericDate(now), "nbf": jwt.NewNumericDate(now), "exp": jwt.NewNumericDate(now.Add(life)),
	})
}

// joseKey is a key as go-jose takes it, and the algorithm that goes with it where none is said.
func joseKey(signer crypto.Signer, secret, algorithm string) (any, jose.SignatureAlgorithm) {
	if signer == nil {
		if algorithm == "" {
			algorithm = string(jose.HS256)
		}
		return []byte(secret), jose.SignatureAlgorithm(algorithm)
	}
	opaque := cryptosigner.Opaque(signer)
	if fit := opaque.Algs(); algorithm == "" && len(fit) > 0 {
		algorithm = string(fit[0])
	}
	return opaque, jose.SignatureAlgorithm(algorithm)
}

func signJWT(key jose.SigningKey, options *jose.SignerOptions, claims map[string]any) (string, error) {
	signer, err := jose.NewSigner(key, options)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}
