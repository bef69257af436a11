package engine

import (
	"context"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// receive takes a message from the subscriber connection. An empty payload means that the channel
// is newly subscribed: callers that wait must read again.
func (c *Cache) receive(channel, payload string) {
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
func (c *Cache) believe(channel, payload string) {
	at := mono.Now()
	if c.receiveApp(channel, payload, at) || c.receiveChange(channel, payload) {
		return
	}
	k, ok := c.names.GrantOf(channel)
	if !ok {
		return
	}
	e, ok := c.hot.load(k)
	if !ok {
		return
	}
	if payload == "" {
		e.mu.Lock()
		e.leaseFor = 0 // its release may have been missed
		e.leaseNews++
		e.news()
		e.mu.Unlock()
		return
	}
	ev, err := grant.ParseEvent(payload)
	if err != nil {
		c.log.Warn().Err(err).Str("channel", channel).Msg("event not understood: reading the grant again")
		e.invalidate()
		return
	}
	if ev.Kind == grant.KindAlive {
		e.applyLease(ev, at, c.clock.Arrived(at, ev.Now)-ev.Now)
		return
	}
	if ev.Kind == grant.KindAsk {
		if ev.Record.By == c.id {
			return // its own question: what is known here is no news
		}
		e.mu.Lock()
		if e.atIt != nil {
			(*e.atIt)()
		}
		e.mu.Unlock()
		if s := e.snap.Load().sure(); s != nil && (s.Epoch != ev.Record.Epoch || s.Compare(&ev.Record) > 0) {
			c.answerAsk(e)
		}
		return
	}
	c.applyEvent(e, ev, at)
}

// applyLease takes what a holder says of its lease; it said so `age` ms ago. What was said before
// what is known already is a repeat, or late: it wakes nobody.
func (e *entry) applyLease(ev grant.Event, at mono.Time, age int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	until := max(at, at+ev.Lease-clock.Span(age))
	early := ev.Now < e.leaseSaid && e.leaseSaid-ev.Now < clock.BelievedWithin.Milliseconds() // else Redis' clock was set back
	if early || ev.Now == e.leaseSaid && until >= e.leaseFor {
		return
	}
	e.leaseFor, e.leaseSaid = until, ev.Now
	e.leaseNews++
	e.news()
}

// applyEvent makes a snapshot of an event. The pair is the one that memory has of the same
// generation, or comes with it; else the grant must be read.
func (c *Cache) applyEvent(e *entry, ev grant.Event, at mono.Time) {
	s := &Snapshot{
		Key: e.key, Record: ev.Record, home: e, heard: true,
		now: c.clock.Arrived(at, ev.Now), at: at, session: c.hub.SessionOf(e.channel),
	}
	s.behind = c.clock.Behind(&s.Record, s.now)
	old := e.snap.Load()
	if old != nil && old.Compare(&ev.Record) > 0 && (ev.Kind == "restore" || ev.Now > old.now) {
		c.answerAsk(e) // news of an older state: Redis has lost what we know
		return
	}
	known := old != nil && !old.Pending && old.Epoch == s.Epoch && old.Generation == s.Generation &&
		old.AccessFP == s.AccessFP && old.RefreshFP == s.RefreshFP
	if old == nil {
		s.session = 0 // the first look at a grant is a read: what is repeated to a process that knows nothing would be all it knows
	}
	switch {
	case known && old.Pair.AccessToken.Reveal() != "": // as for the holder itself
		s.Pair, s.solid = old.Pair, old.sure()
	case ev.Sealed != "":
		s.Pair, s.Err = c.sealer.Open(s.Key, s.Epoch, s.Generation, []byte(ev.Sealed))
		s.heard = s.Err != nil
	case known:
		s.Err = old.Err
	case s.State != grant.Disconnected:
		s.session = 0 // known to have changed, but to be read
	}
	c.adopt(s.finish())
}

// UnprovenMessages counts the messages on this process's channels whose sender has not proven that
// it may read the grants. They are not believed.
func (c *Cache) UnprovenMessages() int64 { return c.proof.Count() }

// weigh looks again, at most once a second, at what unproven messages were about. It is called
// every second, and when the first such message has come.
func (c *Cache) weigh(ctx context.Context) {
	hints := c.proof.Take()
	if len(hints) > 0 {
		c.proof.SayUnproven(len(hints))
	}
	if len(hints) == 0 && !c.proof.Late() {
		return
	}
	var lost bool
	var err error
	if !c.calm(ctx, 8) || len(hints) > 0 {
		lost, err = c.identify(ctx)
	}
	switch {
	case err == nil && lost:
		err = c.rescue(ctx)
	case err == nil:
		err = c.giveRests(ctx)
	}
	if err != nil && ctx.Err() == nil {
		c.log.Warn().Err(err).Msg("Redis has lost its data, or may have: looking again in a few seconds")
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
func (c *Cache) invalidate(channel string) {
	if name, ok := c.names.IsApp(channel); ok {
		if a, ok := c.apps.Load(grant.Unescape(name)); ok {
			a.invalidate()
		}
		return
	}
	if k, ok := c.names.GrantOf(channel); ok {
		if e, ok := c.hot.load(k); ok {
			e.invalidate()
		}
	}
}

// invalidateAll is suspect for everything: messages were missed.
func (c *Cache) invalidateAll() {
	for e := range c.hot.all() {
		e.invalidate()
	}
	for _, a := range c.apps.All() {
		a.invalidate()
	}
}
