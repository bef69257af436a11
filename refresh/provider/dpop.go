package provider

import (
	"crypto"
	"crypto/rand"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// DPoP proves with each request to the token endpoint that the app has the key (RFC 9449 §5), which the
// provider then binds its tokens to. All processes need the same key: a refresh token of a public client
// is bound to it, too.
//
// A server that wants a nonce in the proof says so in a refusal, which has not looked at the refresh
// token (§8): package refresh then asks once more within the same exchange. Requests to the API need proofs
// of their own (§7), which the base of a Transport can add.
func DPoP(key crypto.Signer) Option {
	return func(a *asking) {
		p := &prover{key: func() crypto.Signer { return key }}
		if key == nil {
			a.broken = append(a.broken, errors.New("provider: DPoP: the key is missing"))
			return
		}
		if _, err := p.proof("https://token", nil); err != nil {
			a.broken = append(a.broken, errors.New("provider: DPoP: the key must be ECDSA on P-256, P-384 or P-521, Ed25519, or RSA"))
		}
		a.proves = append(a.proves, p.prove)
		a.hears = append(a.hears, p.hear)
	}
}

// prover makes DPoP proofs, with the nonce that each host has said last.
type prover struct {
	key    func() crypto.Signer // a func: printers that walk fields find no key
	nonces sync.Map             // host → nonce
}

func (p *prover) prove(d *draft) error {
	d.nonce, _ = p.nonces.Load(hostOf(d.client.url))
	proof, err := p.proof(d.client.url, d.nonce)
	if err != nil {
		return errors.Join(errUnsigned, err)
	}
	d.header.Set("DPoP", proof)
	return nil
}

// hear keeps the nonce of an answer, and reports whether the proof had another one: exchanges of several
// tenants hear of it at once.
func (p *prover) hear(d *draft, header http.Header) bool {
	nonce := header.Get("DPoP-Nonce")
	if nonce == "" {
		return false
	}
	p.nonces.Store(hostOf(d.client.url), nonce)
	return d.nonce != nonce
}

func (p *prover) proof(address string, nonce any) (string, error) {
	key, algorithm := joseKey(p.key(), "", "")
	claims := map[string]any{
		"jti": rand.Text(), "htm": http.MethodPost, "htu": withoutQuery(address), "iat": jwt.NewNumericDate(time.Now()),
	}
	if nonce != nil {
		claims["nonce"] = nonce
	}
	options := (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt")
	return signJWT(jose.SigningKey{Algorithm: algorithm, Key: key}, options, claims)
}
