package flight

import (
	"context"
	"errors"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// subscribeWait is how long a first look waits for the subscription: a connection may have to be
// made, and one that is not to be had must not keep a valid token from its callers.
const subscribeWait = 250 * time.Millisecond

// subscribeFirst subscribes before the first look, where memory has room for the grant: read
// before, it would have to be read once more.
func (f *flight) subscribeFirst() {
	if !f.grant.HasRoom() {
		return
	}
	_ = f.App.PeekApp() // subscribes to its changes: the first SUBSCRIBE of a process names both
	f.pin = f.grant.Pin()
	ctx, cancel := context.WithTimeout(f.Work.Waiting, subscribeWait)
	defer cancel()
	_ = f.pin.Confirm(ctx)
}

// readFresh is the short cut to a fresh token that memory has no room for. The error is work.ErrAgain if
// there is none: the grant must be looked at.
func (f *flight) readFresh() (*engine.Snapshot, error) {
	if f.hasRead || f.want != (Want{}) || f.Work.Waiting.Err() != nil {
		return nil, work.ErrAgain
	}
	s, err := f.grant.ReadFresh(f.Work.Waiting)
	f.hasRead, f.brief = true, s != nil
	if s == nil && err == nil || errors.Is(err, engine.ErrContradicted) {
		return nil, work.ErrAgain
	}
	return s, err
}

// noteLook notes what the first look found, for those who do not wait for more.
func (f *flight) noteLook(s *engine.Snapshot, err error) {
	select {
	case <-f.looked:
	default:
		f.lookedAt, f.first, f.firstErr = time.Now(), s, err
		close(f.looked)
	}
}

// subscribe pins the grant and waits until this process hears of its changes.
func (f *flight) subscribe() error {
	if f.pin == nil {
		f.pin = f.grant.Pin()
	}
	return f.pin.Confirm(f.Work.Waiting)
}

// news is closed on the next news; nil while nothing would be heard.
func (f *flight) news() <-chan struct{} {
	if f.pin == nil {
		return nil
	}
	return f.pin.Changed()
}

func (f *flight) leaseHeld() time.Duration {
	if f.pin == nil {
		return 0
	}
	return f.pin.LeaseHeld()
}
