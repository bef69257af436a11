package grant

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
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

// Plaintext is the AEAD that does not encrypt: every reader of Redis has the tokens.
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

// sealedError is ErrSealed for one pair; by says what sealed it.
type sealedError struct {
	key Key
	by  string
}

func (e *sealedError) Error() string {
	return fmt.Sprintf("%v (%s, sealed with %s)", ErrSealed, e.key, e.by)
}

func (e *sealedError) Unwrap() error { return ErrSealed }

// SealedBy names the key that sealed a pair which this process cannot open, from the error about that.
// It holds no key material.
func SealedBy(err error) (key string, ok bool) {
	var e *sealedError
	if errors.As(err, &e) {
		return e.by, true
	}
	return "", false
}

// sealerOf returns what a sealed pair tells of its key: Tink puts a 1 and the key's id in front.
func sealerOf(sealed []byte) string {
	switch {
	case bytes.HasPrefix(sealed, []byte("plain ")):
		return "no key at all (tokencache.Plaintext)"
	case len(sealed) > 5 && sealed[0] == 1:
		return fmt.Sprintf("key %d of a Tink keyset", binary.BigEndian.Uint32(sealed[1:5]))
	}
	return "a key without an id"
}

// KeyIDOf is the id of the Tink key that a sealed pair was sealed with. The first 32 bytes of the pair do. It is
// not ok where they tell none: sealed with no key at all, or with one that has no id.
func KeyIDOf(sealed []byte) (id uint32, ok bool) {
	_, text, found := bytes.Cut(sealed, []byte{'\n'})
	if !found || len(text) < 5 || text[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(text[1:5]), true
}

// MaxSealed bounds a sealed pair, in bytes: an answer of a provider is 1 MiB at most. pair_of
// (common.lua) and fetchOnce read no more of one than this and a byte.
const MaxSealed = 8<<20 - 1

// ErrSealing is in the chain of the error for a pair that cannot be sealed. The operator must give
// this process a keyset that seals.
var ErrSealing = errors.New("tokencache: the pair cannot be sealed; give this process a keyset whose primary key is enabled, or mend what Config.AEAD needs")

// AnyGeneration opens a pair whatever its generation: a spare's is over.
const AnyGeneration = -1

// ErrOtherPair says that the pair in Redis is not the record's: the keyset is the right one.
var ErrOtherPair = fmt.Errorf("%w (Redis has a pair that does not belong to the record: a key was restored or overwritten by hand)", ErrSealed)

// EpochOf is the epoch that stands in front of a sealed pair.
func EpochOf(sealed []byte) (int64, error) {
	head, _, _ := bytes.Cut(sealed, []byte{'\n'})
	return ParseNumber(string(head), MaxCounter)
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

// Sealer seals the pairs of one deployment: what it has sealed does not open under another prefix, as
// another grant's, or in another epoch.
type Sealer struct {
	AEAD   AEAD
	Prefix string
}

// associatedData binds a sealed pair to its deployment, grant and consent.
func (s Sealer) associatedData(k Key, epoch int64) []byte {
	app, tenant := Escape(k.App), Escape(k.Tenant)
	ad := make([]byte, 0, len("tokenlatch/2 ")+len(s.Prefix)+len(app)+len(tenant)+len(" : 9223372036854775807"))
	ad = append(append(append(ad, "tokenlatch/2 "...), s.Prefix...), ' ')
	ad = append(append(append(append(ad, app...), ':'), tenant...), ' ')
	return strconv.AppendInt(ad, epoch, 10)
}

// Seal seals a pair as the one of a generation. The error is ErrSealing, or says that the pair's extra
// members cannot be stored.
func (s Sealer) Seal(k Key, epoch, generation int64, p Pair) (string, error) {
	text, err := p.marshal(generation)
	if err != nil {
		return "", fmt.Errorf("tokencache: %s: the pair's extra members cannot be stored as JSON: %w", k, err)
	}
	return s.SealText(k, epoch, text)
}

// SealText seals any text. The error is ErrSealing.
func (s Sealer) SealText(k Key, epoch int64, text []byte) (string, error) {
	sealed, err := s.AEAD.Encrypt(text, s.associatedData(k, epoch))
	if err != nil {
		return "", fmt.Errorf("%w (%s): %w", ErrSealing, k, err)
	}
	// The epoch stands in front, for ReadFresh, which has not read the record.
	return strconv.FormatInt(epoch, 10) + "\n" + string(sealed), nil
}

// OpenText opens what SealText has sealed in that epoch. The error is the AEAD's.
func (s Sealer) OpenText(k Key, epoch int64, sealed []byte) ([]byte, error) {
	_, text, _ := bytes.Cut(sealed, []byte{'\n'})
	return s.AEAD.Decrypt(text, s.associatedData(k, epoch))
}

// Open opens the pair of a generation, or with AnyGeneration whatever it is. A pair of another generation
// was put there by somebody else, or is the rest of an incomplete restore: presenting its refresh
// token would be a replay. The error is ErrSealed, or ErrOtherPair.
func (s Sealer) Open(k Key, epoch, generation int64, sealed []byte) (Pair, error) {
	p, sealedAs, err := s.Unseal(k, epoch, sealed)
	if err == nil && generation != AnyGeneration && sealedAs != generation {
		return Pair{}, fmt.Errorf("%w (%s: sealed as generation %d, the record has %d)", ErrOtherPair, k, sealedAs, generation)
	}
	return p, err
}

// Unseal opens a pair and returns the generation that it is sealed as.
func (s Sealer) Unseal(k Key, epoch int64, sealed []byte) (p Pair, generation int64, err error) {
	if len(sealed) > MaxSealed {
		return Pair{}, 0, fmt.Errorf("%w (%s: it is longer than any pair can be)", ErrSealed, k)
	}
	if sealedIn, err := EpochOf(sealed); err == nil && sealedIn != epoch {
		return Pair{}, 0, fmt.Errorf("%w (%s: sealed in epoch %d, the record has %d)", ErrOtherPair, k, sealedIn, epoch)
	}
	text, err := s.OpenText(k, epoch, sealed)
	if err != nil {
		_, sealed, _ = bytes.Cut(sealed, []byte{'\n'})
		return Pair{}, 0, &sealedError{k, sealerOf(sealed)}
	}
	generation, ok := p.unmarshal(string(text))
	if !ok {
		return Pair{}, 0, fmt.Errorf("%w (%s: opened, but not a pair)", ErrSealed, k)
	}
	return p, generation, nil
}
