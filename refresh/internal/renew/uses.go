package renew

import (
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/internal/flight"
	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
)

// storm is how long a process at whose start tokens had expired does nothing but refresh them.
const storm = 3 * time.Second

// NoteUses notes which grants are in use, until the coordinator closes: what a process that uses tokens does besides.
func NoteUses(f *flight.Flights) {
	coarse := policy.Coarseness(f.Rules.IdleAfter)
	ctx := f.Work.Waiting
	work.Pause(ctx, storm, f.Served) // what follows can wait until a process has done what it was started in the midst of
	_ = f.App.WatchApp(ctx)          // or the first exchange would have to ask
	_ = f.Judge.Fit(ctx, "any")      // says it in the log, before a token expires
	var failing lasting
	for {
		work.Pause(ctx, min(coarse, time.Minute), nil)
		if ctx.Err() != nil {
			return
		}
		if err := f.App.Touch(ctx, coarse); ctx.Err() == nil {
			failing.note(f, err, "which grants are in use was not noted: trying again")
		}
	}
}
