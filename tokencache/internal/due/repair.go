package due

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// repairPage is how many keys one step of Repair looks at.
const repairPage = 500

// Repair walks through all grants of an app and schedules those that no due set knows, one
// page of keys and one pause after the other. It returns how many that were. What fails, a node or a
// key, stops only itself; the error tells.
func (d Set) Repair(ctx context.Context, pause time.Duration) (missing int, err error) {
	nodes, err := d.all.db.Nodes(ctx)
	for _, node := range nodes {
		n, failed := d.repairNode(ctx, node, pause)
		missing += n
		err = errors.Join(err, failed)
	}
	return missing, err
}

func (d Set) repairNode(ctx context.Context, node redis.Cmdable, pause time.Duration) (missing int, err error) {
	for cursor := uint64(0); ; {
		page, failed := store.Bounded(ctx, 3*store.NodePatience, func(ctx context.Context) (*redis.ScanCmd, error) {
			page := node.Scan(ctx, cursor, d.all.db.Names.Records(d.app), repairPage)
			return page, page.Err()
		})
		if failed != nil {
			return missing, fmt.Errorf("tokencache: repair: %w", failed)
		}
		keys, next := page.Val()
		n, failed := d.scheduleMissing(ctx, keys)
		missing += n
		if err = cmp.Or(err, failed); next == 0 {
			return missing, err
		}
		cursor = next
		if failed := mono.Sleep(ctx, pause); failed != nil {
			return missing, failed
		}
	}
}

// scheduleMissing schedules those of some grants that are active and in no due set.
func (d Set) scheduleMissing(ctx context.Context, grantKeys []string) (missing int, err error) {
	records, err := store.Spread(ctx, d.all.db.Redis, grantKeys, func(p redis.Pipeliner, i int) *redis.SliceCmd {
		return p.HMGet(ctx, grantKeys[i], "state", "refresh_at")
	})
	var dueKeys []string
	var entries []redis.Z
	for i, r := range records {
		if r == nil {
			continue
		}
		at, ok := activeSince(r.Val())
		if tenant := d.all.db.Names.TenantOf(d.app, grantKeys[i]); ok && tenant != "" {
			dueKeys = append(dueKeys, d.key(tenant))
			entries = append(entries, entry(tenant, at))
		}
	}
	added, failed := store.Spread(ctx, d.all.db.Redis, dueKeys, func(p redis.Pipeliner, i int) *redis.IntCmd {
		return p.ZAddNX(ctx, dueKeys[i], entries[i])
	})
	for _, a := range added {
		if a != nil {
			missing += int(a.Val())
		}
	}
	return missing, cmp.Or(err, failed)
}
