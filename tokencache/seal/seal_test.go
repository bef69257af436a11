package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"
	"github.com/tink-crypto/tink-go/v2/tink"
)

var ad = []byte("zoom acme 1")

func generate(t *testing.T) []byte {
	t.Helper()
	b, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sealer(t *testing.T, keyset []byte) tink.AEAD {
	t.Helper()
	a, err := FromJSON(keyset)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func sealed(t *testing.T, a tink.AEAD, text string) []byte {
	t.Helper()
	b, err := a.Encrypt([]byte(text), ad)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opens(a tink.AEAD, b []byte, want string) bool {
	got, err := a.Decrypt(b, ad)
	return err == nil && string(got) == want
}

func TestSealedOpensWithTheSameKeysetOnly(t *testing.T) {
	k := generate(t)
	b := sealed(t, sealer(t, k), "canary")
	if bytes.Contains(b, []byte("canary")) {
		t.Fatal("the sealed value holds its plaintext")
	}
	if !opens(sealer(t, k), b, "canary") {
		t.Fatal("does not open")
	}
	if opens(sealer(t, generate(t)), b, "canary") {
		t.Fatal("opens with another keyset")
	}
}

func TestSealedOpensForItsAssociatedDataOnly(t *testing.T) {
	a := sealer(t, generate(t))
	if _, err := a.Decrypt(sealed(t, a, "canary"), []byte("zoom umbrella 1")); err == nil {
		t.Fatal("opens for another grant")
	}
}

func TestRotatedKeysetOpensOldAndSealsNew(t *testing.T) {
	first := generate(t)
	second, err := Rotate(first)
	if err != nil {
		t.Fatal(err)
	}
	before, after := sealer(t, first), sealer(t, second)
	if !opens(after, sealed(t, before, "old"), "old") {
		t.Error("the old value does not open any more")
	}
	if opens(before, sealed(t, after, "new"), "new") {
		t.Error("the old key still seals")
	}
}

func TestPreparedKeySealsOnlyAfterRotate(t *testing.T) {
	first := generate(t)
	second, err := Prepare(first)
	if err != nil {
		t.Fatal(err)
	}
	third, err := Rotate(second)
	if err != nil {
		t.Fatal(err)
	}
	old, ready, rotated := sealer(t, first), sealer(t, second), sealer(t, third)
	if !opens(old, sealed(t, ready, "v"), "v") {
		t.Error("a prepared key seals already")
	}
	if b := sealed(t, rotated, "v"); !opens(ready, b, "v") || opens(old, b, "v") {
		t.Error("Rotate did not take the prepared key")
	}
}

func TestPrepareTwiceIsRefused(t *testing.T) {
	once, err := Prepare(generate(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Prepare(once); err == nil {
		t.Fatal("a second prepared key")
	}
}

func TestEveryRotationKeepsAllOldKeys(t *testing.T) {
	k := generate(t)
	var olds [][]byte
	for range 4 {
		olds = append(olds, sealed(t, sealer(t, k), "v"))
		var err error
		if k, err = Rotate(k); err != nil {
			t.Fatal(err)
		}
	}
	for i, old := range olds {
		if !opens(sealer(t, k), old, "v") {
			t.Errorf("generation %d does not open", i)
		}
	}
}

func TestFileAndEnvironmentGiveTheSameAEAD(t *testing.T) {
	k := append(generate(t), '\n')
	path := filepath.Join(t.TempDir(), "keyset.json")
	if err := os.WriteFile(path, k, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TOKENLATCH_TEST_KEYSET", string(k))
	file, err := FromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	env, err := FromEnv("TOKENLATCH_TEST_KEYSET")
	if err != nil {
		t.Fatal(err)
	}
	if !opens(env, sealed(t, file, "v"), "v") {
		t.Fatal("they differ")
	}
}

// brokenKeyset is one that nobody can use, and what its error has to say.
type brokenKeyset struct{ text, secret, says string }

func brokenKeysets(t *testing.T) map[string]brokenKeyset {
	good := string(generate(t))
	key, hmac, packed := keyBytes(t, good), macKeyset(t), base64.StdEncoding.EncodeToString([]byte(good))
	return map[string]brokenKeyset{
		"empty":        {" \n", "", "is empty"},
		"a path":       {"/etc/tokens.keyset.json", "", "is not JSON"},
		"the bare key": {key, key, "is not JSON"},
		"base64":       {packed, packed, "is not JSON"},
		"cut off":      {good[:len(good)-9], key, "is not JSON"},
		"a string":     {`"` + key + `"`, key, "no usable Tink keyset"},
		"other JSON":   {`{"password": "` + key + `"}`, key, "no usable Tink keyset"},
		"misplaced":    {`{"primaryKeyId": "` + key + `"}`, key, "no usable Tink keyset"},
		"no keys":      {`{"primaryKeyId": 1, "key": []}`, "", "no usable Tink keyset"},
		"no primary":   {strings.Replace(good, `"primaryKeyId":`, `"primaryKeyId":1`, 1), key, "no usable Tink keyset"},
		"damaged key":  {strings.Replace(good, key, key+"!", 1), key, "no usable Tink keyset"},
		"short key":    {strings.Replace(good, key, key[:len(key)-8], 1), key[:len(key)-8], "no usable Tink keyset"},
		"disabled":     {strings.Replace(good, "ENABLED", "DISABLED", 1), key, "no usable Tink keyset"},
		"MAC keys":     {hmac, keyBytes(t, hmac), "HmacKey"},
		"KMS wrapping": {`{"encryptedKeyset": "` + key + `"}`, key, "is encrypted"},
	}
}

func macKeyset(t *testing.T) string {
	t.Helper()
	handle, err := keyset.NewHandle(mac.HMACSHA256Tag256KeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&out)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// keyBytes finds the key material of the first key, as it stands in the JSON.
func keyBytes(t *testing.T, text string) string {
	t.Helper()
	var outer struct {
		Key []struct{ KeyData struct{ Value string } }
	}
	if err := json.Unmarshal([]byte(text), &outer); err != nil || len(outer.Key) == 0 {
		t.Fatalf("no key in the keyset: %v", err)
	}
	return outer.Key[0].KeyData.Value
}

func TestErrorsSayWhatIsWrongAndNeverHoldTheKey(t *testing.T) {
	for name, c := range brokenKeysets(t) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keyset.json")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("TOKENLATCH_TEST_KEYSET", c.text)
			_, fromJSON := FromJSON([]byte(c.text))
			_, fromFile := FromFile(path)
			_, fromEnv := FromEnv("TOKENLATCH_TEST_KEYSET")
			_, fromPrepare := Prepare([]byte(c.text))
			_, fromRotate := Rotate([]byte(c.text))
			for _, err := range []error{fromJSON, fromFile, fromEnv, fromPrepare, fromRotate} {
				check(t, err, c)
			}
			names(t, fromFile, path)
			names(t, fromEnv, "TOKENLATCH_TEST_KEYSET")
		})
	}
}

func check(t *testing.T, err error, c brokenKeyset) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if !strings.Contains(err.Error(), c.says) {
		t.Errorf("%q does not say %q", err, c.says)
	}
	for i := range max(0, len(c.secret)-5) {
		if strings.Contains(err.Error(), c.secret[i:i+6]) {
			t.Fatalf("%q quotes the keyset", err)
		}
	}
}

func names(t *testing.T, err error, source string) {
	t.Helper()
	if !strings.Contains(err.Error(), source) {
		t.Errorf("%q does not name %s", err, source)
	}
}

func TestMissingFileSaysWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyset.json")
	_, err := FromFile(path)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "seal.Generate") {
		t.Fatalf("error: %v", err)
	}
}

func TestUnsetVariableSaysWhatToDo(t *testing.T) {
	_, err := FromEnv("TOKENLATCH_TEST_UNSET")
	if err == nil || !strings.Contains(err.Error(), "TOKENLATCH_TEST_UNSET is not set") {
		t.Fatalf("error: %v", err)
	}
}

func TestARetiredKeyIsGoneAndThePrimaryIsNever(t *testing.T) {
	first := generate(t)
	rotated, err := Rotate(first)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := Keys(rotated)
	if err != nil || len(keys) != 2 || keys[0].Primary || !keys[1].Primary || !keys[0].Enabled {
		t.Fatalf("%+v, %v", keys, err)
	}
	retired, err := Retire(rotated, keys[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	b := sealed(t, sealer(t, first), "canary")
	if !opens(sealer(t, rotated), b, "canary") || opens(sealer(t, retired), b, "canary") {
		t.Error("a rotated keyset opens with the old key, a retired one does not")
	}
	if left, err := Keys(retired); err != nil || len(left) != 1 || left[0] != keys[1] {
		t.Errorf("%+v, %v", left, err)
	}
	for _, id := range []uint32{keys[1].ID, keys[0].ID + 1} {
		if _, err := Retire(rotated, id); err == nil {
			t.Errorf("key %d can be retired", id)
		}
	}
	for _, bad := range []string{"", "{}", "canary"} {
		_, err := Keys([]byte(bad))
		_, failed := Retire([]byte(bad), 1)
		if err == nil || failed == nil || strings.Contains(err.Error()+failed.Error(), "canary") {
			t.Errorf("%q: %v, %v", bad, err, failed)
		}
	}
}
