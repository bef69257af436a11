package seal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// Generate returns a new keyset with one AES256-GCM key, as JSON. It is a secret: see the package
// comment for where to keep it.
func Generate() ([]byte, error) {
	manager := keyset.NewManager()
	id, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("seal: new key: %w", err)
	}
	return withPrimary(manager, id)
}

// Prepare returns the keyset with a new AES256-GCM key which opens, but does not seal
// before [Rotate].
func Prepare(keysetJSON []byte) ([]byte, error) {
	handle, _, err := parse(keysetJSON)
	if err != nil {
		return nil, fmt.Errorf("seal: the keyset %w", err)
	}
	if _, ok := prepared(handle); ok {
		return nil, errors.New("seal: the keyset has a prepared key already: roll it out, then seal.Rotate")
	}
	manager := keyset.NewManagerFromHandle(handle)
	if _, err := manager.Add(aead.AES256GCMKeyTemplate()); err != nil {
		return nil, fmt.Errorf("seal: new key: %w", err)
	}
	return export(manager)
}

// Rotate returns the keyset with another primary: the key that [Prepare] added, or else a
// new one. All keys that opened still open.
func Rotate(keysetJSON []byte) ([]byte, error) {
	handle, _, err := parse(keysetJSON)
	if err != nil {
		return nil, fmt.Errorf("seal: the keyset %w", err)
	}
	manager := keyset.NewManagerFromHandle(handle)
	id, ok := prepared(handle)
	if !ok {
		if id, err = manager.Add(aead.AES256GCMKeyTemplate()); err != nil {
			return nil, fmt.Errorf("seal: new key: %w", err)
		}
	}
	return withPrimary(manager, id)
}

// Key is one key of a keyset, without its material.
type Key struct {
	ID      uint32
	Primary bool // it seals
	Enabled bool // it opens
}

// Keys lists the keys of a keyset, in its order.
func Keys(keysetJSON []byte) ([]Key, error) {
	handle, _, err := parse(keysetJSON)
	if err != nil {
		return nil, fmt.Errorf("seal: the keyset %w", err)
	}
	var all []Key
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("seal: key %d of the keyset: %w", i+1, err)
		}
		all = append(all, Key{entry.KeyID(), entry.IsPrimary(), entry.KeyStatus() == keyset.Enabled})
	}
	return all, nil
}

// Retire returns the keyset without a key. What that key alone opens is lost to those who have the new keyset:
// see the package comment on rotation. The primary is refused.
func Retire(keysetJSON []byte, id uint32) ([]byte, error) {
	handle, _, err := parse(keysetJSON)
	if err != nil {
		return nil, fmt.Errorf("seal: the keyset %w", err)
	}
	if primary, err := handle.Primary(); err == nil && primary.KeyID() == id {
		return nil, fmt.Errorf("seal: key %d is the primary, which seals: seal.Rotate first", id)
	}
	manager := keyset.NewManagerFromHandle(handle)
	if err := manager.Delete(id); err != nil {
		return nil, fmt.Errorf("seal: the keyset has no key %d that could be taken out", id)
	}
	return export(manager)
}

// prepared finds the last enabled key after the primary: keys are appended, so
// those before it are former primaries.
func prepared(handle *keyset.Handle) (id uint32, ok bool) {
	for i := handle.Len() - 1; i >= 0; i-- {
		entry, err := handle.Entry(i)
		if err != nil || entry.IsPrimary() {
			return 0, false
		}
		if entry.KeyStatus() == keyset.Enabled {
			return entry.KeyID(), true
		}
	}
	return 0, false
}

func withPrimary(manager *keyset.Manager, id uint32) ([]byte, error) {
	if err := manager.SetPrimary(id); err != nil {
		return nil, fmt.Errorf("seal: make key %d the primary: %w", id, err)
	}
	return export(manager)
}

func export(manager *keyset.Manager) ([]byte, error) {
	handle, err := manager.Handle()
	if err != nil {
		return nil, fmt.Errorf("seal: new keyset: %w", err)
	}
	var out bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&out)); err != nil {
		return nil, errors.New("seal: the new keyset cannot be written as JSON") // the cause may quote it
	}
	return out.Bytes(), nil
}
