package apps

import (
	"context"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// SayLost says in the app's state, for the fleet, that Redis has lost the data which it had with the birth mark
// was. It returns since when.
func (a *Place) SayLost(ctx context.Context, by, was, now string) (lostAt int64, err error) {
	_, _, s, err := a.change(ctx, dataLost, store.AppLostScript, "", store.NewID(), grant.Clip(by), was, now)
	if err != nil {
		return 0, err
	}
	return s.LostAt, nil
}

// LookForLoss reads the app's state, and tells of it if another process has said that Redis has lost the app's
// data while this one had no subscriber connection.
func (a *Place) LookForLoss(ctx context.Context) {
	before := a.state.Load()
	a.Invalidate()
	s, err := a.State(ctx) // sets off that this process gives back what it remembers
	if err == nil && before == nil && s.lostSince(nil) {
		a.told.notify(StateChange{dataLost, s})
	}
}

// NoteGiven notes that this process has given back all that it remembered when Redis lost the app's data.
func (a *Place) NoteGiven(lostAt int64) { a.given.Store(lostAt) }

// Owes reports whether Redis has lost the app's data, as far as is known, and this process has not given back
// all that it remembers.
func (a *Place) Owes() bool { return a.owes(a.state.Load()) }

func (a *Place) owes(s *State) bool { return s != nil && s.LostAt != 0 && s.LostAt != a.given.Load() }

// GiveRest has give called if this process owes what it remembers, unless it is being called just now.
func (a *Place) GiveRest(give func() error) error {
	s := a.state.Load()
	if !a.owes(s) || !a.giving.CompareAndSwap(false, true) {
		return nil
	}
	defer a.giving.Store(false)
	err := give()
	if err == nil {
		a.given.Store(s.LostAt)
	}
	return err
}
