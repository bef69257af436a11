package engine

import (
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// CanSeal seals s's pair once more, and forgets it: an AEAD that opens need not seal, and that is to
// be known before the refresh token is presented.
func (g Grant) CanSeal(s *Snapshot) error {
	_, err := g.c.sealer.Seal(s.Key, s.Epoch, s.Generation, s.Pair)
	return err
}

// outlived reports whether the sealed pair in Redis is a later one than this process remembers:
// beside a damaged record it is all that tells.
func (g Grant) outlived(mem *Snapshot, sealed string) bool {
	epoch, err := grant.EpochOf([]byte(sealed))
	if err != nil || epoch < mem.Epoch {
		return false
	}
	_, generation, err := g.c.sealer.Unseal(mem.Key, epoch, []byte(sealed))
	return err == nil && (epoch > mem.Epoch || generation > mem.Generation)
}
