package renew

import (
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

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
