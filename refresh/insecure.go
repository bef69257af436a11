package refresh

import (
	"sync/atomic"
	"time"
)

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

// lately returns why a tenant's request was not sent in the last hour; nil for none that was the last.
func (l *lastInsecure) lately(tenant string) error {
	if i := l.what.Load(); i != nil && i.tenant == tenant && time.Since(i.at) < time.Hour {
		return i.err
	}
	return nil
}
