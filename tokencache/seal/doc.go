// Package seal turns a Tink keyset into the AEAD that seals token pairs.
//
//	aead, err := seal.FromFile("/etc/myapp/tokens.keyset.json")
//	if err != nil {
//		return err
//	}
//	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: aead})
//
// A keyset is a list of keys, in cleartext JSON as Tink and its tool tinkey write
// it. One key, the primary, seals; all enabled keys open. [Generate] makes a keyset. The
// result of FromFile is a plain tink.AEAD. So if a KMS has encrypted your keyset, open it with
// Tink itself, and give the AEAD that Tink returns to the cache.
//
// # Who may read the keyset
//
// Anybody who has the keyset and can read Redis can read the tokens of every tenant. Keep the
// file at mode 0600, owned by the account that the workers run as, and outside of images and
// repositories. Back it up: without it every tenant must consent again. [FromFile] does not
// refuse a file that others may read, because secrets that an orchestrator mounts mostly look
// like that. Prefer a file to an environment variable: every program that may inspect the
// process can read its environment, and child processes inherit it.
//
// # Rotation
//
// A worker cannot open what was sealed with a key that it does not have. So all workers must have
// a key before the first one seals with it:
//
//  1. [Prepare] adds a key that opens, but does not seal yet. Roll the keyset out to all
//     workers.
//  2. [Rotate] makes that key the primary. Roll the keyset out again.
//  3. Each refresh seals a pair anew. `tokenlatch keys reseal` seals the others anew while the fleet
//     works, and `tokenlatch keys status` counts what each key has sealed.
//  4. [Retire] takes the old key out. Do that only when no grant has a pair of that key: a pair
//     whose key is gone is lost, and its tenant must consent again. `tokenlatch keys retire`
//     looks before. Keep the old keyset as long as you keep backups of Redis.
//
// Rotate alone does step 1 and 2 at once. Use it so only if there is one process, which you
// restart.
//
// No error of this package holds key material, and none wraps the error of a parser, which
// might quote it.
package seal
