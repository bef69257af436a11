package holder

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// maxRefusals bounds how many tenants whose first mint failed are remembered.
const maxRefusals = 1024

// refusals are the first mints that failed in this process. There is no grant yet that could keep
// that, and names may be chosen by anybody who sends requests: without them each call would be a POST.
type refusals struct {
	mu  sync.Mutex // guards all
	all map[string]refusal
}

type refusal struct {
	fails int64
	until time.Time // nobody tries again before
	err   policy.Trouble
}

// standing is the trouble of a tenant whose time has not come yet; nil if it may be tried.
func (r *refusals) standing(tenant string) *policy.Trouble {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.all[tenant]
	left := time.Until(last.until)
	if !ok || left <= 0 {
		return nil
	}
	e := last.err
	e.Retry = left
	return &e
}

// note remembers a failure and returns the trouble that it is.
func (r *refusals) note(tenant string, failed *provider.Error) *policy.Trouble {
	r.mu.Lock()
	defer r.mu.Unlock()
	fails := r.all[tenant].fails + 1
	wait := policy.RetryIn(fails, failed, rand.Float64())
	e := policy.Trouble{Who: policy.WhoOf(failed.Class), Code: failed.Code, Status: failed.Status, Retry: wait, Why: failed}
	if r.all == nil {
		r.all = make(map[string]refusal)
	}
	if _, known := r.all[tenant]; !known && len(r.all) >= maxRefusals {
		r.makeRoom()
	}
	r.all[tenant] = refusal{fails, time.Now().Add(wait), e}
	return &e
}

// makeRoom drops the one that may be tried first. Called with mu held.
func (r *refusals) makeRoom() {
	first := ""
	for tenant, one := range r.all {
		if first == "" || one.until.Before(r.all[first].until) {
			first = tenant
		}
	}
	delete(r.all, first)
}

func (r *refusals) forget(tenant string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, tenant)
}
