package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// FromJSON returns the AEAD of a cleartext keyset.
func FromJSON(b []byte) (tink.AEAD, error) {
	_, sealer, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("seal: the keyset %w", err)
	}
	return sealer, nil
}

// FromFile is [FromJSON] for the content of a file.
func FromFile(path string) (tink.AEAD, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("seal: %w: write the keyset there, mode 0600; seal.Generate makes a new one", err)
	}
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	_, sealer, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("seal: the keyset in %s %w", path, err)
	}
	return sealer, nil
}

// FromEnv is [FromJSON] for the value of an environment variable: the keyset itself, not
// the path of a file.
func FromEnv(name string) (tink.AEAD, error) {
	value, set := os.LookupEnv(name)
	if !set {
		return nil, fmt.Errorf("seal: the environment variable %s is not set: put the keyset's JSON into it, or use seal.FromFile", name)
	}
	_, sealer, err := parse([]byte(value))
	if err != nil {
		return nil, fmt.Errorf("seal: the keyset in the environment variable %s %w", name, err)
	}
	return sealer, nil
}

// What is wrong with a keyset, to follow the words "the keyset".
var (
	errEmpty     = errors.New("is empty: seal.Generate makes a new one")
	errNotJSON   = errors.New(`is not JSON: a Tink keyset in cleartext JSON is needed (not its path, not base64), like {"primaryKeyId": …, "key": […]}`)
	errEncrypted = errors.New("is encrypted: only cleartext is read here; open it with Tink and your KMS, and give that AEAD to the cache")
	errNotKeyset = errors.New(`is JSON, but no usable Tink keyset: {"primaryKeyId": …, "key": […]} is needed, with undamaged keys and an enabled primary`)
)

// parse tells what is wrong in its own words. The errors of Tink and protojson are
// dropped on purpose: the latter quotes the value that it stumbled over.
func parse(b []byte) (*keyset.Handle, tink.AEAD, error) {
	if err := shape(b); err != nil {
		return nil, nil, err
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(b)))
	if err != nil {
		return nil, nil, errNotKeyset
	}
	if _, err := handle.Primary(); err != nil {
		return nil, nil, errNotKeyset
	}
	sealer, err := aead.New(handle)
	if err != nil {
		return nil, nil, fmt.Errorf("holds keys that cannot seal (%s): AEAD keys are needed; seal.Generate makes AES256-GCM", keyTypes(handle))
	}
	return handle, sealer, nil
}

func shape(b []byte) error {
	var outer struct {
		EncryptedKeyset json.RawMessage `json:"encryptedKeyset"`
	}
	switch {
	case len(bytes.TrimSpace(b)) == 0:
		return errEmpty
	case !json.Valid(b):
		return errNotJSON
	case json.Unmarshal(b, &outer) != nil:
		return errNotKeyset // a string, a list
	case outer.EncryptedKeyset != nil:
		return errEncrypted
	}
	return nil
}

// keyTypes names ids and types of the keys, which are no secret.
func keyTypes(handle *keyset.Handle) string {
	var types []string
	for _, key := range handle.KeysetInfo().GetKeyInfo() {
		name := key.GetTypeUrl()
		types = append(types, fmt.Sprintf("%d: %s", key.GetKeyId(), name[strings.LastIndexByte(name, '.')+1:]))
	}
	return strings.Join(types, ", ")
}
