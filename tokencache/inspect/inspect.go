package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Config of an Inspector. The zero value works.
type Config struct {
	// Prefix of all keys. Default "tl".
	Prefix string
	// Timeout is how long Redis may take for one request. A List makes many. Default 5 s.
	Timeout time.Duration
}

// Inspector reads grants. It is safe for concurrent use, and has nothing to close.
type Inspector struct {
	db      *store.Store
	names   store.Names
	timeout time.Duration
}

// New returns an Inspector on rdb. It does not talk to Redis yet.
func New(rdb redis.UniversalClient, cfg Config) (*Inspector, error) {
	if rdb == nil {
		return nil, errors.New("inspect: New needs a Redis client")
	}
	prefix := cmp.Or(cfg.Prefix, grant.DefaultPrefix)
	if err := grant.ValidPrefix(prefix); err != nil {
		return nil, err
	}
	if _, ring := rdb.(*redis.Ring); ring {
		return nil, errors.New("inspect: grants do not lie on a redis.Ring: use a Client, a FailoverClient or a ClusterClient")
	}
	names := store.Names(prefix)
	return &Inspector{store.New(rdb, names, zerolog.Nop()), names, cmp.Or(cfg.Timeout, 5*time.Second)}, nil
}

// Row is one grant as Redis has it.
type Row struct {
	grant.Key
	// Record is what is stored, without any token.
	Record grant.Record
	// Now is Redis' time, unix ms.
	Now int64
	// Lease tells whether a process has the grant's lease. List asks only where a claim is unresolved.
	Lease Lease
	// Err says that the record cannot be true (grant.ErrDamaged), or that a later version wrote it
	// (grant.ErrNewer). Record has what could be read then.
	Err error
}

// Status is the row for people.
func (r *Row) Status() grant.Status { return r.Key.Status(&r.Record, r.Now) }

// Lease is a grant's lease.
type Lease struct {
	By   string        // the holder's name; "" for no holder
	Left time.Duration // until it ends, unless it is extended
}

// nonceLen is the length of what follows the holder's name in the lock's value.
const nonceLen = 26

func leaseOf(value string, left time.Duration) Lease {
	if value == "" {
		return Lease{}
	}
	by := strings.TrimSuffix(value[:max(0, len(value)-nonceLen)], "/")
	return Lease{By: cmp.Or(by, "unknown"), Left: max(0, left)}
}

// Grant reads one grant, and its lease. The error is grant.ErrNone where there is none; the row has Redis'
// time then.
func (in *Inspector) Grant(ctx context.Context, k grant.Key) (Row, error) {
	if err := k.Validate(); err != nil {
		return Row{}, err
	}
	ks := in.names.Grant(k)
	row, err := store.Bounded(ctx, in.timeout, func(ctx context.Context) (Row, error) {
		var fields *redis.MapStringStringCmd
		var holder *redis.StringCmd
		var left *redis.DurationCmd
		now, err := in.db.Together(ctx, ks.Grant(), true, func(p redis.Pipeliner) {
			fields, holder, left = p.HGetAll(ctx, ks.Grant()), p.GetRange(ctx, ks.Lock(), 0, 255), p.PTTL(ctx, ks.Lock())
		})
		if err != nil {
			return Row{}, err
		}
		row := rowOf(k, fields, now)
		row.Lease = leaseOf(holder.Val(), left.Val())
		return row, nil
	})
	switch {
	case err != nil:
		return Row{}, fmt.Errorf("tokencache: read %s: %w", k, said(err))
	case row.Err == nil && row.Record.State == "":
		return Row{Key: k, Now: row.Now}, grant.ErrNone
	}
	return row, nil
}

// Status reads one grant's state. The error is grant.ErrNone where there is none, and grant.ErrDamaged
// or grant.ErrNewer where it cannot be read.
func (in *Inspector) Status(ctx context.Context, k grant.Key) (grant.Status, error) {
	row, err := in.Grant(ctx, k)
	if err = cmp.Or(err, row.Err); err != nil {
		return grant.Status{}, err
	}
	return row.Status(), nil
}

// rowOf reads a record as HGETALL has answered.
func rowOf(k grant.Key, fields *redis.MapStringStringCmd, now int64) Row {
	row := Row{Key: k, Now: now}
	if redis.HasErrorPrefix(fields.Err(), "WRONGTYPE") {
		row.Err = fmt.Errorf("%w (the key is no HASH)", grant.ErrDamaged)
		return row
	}
	for name, value := range fields.Val() {
		if err := row.Record.Set(name, value); err != nil {
			row.Err = err
		}
	}
	if row.Err == nil && len(fields.Val()) > 0 {
		row.Err = row.Record.Check(now)
	}
	return row
}

// App reads an app's own state: circuit, pauses, what was lost. The error is grant.ErrNone where
// Redis has none, as before an app's first exchange.
func (in *Inspector) App(ctx context.Context, app string) (*engine.AppState, error) {
	key := in.names.App(app).State()
	s, err := store.Bounded(ctx, in.timeout, func(ctx context.Context) (*engine.AppState, error) {
		var fields *redis.MapStringStringCmd
		now, err := in.db.Together(ctx, key, true, func(p redis.Pipeliner) { fields = p.HGetAll(ctx, key) })
		switch {
		case err != nil:
			return nil, err
		case fields.Err() != nil:
			return nil, fmt.Errorf("%w (%s is no HASH)", grant.ErrDamaged, key)
		case len(fields.Val()) == 0:
			return nil, grant.ErrNone
		}
		s := &engine.AppState{App: app}
		s.Read(fields.Val(), now)
		return s, nil
	})
	if err != nil && !errors.Is(err, grant.ErrNone) {
		err = fmt.Errorf("tokencache: state of app %s: %w", app, said(err))
	}
	return s, err
}

// Listeners returns how many processes listen to a grant's changes.
func (in *Inspector) Listeners(ctx context.Context, k grant.Key) (int64, error) {
	n, err := subscribers(ctx, in, in.names.Grant(k).Events())
	if err != nil {
		return 0, fmt.Errorf("tokencache: listeners of %s: %w", k, said(err))
	}
	return n, nil
}

// Renewers returns how many processes call Run for an app, as far as they are connected just now. Of processes
// before this version it does not know.
func (in *Inspector) Renewers(ctx context.Context, app string) (int64, error) {
	n, err := subscribers(ctx, in, in.names.Runs()+grant.Escape(app))
	if err != nil {
		return 0, fmt.Errorf("tokencache: who renews app %s: %w", app, said(err))
	}
	return n, nil
}

// subscribers are how many clients listen to a channel.
func subscribers(ctx context.Context, in *Inspector, channel string) (int64, error) {
	return store.Bounded(ctx, in.timeout, func(ctx context.Context) (sum int64, err error) {
		nodes, err := in.nodes(ctx)
		for _, node := range nodes {
			some, failed := node.PubSubNumSub(ctx, channel).Result()
			sum, err = sum+some[channel], cmp.Or(err, failed)
		}
		return sum, err
	})
}

// nodes are the Redis that have grants. One that is silent may be asked which there are: another one is asked
// after a second then.
func (in *Inspector) nodes(ctx context.Context) (nodes []redis.Cmdable, err error) {
	for _, node := range in.db.Masters(ctx) {
		nodes = append(nodes, node)
	}
	if len(nodes) == 0 {
		return in.db.Nodes(ctx)
	}
	return silentLast(ctx, nodes), nil
}

// silentLast puts the nodes that do not answer behind the others: what those have is shown at once, and before
// the Cluster counts as down because of the silent one.
func silentLast(ctx context.Context, nodes []redis.Cmdable) []redis.Cmdable {
	silent := make([]bool, len(nodes))
	var asked sync.WaitGroup
	for i, node := range nodes {
		asked.Go(func() {
			_, err := store.Bounded(ctx, store.NodePatience, func(ctx context.Context) (string, error) { return node.Ping(ctx).Result() })
			silent[i] = err != nil
		})
	}
	asked.Wait()
	var speaking, rest []redis.Cmdable
	for i, node := range nodes {
		if silent[i] {
			rest = append(rest, node)
		} else {
			speaking = append(speaking, node)
		}
	}
	return append(speaking, rest...)
}

// said adds to an error of Redis what an operator must mend, if it says so.
func said(err error) error {
	if unfit := store.Unfit(err); unfit != nil {
		return unfit
	}
	return err
}
