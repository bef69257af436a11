package memory

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/clock"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/hub"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// Entry is a hot grant: its newest snapshot in this process, and who waits for a
// newer one.
type Entry struct {
	snap  atomic.Pointer[Snapshot] // first: with asked all that a reader touches
	asked atomic.Int64             // tick at which a caller last had the token

	used    atomic.Int64 // tick of the last look at it otherwise; both for eviction
	touched atomic.Int64 // when Redis was last told that it is asked for
	Key     grant.Key
	Channel string       // of its events
	pins    atomic.Int32 // changed under mu only
	slot    int          // in the ring, guarded by its lock

	mu         sync.Mutex // guards what follows, and the order in which snap advances
	listed     bool       // in hub and ring
	absent     uint64     // session in which Redis was found to have no such grant; 0 none
	absentAt   mono.Time
	evicted    bool
	changed    chan struct{} // closed on every news
	leaseFor   mono.Time     // somebody holds the lease until then, as far as was heard
	leaseNews  uint64        // how often holders have told how long
	leaseSaid  int64         // Redis' clock when the last of them did
	answering  bool          // what is remembered is being given back to Redis
	answeredAt mono.Time     // when it was last
	atIt       *func()       // says that this process's exchange is still under way; nil for none

	contradicted    mono.Time // since when Redis knows nothing of the state of that revision, which was heard of
	contradictedRev int64
}

// mark notes a tick, once: readers on many cores must not fight for the line.
func mark(last *atomic.Int64, tick mono.Time) {
	if last.Load() != int64(tick) {
		last.Store(int64(tick))
	}
}

// coherent is the entry's snapshot if it is coherent, and the hub's latest tick.
func (e *Entry) coherent(h *hub.Hub) (*Snapshot, mono.Time) {
	s := e.snap.Load()
	if s == nil || s.session != h.Session() { // never equal for session 0, or while there is no connection
		return nil, 0
	}
	return s, h.Tick()
}

// fresh is the token of a coherent snapshot that is neither due nor expired. Reading the
// clock would cost more than all the rest.
func (e *Entry) fresh(h *hub.Hub) *oauth2.Token {
	s, tick := e.coherent(h)
	if s == nil || tick >= s.calm && !s.Fresh() {
		return nil
	}
	mark(&e.asked, tick)
	return *s.token
}

// news wakes everybody who waits. Called with mu held.
func (e *Entry) news() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// Invalidate makes memory incoherent until it is read again.
func (e *Entry) Invalidate() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.markStale()
	e.news()
}

// markStale makes memory incoherent. Called with mu held.
func (e *Entry) markStale() {
	if old := e.snap.Load(); old != nil {
		s := *old
		s.session = 0
		e.snap.Store(&s)
	}
}

// adopt is [Memory.Adopt].
func (e *Entry) adopt(s *Snapshot) *Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.evicted { // since the look-up: a Handle may still look at it
		return s
	}
	if s.home != e { // dropped and hot again since: news may have been missed in between
		own := *s // which others may be reading
		own.session, own.home = 0, e
		s = &own
	}
	old := e.snap.Load()
	if old != nil {
		own := *s // which others may be reading
		own.keepDates(old)
		s = &own
	}
	if old != nil && s.heard && !old.heard && s.Compare(&old.Record) == 0 {
		s.heard, s.solid = false, nil // the push of what was read or made before it came
	}
	if s.supersedes(old) {
		if !s.Claim.Unresolved() {
			e.leaseFor = 0 // the holder is done
		}
		e.snap.Store(s)
		e.news()
		return s
	}
	if s.Compare(&old.Record) == 0 && s.better(old) {
		if s.RefreshFP == old.RefreshFP {
			s.knownAt = old.knownAt // it was known before: the push of one's own change comes late
		}
		e.snap.Store(s)
		return s
	}
	if s.Compare(&old.Record) == 0 && s.UsedAt > old.UsedAt { // no state change, hence never pushed
		used := *old
		used.UsedAt = s.UsedAt
		e.snap.Store(&used)
		return &used
	}
	return old
}

// better says which of two snapshots of one state to keep: one that was read on a newer
// connection is coherent once more, one with the pair is whole, and one with a smaller
// clock offset knows better what time it is in Redis.
func (s *Snapshot) better(old *Snapshot) bool {
	switch {
	case s.Incomplete() || s.session < old.session:
		return false
	case old.heard && !s.heard:
		return true
	case s.RefreshFP != old.RefreshFP:
		// Two pairs share a state after lost writes: Redis' is the one. What is known of its time may be
		// ahead by a round trip.
		return s.now >= old.now-20
	case s.session > old.session || old.Incomplete():
		return true
	default:
		return s.ahead() < old.ahead()
	}
}

// Recall returns what memory holds, coherent or not; nil for nothing.
func (e *Entry) Recall() *Snapshot { return e.snap.Load() }

// NoteSubscription notes that the grant's subscription is new, and wakes callers that wait: they must read again.
func (e *Entry) NoteSubscription() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leaseFor = 0 // its release may have been missed
	e.leaseNews++
	e.news()
}

// ApplyLease takes what a holder says of its lease; it said so `age` ms ago. What was said before
// what is known already is a repeat, or late: it wakes nobody.
func (e *Entry) ApplyLease(ev grant.Event, at mono.Time, age int64) {
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

// SayAtIt has this process's exchange of the grant, if one is under way, say so: another process asks.
func (e *Entry) SayAtIt() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.atIt != nil {
		(*e.atIt)()
	}
}

// AnswerEvery is how often a process answers those who ask about one grant.
const AnswerEvery = time.Second

// Answer reports whether this process may answer those who ask about the grant: once at a time, and once a
// second. The caller that may calls done when it has.
func (e *Entry) Answer() (done func(), ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := mono.Now(); e.answering || e.answeredAt != 0 && now-e.answeredAt < AnswerEvery {
		return nil, false
	}
	e.answering = true
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.answering, e.answeredAt = false, mono.Now()
	}, true
}

// Answers reports whether this process has answered those who ask about the grant, or does so just now.
func (e *Entry) Answers() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.answering || e.answeredAt != 0
}

// BelievedFor is how long a state that was only heard of stands against a Redis that knows nothing
// of it: a process that made it, or has its pair, gives it back in that time.
const BelievedFor = 5 * time.Second

// Contradict is for a newer state in memory that was only heard of, and that Redis, asked at `sent`, knew nothing
// of: found is what it had, nil for nothing. kept is the state in memory while it counts; first says that
// it was not contradicted before. Later Redis' word counts: then kept is nil, and s is that.
func (e *Entry) Contradict(found *Draft, sent mono.Time) (s, kept *Snapshot, first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	mem := e.snap.Load()
	if mem == nil || !mem.heard || !mem.KnownBefore(sent) {
		return found.orNone(), nil, false
	}
	now := mono.Now()
	if first = e.contradicted == 0 || e.contradictedRev != mem.Rev; first {
		e.contradicted, e.contradictedRev = now, mem.Rev
	}
	if now-e.contradicted < BelievedFor {
		return nil, mem, first
	}
	e.contradicted = 0
	if found != nil && found.home != e {
		found.From(e, 0)
	}
	s = found.orNone()
	e.snap.Store(s)
	e.news()
	return s, nil, first
}

// orNone is the finished snapshot; nil of no draft.
func (d *Draft) orNone() *Snapshot {
	if d == nil {
		return nil
	}
	return d.Finish()
}
