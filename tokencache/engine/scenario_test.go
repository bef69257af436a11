package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Each file in testdata is a play about one grant on a real Redis. Every step prints its outcome, what it
// changed in the record, what it added to the journal, and what it published. Times are relative to the step,
// in minutes; fingerprints and ids are spelled as what they stand for. A change works on what the step before
// returned, or on what the step named by base= returned.
// go test ./tokencache/engine -run TestRecordChanges -rewrite writes the outputs anew: read the difference.
func TestRecordChanges(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		p := newPlay(t)
		datadriven.RunTest(t, path, p.step)
	})
}

type play struct {
	c      *Cache
	before map[string]string
	lines  int                  // of the journal
	heard  func() []grant.Event // by who listens to the grant
	seen   func() []grant.Event // by who watches the app
	said   map[string]bool      // each change that was published so far: its kind and revision

	mu    sync.Mutex // guards what follows
	told  []string   // changes of which this process has told itself, or has heard
	last  *Snapshot
	named map[string]*Snapshot
	words map[string]string // what ids stand for
}

func newPlay(t *testing.T) *play {
	c := freshCache(t)
	p := &play{c: c, named: map[string]*Snapshot{}, words: map[string]string{}, said: map[string]bool{}}
	p.heard = listen(t, c, c.rdb, c.rdb, c.Grant(acme).EventsChannel())
	p.seen = listen(t, c, c.rdb, c.rdb, c.App(acme.App).ChangesChannel())
	t.Cleanup(c.App(acme.App).OnChange(func(ch Change) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.told = append(p.told, fmt.Sprint(ch.Kind, " of revision ", ch.Record.Rev))
	}))
	for n := range 10 {
		for _, token := range []string{"at-", "rt-"} {
			fp := grant.Fingerprint(fmt.Sprint(token, n))
			p.words[fp], p.words[fp[:8]] = fmt.Sprint(token, n), fmt.Sprint(token, n)
		}
	}
	return p
}

func (p *play) step(t *testing.T, d *datadriven.TestData) string {
	time.Sleep(2 * time.Millisecond) // Redis tells the time in ms: what two steps note differs
	act, ok := acts[d.Cmd]
	if !ok {
		d.Fatalf(t, "unknown directive %s", d.Cmd)
	}
	a := actor{t: t, d: d, play: p, g: p.c.Grant(acme)}
	if by := a.text("by"); by != "" {
		a.g = a.g.As(by)
	}
	a.base = p.last
	if name := a.text("base"); name != "" {
		a.base = p.named[name]
	}
	outcome, s, err := act(a)
	if err != nil {
		outcome = grant.Outcome(fmt.Sprint("error: ", err))
	}
	if s != nil {
		p.last = s
	}
	if name := a.text("as"); name != "" {
		p.named[name] = s
	}
	return string(outcome) + "\n" + p.changes(t, d.Pos)
}

// actor does one step.
type actor struct {
	*play
	t    *testing.T
	d    *datadriven.TestData
	g    Grant
	base *Snapshot
}

func (a actor) text(key string) (val string) {
	a.d.MaybeScanArgs(a.t, key, &val)
	return val
}

func (a actor) duration(key string) time.Duration {
	val := a.text(key)
	if val == "" {
		return 0
	}
	d, err := time.ParseDuration(val)
	if err != nil {
		a.d.Fatalf(a.t, "%s: %v", key, err)
	}
	return d
}

func (a actor) pair() func(now int64) grant.Pair {
	n, err := strconv.Atoi(a.text("pair"))
	if err != nil {
		a.d.Fatalf(a.t, "pair: %v", err)
	}
	return pairNo(n)
}

func (a actor) id() string {
	id := a.text("id")
	if id == "" {
		a.d.Fatalf(a.t, "%s needs an id", a.d.Cmd)
	}
	return id
}

var acts = map[string]func(a actor) (grant.Outcome, *Snapshot, error){
	"connect": func(a actor) (grant.Outcome, *Snapshot, error) {
		s, err := a.g.Connect(a.t.Context(), a.pair())
		return grant.OutcomeOK, s, err
	},
	"import": func(a actor) (grant.Outcome, *Snapshot, error) {
		s, err := a.g.Import(a.t.Context(), a.pair())
		return grant.OutcomeOK, s, err
	},
	"disconnect": func(a actor) (grant.Outcome, *Snapshot, error) {
		return grant.OutcomeOK, nil, a.g.Disconnect(a.t.Context())
	},
	"claim": func(a actor) (grant.Outcome, *Snapshot, error) {
		takeover := grant.AfterDeadline
		switch val := a.text("takeover"); val {
		case "":
		case "at-once":
			takeover = grant.AtOnce
		default:
			takeover = grant.Takeover(a.duration("takeover"))
		}
		return a.g.Claim(a.t.Context(), a.base, a.id(), a.duration("for"), takeover)
	},
	"extend": func(a actor) (grant.Outcome, *Snapshot, error) {
		return a.g.Extend(a.t.Context(), a.base, a.duration("for"), a.text("error"), a.duration("retry"))
	},
	"commit": func(a actor) (grant.Outcome, *Snapshot, error) {
		pair := a.pair()(a.base.At())
		o, s, err := a.g.Commit(a.t.Context(), a.base, a.id(), pair, a.d.HasArg("spare"), a.d.HasArg("used"))
		if err == nil && o == grant.OutcomeOK {
			a.comparesPending(s, pair)
		}
		return o, s, err
	},
	"fail": func(a actor) (grant.Outcome, *Snapshot, error) {
		return a.g.Fail(a.t.Context(), a.base, grant.Failure{
			ID: a.id(), Verdict: grant.Verdict(a.text("verdict")), Error: a.text("error"), Reason: a.text("reason"),
			Retry: a.duration("retry"), Deadline: a.d.HasArg("deadline"), Unknown: a.d.HasArg("unknown"), Over: a.duration("over"),
		})
	},
	"reject": func(a actor) (grant.Outcome, *Snapshot, error) {
		return a.g.Reject(a.t.Context(), a.base, refusals(0, 10*time.Minute))
	},
	"warn": func(a actor) (grant.Outcome, *Snapshot, error) { return a.g.Warn(a.t.Context(), a.base) },
	"read": func(a actor) (grant.Outcome, *Snapshot, error) {
		s, err := a.g.Read(a.t.Context())
		if errors.Is(err, grant.ErrNone) {
			return "none", nil, nil
		}
		return grant.OutcomeOK, s, err
	},
	// pass makes the times of the record earlier, as if some had passed; an epoch is a name, too.
	"pass": func(a actor) (grant.Outcome, *Snapshot, error) {
		by := a.duration("time").Milliseconds()
		for name, value := range a.record() {
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && isTime(name) && !strings.HasSuffix(name, "epoch") && n > 0 {
				hset(a.t, a.c, acme, name, n-by)
			}
		}
		a.before = a.record()
		s, err := a.g.Read(a.t.Context())
		return grant.OutcomeOK, s, err
	},
}

// comparesPending compares what commit.lua made of a record with what KeepPending makes of it for as long as
// Redis is away: a process serves by the one what others will serve by the other.
func (a actor) comparesPending(stored *Snapshot, pair grant.Pair) {
	a.t.Helper()
	other := newCache(a.t, a.c.rdb, redistest.Prefix(a.t))
	kept := other.Grant(acme).As(a.text("by")).KeepPending(a.base, a.id(), pair)
	got, want := kept.Record, stored.Record
	got.UsedAt, want.UsedAt = 0, 0 // what is asked for is noted where it is stored
	if stored.Generation != a.base.Generation+1 || stored.Rev != a.base.Rev+1 {
		return // others have changed the grant meanwhile, of which KeepPending cannot know
	}
	if got != want {
		a.t.Errorf("%s: kept pending\n%+v, stored\n%+v", a.d.Pos, got, want)
	}
}

func (p *play) record() map[string]string {
	return p.c.rdb.HGetAll(context.Background(), p.c.Grant(acme).keys().Grant()).Val()
}

// changes says what a step has changed.
func (p *play) changes(t *testing.T, pos string) string {
	t.Helper()
	var out strings.Builder
	now, after := p.now(t), p.record()
	for _, name := range slices.Sorted(maps.Keys(merged(p.before, after))) {
		old, was := p.before[name]
		value, is := after[name]
		switch {
		case was && !is:
			fmt.Fprintf(&out, "  %s: gone\n", name)
		case old != value:
			fmt.Fprintf(&out, "  %s: %s\n", name, p.spell(name, value, now))
		}
	}
	p.before = after
	entries, err := p.c.rdb.XRange(t.Context(), p.c.Grant(acme).keys().Journal(), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries[min(p.lines, len(entries)):] {
		line := []string{fmt.Sprint(e.Values["kind"])}
		for _, name := range slices.Sorted(maps.Keys(e.Values)) {
			if name != "kind" && e.Values[name] != "" {
				line = append(line, name+"="+p.spell(name, fmt.Sprint(e.Values[name]), now))
			}
		}
		fmt.Fprintf(&out, "journal: %s\n", strings.Join(line, " "))
	}
	p.lines = len(entries)
	heard := p.heard()
	for _, e := range slices.Concat(heard, p.seen()) {
		p.said[fmt.Sprint(e.Kind, " of revision ", e.Record.Rev)] = true
	}
	for _, e := range heard {
		with := "without the pair"
		if e.Sealed != "" {
			with = "with the pair"
		}
		fmt.Fprintf(&out, "published: %s %s\n", e.Kind, with)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, change := range p.told {
		if !p.said[change] {
			t.Errorf("%s: the process that made the change tells itself %q, which nobody else hears", pos, change)
		}
	}
	return out.String()
}

func merged(a, b map[string]string) map[string]string {
	all := maps.Clone(b)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, a)
	return all
}

func (p *play) now(t *testing.T) int64 {
	t.Helper()
	at, err := p.c.rdb.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMilli()
}

func isTime(name string) bool {
	return strings.HasSuffix(name, "_at") || slices.Contains([]string{"epoch", "claim_until", "claim_prior", "spare_epoch"}, name)
}

var madeID = regexp.MustCompile(`\b[0-9A-Z]{16}\b`)

// spell spells a value as a reader knows it.
func (p *play) spell(name, value string, now int64) string {
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && isTime(name) && n > 0 {
		switch d := (time.Duration(n-now) * time.Millisecond).Round(time.Minute); {
		case d == 0:
			return "now"
		case d > 0:
			return "+" + strings.TrimSuffix(d.String(), "0s")
		default:
			return strings.TrimSuffix(d.String(), "0s")
		}
	}
	for _, known := range slices.Backward(slices.SortedFunc(maps.Keys(p.words), func(a, b string) int { return len(a) - len(b) })) {
		value = strings.ReplaceAll(value, known, p.words[known]) // the longest first: some begin as others are
	}
	return madeID.ReplaceAllStringFunc(value, func(id string) string {
		p.words[id] = fmt.Sprint("id", len(p.words)-39)
		return p.words[id]
	})
}
