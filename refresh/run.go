package refresh

import (
	"context"

	"github.com/tokenlatch/tokenlatch/refresh/internal/renew"
)

// Run renews the app's grants in the background until ctx ends, and then returns nil. Close
// finishes the renewals that are under way. Any number of processes may call Run, or none: one
// of them renews each grant that is due, in the same way as Token does.
//
// Run renews a grant in use (see Config.IdleAfter) before its access token expires. It refreshes
// an idle grant only as often as keeps its refresh token alive: when 5 to 8 percent of that
// token's life are left, or every two weeks if nobody knows how long it lives. If a refresh token
// ends at a fixed date (Profile.RefreshTokenLife), Run leaves the grant alone while it is idle. A
// reauth_due event announces that date two weeks ahead, or after three quarters of a shorter life.
//
// Run tries a grant that died by invalid_grant again 1 minute later, and then 10 minutes, 1, 6
// and 24 hours after the try before. Grants that live go first. A pair makes the grant active
// again, with the event [EventRefreshed].
//
// While Run runs, `tokenlatch apps` counts this process among those that renew the app's grants.
//
// If a process dies during a renewal, another one renews that grant about a minute later. If the
// due sets have lost a grant, a process finds it within about an hour.
func (c *Coordinator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.work.Waiting, cancel)()
	ended := make(chan struct{})
	err := c.work.Begin(func() {
		defer close(ended)
		defer c.app.Renewing()()
		renew.New(renew.Config{Flights: c.flights, ReportApp: c.events.reportApp, ReportLast: c.events.reportLast}).Until(ctx)
	})
	if err != nil {
		return err
	}
	<-ended
	return nil
}
