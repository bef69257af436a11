package integration

import (
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/explain"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// The fault matrix: a holder is caught at a point, under each replay mode, and
//
//   - killed; or
//   - stopped for two lease times, less than the claim's hard deadline; or
//   - stopped until others have done what they do after the hard deadline.
//
// Two other processes wait for a token meanwhile.
const (
	matrixLease    = 2 * time.Second
	matrixExchange = 6 * time.Second
	matrixClaim    = 8 * time.Second // > 2 leases + exchange margin
	matrixPatience = 2 * time.Second // the hard deadline is so much later: the holder may have the pair
	promise        = time.Second     // how much later than lease or deadline the next one may be there
)

// modes are the replay modes: what a second presentation does.
var modes = []struct {
	name    string
	profile provider.Profile
}{
	{"harmless", provider.Profile{Replay: provider.ReplayHarmless}},
	{"same_pair", provider.Profile{Replay: provider.ReplaySamePair}},
	{"grace", provider.Profile{Replay: provider.ReplayGrace, Grace: time.Minute}},
	{"dead", provider.Profile{Replay: provider.ReplayDead}},
	{"revokes_family", provider.Profile{Replay: provider.ReplayRevokesFamily}},
}

// when is the moment at which those who wait have their result.
type when uint8

const (
	push     when = iota // at once: the commit was pushed to them
	lease                // when the holder's lease has run out
	deadline             // after the claim's hard deadline
	resumed              // when the stopped holder has come back
)

// fate is what becomes of a cell.
type fate struct {
	waiters     when
	least, most int  // presentations of the one refresh token
	lost        bool // the waiters get reauthorize/lost_response: the recovery presentation was refused
	healed      bool // the holder that comes back makes the grant active again
	hollow      bool // what it brings was revoked by the recovery presentation
	spare       bool // the holder that comes back keeps its pair as spare
}

// row is a point's fates, one per mode in the order of modes.
type row [5]fate

func each(f fate) row { return row{f, f, f, f, f} }

// split has one fate where presenting again is safe (harmless, same pair, within the
// grace window), another where it is not (dead, revokes family).
func split(safe, strict fate) row { return row{safe, safe, safe, strict, strict} }

var (
	once      = fate{waiters: lease, least: 1, most: 1}
	taken     = fate{waiters: lease, least: 2, most: 2}
	recovered = fate{waiters: deadline, least: 1, most: 1}
	lost      = fate{waiters: deadline, least: 2, most: 2, lost: true}
	pushed    = fate{waiters: push, least: 1, most: 1}
	back      = fate{waiters: resumed, least: 1, most: 1}
	// kept: taken over, and the holder that comes back has another living pair.
	kept = fate{waiters: lease, least: 2, most: 2, spare: true}
	// perhaps: the holder that comes back presents if the push of the new pair has not
	// overtaken it, which is allowed where presenting again is safe.
	perhaps = fate{waiters: lease, least: 1, most: 2}
)

var killed = map[string]row{
	afterLease:  each(once),
	afterClaim:  split(once, recovered),
	afterSend:   split(taken, lost),
	afterAnswer: split(taken, lost),
	afterCommit: each(pushed),
}

var stoppedShort = map[string]row{
	afterLease:  each(once),
	afterClaim:  split(perhaps, back),
	afterSend:   {kept, taken, kept, back, back}, // same pair: nothing is left over
	afterAnswer: {kept, taken, kept, back, back},
	afterCommit: each(pushed),
}

// stoppedLong holds what differs when the holder is back only after the hard deadline.
var stoppedLong = map[string]row{
	afterClaim: split(once, recovered), // it knows that it is late, and presents no more
	afterAnswer: {kept, taken, kept,
		{waiters: deadline, least: 2, most: 2, lost: true, healed: true},
		{waiters: deadline, least: 2, most: 2, lost: true, healed: true, hollow: true}},
}

func TestEveryPointAtWhichAHolderCanBeCaught(t *testing.T) {
	t.Parallel()
	rs := redistest.Start(t)
	for _, fault := range []struct {
		name  string
		fates map[string]row
		do    func(*cell)
	}{
		{"kill", killed, (*cell).kill},
		{"stop", stoppedShort, (*cell).stop},
		{"stop past the deadline", stoppedLong, (*cell).stopLong},
	} {
		for point, fates := range fault.fates {
			for i, mode := range modes {
				t.Run(point+"/"+mode.name+"/"+fault.name, func(t *testing.T) {
					t.Parallel()
					c := catch(t, rs, point, mode.profile)
					c.fate = fates[i]
					fault.do(c)
				})
			}
		}
	}
}

const (
	tenant       = "acme"
	waitingEach  = 20
	waitingTotal = 2 * waitingEach
)

// cell is one case of the matrix: a holder that stands at its point, and two processes
// that wait.
type cell struct {
	*fleet
	fate    fate
	point   string
	holder  *process
	own     *sent // the holder's own callers
	others  []*process
	waiting []*sent
	gate    *refreshtest.Gate
	hard    time.Time // the claim's hard deadline; zero: no claim
	clock   *redistest.Stopwatch
}

func catch(t *testing.T, rs *redistest.Server, point string, p provider.Profile) *cell {
	c := &cell{point: point, fleet: newFleet(t, rs, refreshtest.Config{Profile: p}, func(s *setup) {
		s.Lease, s.Exchange, s.Claim, s.Patience = matrixLease, matrixExchange, matrixClaim, matrixPatience
	})}
	c.holder, c.others = c.worker(), c.workers(2)
	c.connect(tenant)
	sends := point != afterLease && point != afterClaim
	if sends {
		c.gate = c.server.Hold(refreshtest.BeforeCommit)
	}
	if point != afterSend {
		c.holder.arm(point)
	}
	c.own = c.holder.token(tenant, 1)
	if sends {
		c.gate.Await(t)
	} else {
		c.holder.awaitPoint(point)
	}
	c.hard = c.status(tenant).ClaimUntil
	c.waiting = ask(c.others, tenant, waitingEach)
	if point == afterAnswer || point == afterCommit {
		c.gate.Release()
		c.holder.awaitPoint(point)
	}
	c.caught()
	return c
}

// caught asserts what a person on call is told while the holder stands at its point, with its lease.
func (c *cell) caught() {
	c.t.Helper()
	switch c.point {
	case afterLease:
		c.explained(tenant, "TL207|TL102", explain.Nobody, "")
	case afterCommit:
		c.explained(tenant, "TL101", explain.Nobody, "")
	default:
		c.explained(tenant, "TL103|TL202", explain.Nobody, "worker-1 began to present generation 1") // 202: its lease has run out
	}
}

// silent asserts what a person on call is told between the end of a dead holder's lease and its hard deadline.
func (c *cell) silent() {
	c.t.Helper()
	c.eventually("the lease to run out", func() bool { return c.rdb.Exists(c.ctx(), c.key(tenant, "lock")).Val() == 0 })
	e := c.explained(tenant, "TL202", explain.Nobody, "worker-1 began to present generation 1")
	if !e.RetryAt.Equal(c.hard.UTC()) && e.RetryAt.Sub(c.hard).Abs() > time.Second {
		c.t.Errorf("others may take over at %v, and %v is said", c.hard, e.RetryAt)
	}
}

// strike does it to the holder. A request that the provider already has is then
// carried through: nobody can take it back.
func (c *cell) strike(do func()) {
	c.clock = redistest.StartStopwatch(c.t)
	do()
	if c.point == afterSend {
		c.gate.Release()
		c.server.AwaitIdle(c.t)
	}
}

func (c *cell) kill() {
	c.strike(c.holder.kill)
	if c.fate.waiters == deadline {
		c.silent()
	}
	c.results(time.Now())
	c.end()
}

// stop lets the holder stand still for two lease times: less than its hard deadline.
func (c *cell) stop() {
	start := time.Now()
	c.strike(c.holder.stop)
	if c.fate.waiters != resumed {
		c.results(start)
	}
	time.Sleep(time.Until(start.Add(2 * matrixLease))) // the one fixed time: the law is about it
	c.resume()
	if c.fate.waiters == resumed {
		c.results(time.Now())
	}
	c.ownResult()
	c.end()
}

// ownResult asserts that the caller in the holder that came back has a token. One whose
// request for the lease took longer than the lease, or whose exchange took longer than its
// timeout, may first be told to try again.
func (c *cell) ownResult() {
	c.t.Helper()
	r := c.own.report()
	slow := r.Errors["unavailable/slow_exchange"] + r.Errors["unavailable/exchanger_hangs"]
	if c.point == afterLease && r.Errors["unavailable/"] == 1 || slow == 1 {
		if c.point == afterAnswer {
			c.stored(tenant, 2)
		}
		r = c.holder.token(tenant, 1).report()
	}
	c.served(r, 1)
}

// stopLong lets the holder stand still until its hard deadline is over and the others
// have done whatever they do then.
func (c *cell) stopLong() {
	c.strike(c.holder.stop)
	c.results(time.Now())
	time.Sleep(time.Until(c.hard) + 50*time.Millisecond)
	c.resume()
	if c.fate.hollow {
		c.own.report()
		c.stored(tenant, 2)
	} else {
		c.ownResult()
	}
	c.end()
}

func (c *cell) resume() {
	c.holder.cont()
	c.holder.release()
}

// results asserts what the waiting callers got, and when, counted from the fault.
func (c *cell) results(since time.Time) {
	c.t.Helper()
	r := gather(c.waiting)
	took, late := time.Since(since), c.clock.Late()
	if c.fate.lost {
		c.refused(r, waitingTotal, "reauthorize/lost_response")
		c.dead(tenant, "lost_response")
		c.explained(tenant, "TL302", explain.Tenant, "worker-1 began to present generation 1")
	} else {
		c.served(r, waitingTotal)
		c.explained(tenant, "TL101|TL105", explain.Nobody, "")
	}
	limit := promise
	switch c.fate.waiters {
	case lease:
		limit += matrixLease
	case deadline:
		limit += c.hard.Sub(since)
		c.notBefore(c.hard)
	}
	if took > limit+late {
		c.t.Errorf("the waiters had their result after %v, want at most %v and %v, by which the machine was late", took, limit, late)
	}
}

// notBefore asserts that the last presentation came after the hard deadline. Both
// clocks are this machine's.
func (c *cell) notBefore(hard time.Time) {
	c.t.Helper()
	l := c.server.Ledger().Presentations(tenant)
	if last := l[len(l)-1]; last.Arrived.Before(hard) {
		c.t.Errorf("presented %v before the hard deadline", hard.Sub(last.Arrived))
	}
}

// end asserts the laws when all is over, and that the grant's life goes on from there.
func (c *cell) end() {
	c.t.Helper()
	violations := 0
	if c.fate.lost {
		violations = 1 // the one recovery presentation of rule 6.7
	}
	c.ledger(tenant, c.fate.least, c.fate.most, violations)
	if c.fate.spare {
		c.eventually("the spare pair", func() bool { return c.rdb.Exists(c.ctx(), c.key(tenant, "spare")).Val() == 1 })
	} else if n := c.rdb.Exists(c.ctx(), c.key(tenant, "spare")).Val(); n != 0 && c.fate != perhaps {
		c.t.Errorf("%d spare pairs", n)
	}
	if c.fate.healed { // until then it believes that the grant is dead
		st := c.status(tenant)
		c.others[0].do(order{Op: "knows", Tenant: tenant, Epoch: st.Epoch.UnixMilli(), Generation: st.Generation})
	}
	again := c.others[0].do(order{Op: "refresh", Tenant: tenant, Callers: 1})
	switch {
	case c.fate.hollow:
		c.refused(again, 1, "reauthorize/invalid_grant")
	case c.fate.lost && !c.fate.healed:
		c.refused(again, 1, "reauthorize/lost_response")
		c.dead(tenant, "lost_response")
	default:
		if len(again.Errors) > 0 {
			c.t.Errorf("the next refresh: %v", again.Texts)
		}
		c.living(tenant)
	}
	if st := c.status(tenant); st.State == tokencache.Active && st.ClaimBy != "" {
		c.t.Errorf("a claim of %s is left", st.ClaimBy)
	}
}
