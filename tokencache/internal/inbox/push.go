package inbox

import (
	"context"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/memory"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// Receive takes a message from the subscriber connection. An empty payload means that the channel
// is newly subscribed: callers that wait must read again.
func (c *Inbox) Receive(channel, payload string) {
	if payload == "" {
		c.believe(channel, "")
	} else if body, ok := c.proof.Proven(channel, payload); ok && !c.proof.Stale(channel, body) {
		c.believe(channel, body)
	} else {
		c.proof.Doubt(channel, payload)
		c.hub.Nudge()
	}
}

// believe takes a message whose sender may read the grants into memory.
func (c *Inbox) believe(channel, payload string) {
	at := mono.Now()
	if c.apps.ReceiveState(channel, payload, at) || c.apps.ReceiveChange(channel, payload) {
		return
	}
	k, ok := c.names.GrantOf(channel)
	if !ok {
		return
	}
	e, ok := c.mem.Entry(k)
	if !ok {
		return
	}
	if payload == "" {
		e.NoteSubscription()
		return
	}
	ev, err := grant.ParseEvent(payload)
	if err != nil {
		c.log.Warn().Err(err).Str("channel", channel).Msg("event not understood: reading the grant again")
		e.Invalidate()
		return
	}
	if ev.Kind == grant.KindAlive {
		e.ApplyLease(ev, at, c.clock.Arrived(at, ev.Now)-ev.Now)
		return
	}
	if ev.Kind == grant.KindAsk {
		if ev.Record.By == c.id {
			return // its own question: what is known here is no news
		}
		e.SayAtIt()
		if s := e.Recall().Sure(); s != nil && (s.Epoch != ev.Record.Epoch || s.Compare(&ev.Record) > 0) {
			c.answerAsk(e)
		}
		return
	}
	c.ApplyEvent(e, ev, at)
}

// ApplyEvent makes a snapshot of an event. The pair is the one that memory has of the same
// generation, or comes with it; else the grant must be read.
func (c *Inbox) ApplyEvent(e *memory.Entry, ev grant.Event, at mono.Time) {
	doubt := c.clock.Doubt() // before it can have become less
	s, session := memory.NewDraft(e.Key, c.clock.Arrived(at, ev.Now), at), c.hub.SessionOf(e.Channel)
	s.Doubt(doubt)
	c.db.Watchers.Pushed(s.Now() - ev.Now)
	s.Record = ev.Record
	s.AgeBy(c.clock.Behind(&s.Record, s.Now()))
	s.MarkHeard(nil)
	old := e.Recall()
	if old != nil && old.Compare(&ev.Record) > 0 && (ev.Kind == "restore" || ev.Now > old.At()) {
		c.answerAsk(e) // news of an older state: Redis has lost what we know
		return
	}
	known := old != nil && !old.Pending && old.Epoch == s.Epoch && old.Generation == s.Generation &&
		old.AccessFP == s.AccessFP && old.RefreshFP == s.RefreshFP
	if old == nil {
		session = 0 // the first look at a grant is a read: what is repeated to a process that knows nothing would be all it knows
	}
	switch {
	case known && old.Pair.AccessToken.Reveal() != "": // as for the holder itself
		s.Pair = old.Pair
		s.MarkHeard(old.Sure())
	case ev.Sealed != "":
		if s.Pair, s.Err = c.sealer.Open(s.Key, s.Epoch, s.Generation, []byte(ev.Sealed)); s.Err == nil {
			s.MarkMade()
		}
	case known:
		s.Err = old.Err
	case s.State != grant.Disconnected:
		session = 0 // known to have changed, but to be read
	}
	s.From(e, session)
	c.mem.Adopt(s.Finish())
}

// Weigh looks again, at most once a second, at what unproven messages were about. It is called
// every second, and when the first such message has come.
func (c *Inbox) Weigh(ctx context.Context) {
	hints := c.proof.Take()
	if len(hints) > 0 {
		c.proof.SayUnproven(len(hints))
	}
	if len(hints) == 0 && !c.proof.Late() {
		return
	}
	if len(hints) > 0 {
		c.proof.DoubtTime()
	}
	c.lookAtServer(ctx)
	lost, err := c.Identify(ctx)
	if err == nil { // else Redis is away, of which the heartbeat tells
		if lost {
			err = c.rescue(ctx)
		} else {
			err = c.giveRests(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.log.Warn().Err(err).Msg("Redis has lost its data, and does not take back all that this process remembers: trying again in a few seconds")
		}
	}
	for channel, payload := range hints {
		c.invalidate(channel)
		// The key may have been made anew by a process that asks for what this one remembers.
		if body, ok := c.proof.Proven(channel, payload); ok && !c.proof.Stale(channel, body) {
			c.believe(channel, body)
		}
	}
}

// invalidate makes what memory holds of a channel's grant or app incoherent, until it is read again.
func (c *Inbox) invalidate(channel string) {
	if name, ok := c.names.IsApp(channel); ok {
		if a, ok := c.apps.Known(grant.Unescape(name)); ok {
			a.Invalidate()
		}
		return
	}
	if k, ok := c.names.GrantOf(channel); ok {
		if e, ok := c.mem.Entry(k); ok {
			e.Invalidate()
		}
	}
}
