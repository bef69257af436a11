package refresh

import (
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// unopened are the keys that sealed pairs which this process could not open: it has another keyset
// than the process that stored them, and is not ready. What it cannot open it leaves to the others.
type unopened struct {
	mu   sync.Mutex // guards keys
	keys map[string]struct{}
}

// note notes the key by which a pair is sealed, and says in the log, once for each key, which process
// needs which keyset. It reports whether err is about such a pair.
func (c *Coordinator) noteUnopened(k tokencache.Key, err error) bool {
	by, ok := grant.SealedBy(err)
	if !ok {
		return false
	}
	c.unopened.mu.Lock()
	_, known := c.unopened.keys[by]
	if !known {
		if c.unopened.keys == nil {
			c.unopened.keys = make(map[string]struct{})
		}
		c.unopened.keys[by] = struct{}{}
	}
	c.unopened.mu.Unlock()
	if !known {
		c.log.Error().Str("process", c.locker.Name()).Str("sealed_with", by).Str("tenant", k.Tenant).
			Msg("this process is not ready: its keyset does not open what others have sealed, which it leaves to them; give it the keyset that has that key, and restart it")
	}
	return true
}

const (
	// leftFor is how long Run leaves a grant to others before it looks at it again.
	leftFor = 10 * time.Minute
	// mostLeft is how many of a shard that can be; beyond that the shard is left.
	mostLeft = 1000
	// leftEvery is how often Run looks behind what it leaves.
	leftEvery = 3 * time.Second
)

// leftAlone are the grants that a Run leaves to others, by shard, and until when.
type leftAlone struct {
	mu  sync.Mutex // guards all
	all [engine.DueShards]map[string]time.Time
}

func (l *leftAlone) add(shard int, tenant string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[shard] == nil {
		l.all[shard] = make(map[string]time.Time)
	}
	l.all[shard][tenant] = time.Now().Add(leftFor)
}

func (l *leftAlone) of(shard int) (tenants []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for tenant, until := range l.all[shard] {
		if time.Now().After(until) {
			delete(l.all[shard], tenant)
			continue
		}
		tenants = append(tenants, tenant)
	}
	return tenants
}
