package refresh

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// tally is how the last exchanges of this process ended: whether the provider fails for all.
type tally struct {
	mu   sync.Mutex // guards what follows
	ends [256]end
	n    int
}

type end struct {
	at     time.Time
	tenant string
	failed bool // by the provider's trouble, not the grant's
}

// note notes how an exchange of a tenant ended; failure is nil if it brought a pair.
func (t *tally) note(tenant string, failure *provider.Error) {
	failed := false
	if failure != nil {
		switch failure.Class {
		case provider.Ambiguous, provider.Unsent, provider.Throttled, provider.Busy:
			failed = true
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ends[t.n%len(t.ends)] = end{time.Now(), tenant, failed}
	t.n++
}

// talliedFor is how long an exchange says something about the provider.
const talliedFor = 5 * time.Minute

// share is how many exchanges there were of late, how many of them failed, of how many tenants, and how
// long ago the first of those was.
func (t *tally) share() (made, failed, tenants int, ago time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := map[string]bool{}
	for _, e := range t.ends[:min(t.n, len(t.ends))] {
		since := time.Since(e.at)
		if since > talliedFor {
			continue
		}
		if made++; e.failed {
			failed++
			seen[e.tenant] = true
			ago = max(ago, since)
		}
	}
	return made, failed, len(seen), ago
}

// lastInsecure is the last request that was not sent, since its URL is http.
type lastInsecure struct{ what atomic.Pointer[insecure] }

type insecure struct {
	tenant string
	err    error
	at     time.Time
}

func (l *lastInsecure) note(tenant string, err error) {
	l.what.Store(&insecure{tenant, err, time.Now()})
}

// lately is why a tenant's request was not sent in the last hour; nil for none that was the last.
func (l *lastInsecure) lately(tenant string) error {
	if i := l.what.Load(); i != nil && i.tenant == tenant && time.Since(i.at) < time.Hour {
		return i.err
	}
	return nil
}
