package engine

import (
	"cmp"
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// A failover loses what the replica that becomes the master had not got yet. WAIT tells how many
// replicas have what its connection has written, so script and WAIT go in one pipeline:
//
//   - A repeat must write something too. WAIT waits for the last write of its own connection, and a
//     script that only says what an earlier run has done, on another connection, writes nothing:
//     see again in common.lua.
//   - A pipeline of a ClusterClient sends WAIT to any node: it is made on the client of the node.

// A ChangeOption alters how a change is stored.
type ChangeOption func(*store.Acknowledgement)

// Replicas has a change waited for until n replicas have acknowledged it, for `within` at most. The
// error is ErrNotReplicated if they have not. The change is stored all the same, and a repeat waits
// for it again. `within` ends before the client's ReadTimeout, whatever is given.
func Replicas(n int, within time.Duration) ChangeOption {
	return func(a *store.Acknowledgement) { a.Replicas, a.Within = n, within }
}

// store is run for a change that counts once it is acknowledged as the options say; Lacks of the
// answer says that it is not.
func (g Grant) store(ctx context.Context, op string, s *redis.Script, keys []string, opts []ChangeOption, args ...any) (answer, error) {
	var ack store.Acknowledgement
	for _, o := range opts {
		o(&ack)
	}
	return g.in().RunAcknowledged(ctx, op, s, keys, ack, args...)
}

// Acknowledge has a grant's state, as it is, acknowledged as the options say.
func (g Grant) Acknowledge(ctx context.Context, opts ...ChangeOption) error {
	ks := g.keys()
	a, err := g.store(ctx, "acknowledge", store.AgainScript, []string{ks.Grant()}, opts)
	return cmp.Or(err, a.Damaged, a.Lacks)
}
