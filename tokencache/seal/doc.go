// Package seal turns a Tink keyset into the AEAD that seals token pairs.
//
//	aead, err := seal.FromFile("/etc/myapp/tokens.keyset.json")
//	if err != nil {
//		return err
//	}
//	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: aead})
//
// A keyset is a list of keys, in cleartext JSON as Tink and its tool tinkey write
// it. One key, the primary, seals; all enabled keys open. [Generate] makes a keyset.
// The result is a plain tink.AEAD: a keyset that is wrapped by a KMS is opened
// with Tink itself, and its AEAD handed to the cache.
//
// # Who may read the keyset
//
// Who has the keyset and can read Redis has the tokens of every tenant. Keep the file
// at mode 0600, owned by the account that the workers run as, and outside of images
// and repositories. [FromFile] does not refuse a file that others may read: secrets
// mounted by an orchestrator mostly look like that. An environment variable is seen by
// everything that may inspect the process, and is inherited by its children: prefer a file.
//
// # Rotation
//
// A worker cannot open what was sealed by a key that it does not have. So that all workers
// have a key before the first one seals with it:
//
//  1. [Prepare] adds a key that opens, but does not seal yet. Roll the keyset out to all
//     workers.
//  2. [Rotate] makes it the primary. Roll out again.
//  3. A pair is sealed anew with every refresh. `tokenlatch keys reseal` seals the others anew
//     while the fleet works, and `tokenlatch keys status` counts what each key has sealed.
//  4. [Retire] takes the old key out. Do that only when no grant has a pair of that key: a pair
//     whose key is gone is lost, and its tenant has to authorize again. `tokenlatch keys retire`
//     looks before. Keep the old keyset as long as you keep backups of Redis.
//
// Rotate alone is step 1 and 2 in one; it suits a single process that is restarted.
//
// No error of this package holds key material, and none wraps the error of a parser, which
// might quote it.
package seal
