package tokencache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// AEAD seals pairs. It is Tink's interface; tokencache/seal makes one of a keyset.
type AEAD interface {
	Encrypt(plaintext, associatedData []byte) ([]byte, error)
	Decrypt(ciphertext, associatedData []byte) ([]byte, error)
}

// Plaintext is the AEAD that does not encrypt: whoever reads Redis has the tokens.
// For tests and demonstrations. It still refuses a value copied to another grant.
var Plaintext AEAD = plaintext{}

type plaintext struct{}

// Encrypt puts the associated data in front, so that Decrypt can check it.
func (plaintext) Encrypt(text, ad []byte) ([]byte, error) {
	return fmt.Appendf(nil, "plain %d %s%s", len(ad), ad, text), nil
}

func (plaintext) Decrypt(sealed, ad []byte) ([]byte, error) {
	head := fmt.Appendf(nil, "plain %d %s", len(ad), ad)
	if len(sealed) < len(head) || string(sealed[:len(head)]) != string(head) {
		return nil, errors.New("sealed for another grant, or with a key")
	}
	return sealed[len(head):], nil
}

// ErrSealed is in the chain of the error for a pair that does not open. Nothing is
// lost: the record stays as it is. The operator must give this process the keyset
// that sealed it.
var ErrSealed = errors.New("tokencache: the sealed pair does not open: it was sealed with another key, or for another grant; give this process the keyset that sealed it")

// associatedData binds a sealed pair to its grant and consent.
func associatedData(k Key, epoch int64) []byte {
	return []byte("tokenlatch/1 " + k.String() + " " + strconv.FormatInt(epoch, 10))
}

func (c *Cache) seal(k Key, epoch int64, p Pair) (string, error) {
	text, err := p.marshal()
	if err != nil {
		return "", fmt.Errorf("tokencache: %s: the pair's extra members cannot be stored as JSON: %w", k, err)
	}
	sealed, err := c.aead.Encrypt(text, associatedData(k, epoch))
	if err != nil {
		return "", fmt.Errorf("tokencache: seal %s: %w", k, err)
	}
	// The epoch stands in front, for a glance that has not read the record.
	return strconv.FormatInt(epoch, 10) + "\n" + string(sealed), nil
}

func (c *Cache) open(k Key, epoch int64, sealed []byte) (Pair, error) {
	_, sealed, _ = bytes.Cut(sealed, []byte{'\n'})
	text, err := c.aead.Decrypt(sealed, associatedData(k, epoch))
	if err != nil {
		return Pair{}, fmt.Errorf("%w (%s)", ErrSealed, k)
	}
	var p Pair
	if !p.unmarshal(string(text)) {
		return Pair{}, fmt.Errorf("%w (%s: opened, but not a pair)", ErrSealed, k)
	}
	return p, nil
}

// Fingerprint names a token without telling it: the first 12 hex digits of its
// SHA-256. Empty for the empty token.
func Fingerprint(token string) string {
	if token == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:6])
}
