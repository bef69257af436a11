package flight

import (
	"context"
	"errors"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// join returns the grant's flight, a new one if there is none. The error is work.ErrClosed.
func (fl *Flights) join(ctx context.Context, k tokencache.Key, w Want) (*flight, error) {
	f, isNew, err := fl.board(ctx, k, w)
	if isNew {
		fl.Work.Go(f.run)
		fl.Work.Done()
	}
	return f, err
}

// joinAndWait is join for a caller that stays until the end: it has the short look itself. Most
// tokens that memory has no room for are had without a goroutine.
func (fl *Flights) joinAndWait(ctx context.Context, k tokencache.Key, w Want) (*flight, error) {
	f, isNew, err := fl.board(ctx, k, w)
	if !isNew {
		return f, err
	}
	defer fl.Work.Done()
	returned := false
	defer func() {
		if !returned { // an AEAD, or a hook of the Redis client, has panicked: nobody may wait for this flight
			f.land(nil, &policy.Trouble{Code: "panic", Why: errPanicked})
		}
	}()
	s, _ := f.readFresh()
	if returned = true; s != nil {
		f.land(s, nil)
	} else {
		fl.Work.Go(f.run)
	}
	return f, err
}

var errPanicked = errors.New("the goroutine that looked the grant up has panicked")

// board is join without a start of what is new; that has been added to work.
func (fl *Flights) board(ctx context.Context, k tokencache.Key, w Want) (f *flight, isNew bool, _ error) {
	if f, ok := fl.all.Load(k.Tenant); ok {
		f.noteWant(w)
		return f, false, nil
	}
	f = &flight{Flights: fl, key: k, grant: fl.App.Grant(k.Tenant), want: w, looked: make(chan struct{}), done: make(chan struct{})}
	f.callers.Want, f.callers.Background = w.Want, w.Background
	if fl.Observe != nil {
		f.callers.Ctx = context.WithoutCancel(ctx)
	}
	if err := fl.Work.Add(); err != nil {
		return nil, false, err
	}
	f, flies := fl.all.LoadOrStore(k.Tenant, f)
	f.noteWant(w)
	if flies {
		fl.Work.Done()
	} else {
		fl.Begun()
	}
	return f, !flies, nil
}

// Flies reports whether a flight about a tenant's grant is under way.
func (fl *Flights) Flies(tenant string) bool {
	_, ok := fl.all.Load(tenant)
	return ok
}

// noteWant notes what those who join it are like.
func (f *flight) noteWant(w Want) {
	if w.Background != nil {
		return
	}
	f.callers.Used.Store(true)
	if !w.Early {
		f.callers.Waited.Add(1)
		f.callers.Urgent.Store(true)
	}
}
