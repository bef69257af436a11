package renew

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"
)

const (
	// repairEvery is how often one process of the fleet puts back what the due sets lost.
	repairEvery = time.Hour
	repairPause = 20 * time.Millisecond
)

// repairs puts back what the due sets have lost; one process at a time.
func (r *Run) repairs(ctx context.Context) {
	var failing lasting
	for forced := false; ctx.Err() == nil; {
		err := r.repair(ctx, forced)
		if ctx.Err() == nil {
			failing.note(r.Flights, err, "looking for grants that no due set knows failed in part: trying again later")
		}
		timer := time.NewTimer(repairEvery/16 + rand.N(repairEvery/16))
		select {
		case <-timer.C:
			forced = false
		case <-r.mended:
			forced = true
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// repair is one look, if it is this process's turn or something was lost just now. Where the turn's own
// node is away, every process looks by itself.
func (r *Run) repair(ctx context.Context, forced bool) error {
	turn, unknown := forced, error(nil)
	if !forced {
		turn, unknown = r.Flights.App.TakeTurn(ctx, "repair", repairEvery)
	}
	if unknown != nil && time.Since(r.repaired) < repairEvery || unknown == nil && !turn {
		return unknown
	}
	r.repaired = time.Now()
	missing, err := r.Flights.App.Repair(ctx, repairPause)
	if missing > 0 {
		r.Flights.Log.Info().Int("grants", missing).Msg("grants that no due set knew: scheduled again")
		r.lookSooner()
	}
	if err != nil && turn {
		_ = r.Flights.App.ShortenTurn(ctx, "repair", repairEvery/16)
	}
	return cmp.Or(unknown, err)
}
