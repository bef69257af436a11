package inspect

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// How many keys one step of SCAN looks at: few at first, so that there is a row at once.
const (
	firstPage = 64
	page      = 1024
)

// List reads all grants of an app, or of all apps if it is "", one page after the other: it keeps no
// more than one page in memory. The order is Redis'. A grant that comes or goes meanwhile may be
// missed. One may be listed twice while Redis grows, or a slot moves.
//
// An error is about the rest of one node, and the grants of the next node follow. It ends the list
// where ctx has ended, or there is no other node.
func (in *Inspector) List(ctx context.Context, app string) iter.Seq2[Row, error] {
	pattern := in.names.AllRecords()
	if app != "" {
		pattern = in.names.Records(app)
	}
	return func(yield func(Row, error) bool) {
		in.scan(ctx, pattern, func(node redis.Cmdable, keys []string) error { return in.rows(ctx, node, keys, yield) },
			func(err error) bool { return yield(Row{}, err) })
	}
}

// Apps lists the apps that have a state of their own, as those that have made an exchange. An error is as
// with List.
func (in *Inspector) Apps(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names := func(_ redis.Cmdable, keys []string) error {
			for _, key := range keys {
				if app, ok := in.names.AppAt(key); ok && !yield(app, nil) {
					return errEnough
				}
			}
			return nil
		}
		in.scan(ctx, in.names.AllApps(), names, func(err error) bool { return yield("", err) })
	}
}

// Tenants lists the names of the tenants of an app, and reads nothing of their grants. An error is as with List.
func (in *Inspector) Tenants(ctx context.Context, app string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names := func(_ redis.Cmdable, keys []string) error {
			for _, key := range keys {
				if k, ok := in.names.GrantAt(key); ok && !yield(k.Tenant, nil) {
					return errEnough
				}
			}
			return nil
		}
		in.scan(ctx, in.names.Records(app), names, func(err error) bool { return yield("", err) })
	}
}

// errEnough says that the caller wants no more.
var errEnough = errors.New("enough")

// scan gives each page of the keys of a pattern to visit, node by node. failed is told what a node does
// not answer, and says whether to go on.
func (in *Inspector) scan(ctx context.Context, pattern string, visit func(redis.Cmdable, []string) error, failed func(error) bool) {
	nodes, err := store.Bounded(ctx, in.timeout, in.nodes)
	if err != nil && !failed(fmt.Errorf("tokencache: list: %w", said(err))) {
		return
	}
	for _, node := range nodes {
		switch err := in.scanNode(ctx, node, pattern, visit); {
		case errors.Is(err, errEnough):
			return
		case err != nil && (!failed(fmt.Errorf("tokencache: list%s: %w", ofNode(node, len(nodes)), said(err))) || ctx.Err() != nil):
			return
		}
	}
}

// ofNode names one of several nodes.
func ofNode(node redis.Cmdable, of int) string {
	if client, ok := node.(*redis.Client); ok && of > 1 {
		return " the grants of node " + client.Options().Addr
	}
	return ""
}

func (in *Inspector) scanNode(ctx context.Context, node redis.Cmdable, pattern string, visit func(redis.Cmdable, []string) error) error {
	count := int64(firstPage)
	for cursor := uint64(0); ; count = page {
		found, err := store.Bounded(ctx, in.timeout, func(ctx context.Context) (*redis.ScanCmd, error) {
			found := node.Scan(ctx, cursor, pattern, count)
			return found, found.Err()
		})
		if err != nil {
			return err
		}
		keys, next := found.Val()
		if err := visit(node, keys); err != nil || next == 0 {
			return err
		}
		cursor = next
	}
}

// rows yields the grants of a page of keys.
func (in *Inspector) rows(ctx context.Context, node redis.Cmdable, keys []string, yield func(Row, error) bool) error {
	if len(keys) == 0 {
		return nil
	}
	rows, err := store.Bounded(ctx, in.timeout, func(ctx context.Context) ([]Row, error) { return in.readPage(ctx, node, keys) })
	if err != nil {
		return err
	}
	for _, row := range rows {
		if !yield(row, nil) {
			return errEnough
		}
	}
	return nil
}

// readPage reads the records of a page in one round trip, and the leases of those that are claimed in a
// second one.
func (in *Inspector) readPage(ctx context.Context, node redis.Cmdable, keys []string) ([]Row, error) {
	records := make([]*redis.MapStringStringCmd, len(keys))
	clock := redis.NewStringSliceCmd(ctx, "time") // as text: a time.Time could be taken for this machine's
	_, _ = node.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, key := range keys {
			records[i] = p.HGetAll(ctx, key)
		}
		return p.Process(ctx, clock)
	})
	if clock.Err() != nil {
		return nil, clock.Err()
	}
	now, err := store.Millis(clock.Val())
	if err != nil {
		return nil, err
	}
	rows := make([]Row, 0, len(keys))
	for i, key := range keys {
		k, ok := in.names.GrantAt(key)
		fields, err := follow(ctx, in, key, records[i])
		switch {
		case err != nil:
			return nil, err
		case ok && (fields.Err() != nil || len(fields.Val()) > 0): // else it is gone since
			rows = append(rows, rowOf(k, fields, now))
		}
	}
	in.readLeases(ctx, node, rows)
	return rows, nil
}

// follow asks again for a record whose slot has moved to another node since. The error is about more than
// this record.
func follow(ctx context.Context, in *Inspector, key string, got *redis.MapStringStringCmd) (*redis.MapStringStringCmd, error) {
	if redis.HasErrorPrefix(got.Err(), "MOVED") || redis.HasErrorPrefix(got.Err(), "ASK") {
		got = in.db.Redis.HGetAll(ctx, key)
	}
	if err := got.Err(); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil, err
	}
	return got, nil
}

// readLeases fills in the leases of rows with an unresolved claim. A lease that is not told counts as free.
func (in *Inspector) readLeases(ctx context.Context, node redis.Cmdable, rows []Row) {
	holders, left := map[int]*redis.StringCmd{}, map[int]*redis.DurationCmd{}
	commands := func(p redis.Pipeliner) error {
		for i, row := range rows {
			if row.Record.Claim.Unresolved() {
				lock := in.names.Grant(row.Key).Lock()
				holders[i], left[i] = p.GetRange(ctx, lock, 0, 255), p.PTTL(ctx, lock)
			}
		}
		return nil
	}
	_, _ = node.Pipelined(ctx, commands)
	for i, holder := range holders {
		rows[i].Lease = leaseOf(holder.Val(), left[i].Val())
	}
}
