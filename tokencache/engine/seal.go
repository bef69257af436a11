package engine

import (
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// CanSeal seals s's pair once more, and forgets it: an AEAD that opens need not seal, and that is to
// be known before the refresh token is presented.
func (c *Cache) CanSeal(s *Snapshot) error {
	_, err := c.sealer.Seal(s.Key, s.Epoch, s.Generation, s.Pair)
	return err
}

// outlived reports whether the sealed pair in Redis is a later one than this process remembers:
// beside a damaged record it is all that tells.
func (c *Cache) outlived(mem *Snapshot, sealed string) bool {
	epoch, err := grant.EpochOf([]byte(sealed))
	if err != nil || epoch < mem.Epoch {
		return false
	}
	_, generation, err := c.sealer.Unseal(mem.Key, epoch, []byte(sealed))
	return err == nil && (epoch > mem.Epoch || generation > mem.Generation)
}
