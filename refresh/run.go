package refresh

import (
	"context"

	"github.com/tokenlatch/tokenlatch/refresh/internal/renew"
)

// Run renews the app's grants in the background until ctx ends, and returns nil then; the
// renewals under way are finished by Close. Any number of processes may run it, none has to:
// each grant that is due is renewed by one of them, in the same way as by Token.
//
// A grant in use (see Config.IdleAfter) is renewed before its access token expires. An idle
// one is refreshed only as often as keeps its refresh token alive: 5 to 8 percent of its
// life before that ends, or every two weeks where nobody knows. One whose refresh token ends
// at a fixed date (Profile.RefreshTokenLife) is left alone while idle, and a reauth_due event
// says so two weeks ahead, or after three quarters of a shorter life.
//
// A grant that died by invalid_grant is tried again 1 minute later, and 10 minutes, 1, 6 and 24 hours after
// the try before, behind all that live: a pair makes it active, which is told as [EventRefreshed].
//
// Who dies over a renewal is replaced: a grant that was taken comes back by itself. One that
// the due sets have lost is found within about an hour.
func (c *Coordinator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.work.Waiting, cancel)()
	ended := make(chan struct{})
	err := c.work.Begin(func() {
		defer close(ended)
		renew.New(renew.Config{Flights: c.flights, ReportApp: c.events.reportApp, ReportLast: c.events.reportLast}).Until(ctx)
	})
	if err != nil {
		return err
	}
	<-ended
	return nil
}
