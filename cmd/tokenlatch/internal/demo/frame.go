package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// frame is one picture of a run, for render only.
type frame struct {
	heading        string
	rule           string // of the profile, in words
	elapsed, total time.Duration
	ending         string // what is still waited for; empty while the storms last
	rows           []row
	sums           sums
	events         []event // newest last
}

// row is one tenant's.
type row struct {
	tenant           string
	generation       int64
	state            string
	tone             cli.Tone
	left             time.Duration // of the access token's life
	holder           int
	waiting          int
	exchanges, kills int
}

// sums are the run's, so far.
type sums struct {
	calls, waiting, unauthorized int
	exchanges, expiries, repeats int
	lost, lostResponse           int
	kills, recovered             int
}

const (
	columns  = "  %-11s %4s  %-18s %-12s %7s %7s %5s %5s"
	barWidth = 6
	// besides rows and events: title, heading, rule, head, three blanks, two of sums.
	fixedLines = 9
	minEvents  = 4
)

// lines draws the frame for a terminal of that size.
func (f *frame) lines(width, height int, utf8 bool) []term.Line {
	ls := []term.Line{f.title(width), {term.In(cli.Plain, "  "+f.heading)}, {term.In(cli.Faint, "  "+f.rule)}, nil, head()}
	shown := f.shown(height)
	for _, r := range f.rows[:shown] {
		ls = append(ls, r.line(utf8))
	}
	if hidden := len(f.rows) - shown; hidden > 0 {
		ls = append(ls, term.Line{term.In(cli.Faint, fmt.Sprintf("  ... and %d more", hidden))})
	}
	ls = append(ls, nil)
	ls = append(ls, f.sums.lines()...)
	ls = append(ls, nil)
	room := max(0, height-len(ls))
	for _, e := range f.events[max(0, len(f.events)-room):] {
		ls = append(ls, e.line())
	}
	return ls[:min(len(ls), max(height, 0))]
}

// shown returns how many rows fit, with some room for events.
func (f *frame) shown(height int) int {
	room := height - fixedLines - 1 - minEvents
	if len(f.rows) <= room {
		return len(f.rows)
	}
	return min(len(f.rows), max(1, room-1)) // a line says how many are hidden
}

func (f *frame) title(width int) term.Line {
	right := fmt.Sprintf("%.1fs of %s", f.elapsed.Seconds(), f.total)
	if f.ending != "" {
		right = f.ending
	}
	width = min(width, 80)
	gap := max(1, width-len("tokenlatch demo")-len(right))
	return term.Line{term.In(cli.Bold, "tokenlatch demo"), term.In(cli.Plain, strings.Repeat(" ", gap)), term.In(cli.Bold, right)}
}

func head() term.Line {
	return term.Line{term.In(cli.Faint, fmt.Sprintf(columns, "tenant", "gen", "state", "token life", "holder", "waiters", "exch.", "kills"))}
}

func (r row) line(utf8 bool) term.Line {
	text := fmt.Sprintf(columns, r.tenant, fmt.Sprint(r.generation), "\x00", "\x01",
		pidOr(r.holder, ""), orBlank(r.waiting), fmt.Sprint(r.exchanges), orBlank(r.kills))
	before, rest, _ := strings.Cut(text, "\x00")
	_, after, _ := strings.Cut(rest, "\x01")
	after = after[11:] // what %-12s padded behind the mark
	return term.Line{
		term.In(cli.Plain, before),
		term.In(r.tone, fmt.Sprintf("%-18s", r.state)), term.In(cli.Plain, " "),
		term.In(r.lifeTone(), fmt.Sprintf("%-12s", lifeBar(r.left, utf8))),
		term.In(cli.Plain, after),
	}
}

func (r row) lifeTone() cli.Tone {
	if r.left <= 0 {
		return cli.Faint
	}
	return cli.Calm
}

// lifeBar shows how long an access token still lives.
func lifeBar(left time.Duration, utf8 bool) string {
	if left <= 0 {
		return "expired"
	}
	full, empty := "█", "░"
	if !utf8 {
		full, empty = "#", "."
	}
	n := min(barWidth, int((left*barWidth+tokenLife-1)/tokenLife))
	return strings.Repeat(full, n) + strings.Repeat(empty, barWidth-n) + fmt.Sprintf(" %.1fs", left.Seconds())
}

func orBlank(n int) string {
	if n == 0 {
		return ""
	}
	return thousands(n)
}

// stateOf says in a few words how a grant is. killed are the processes that died.
func stateOf(t *tenant, now time.Time, killed map[int]bool, waiting int) (string, cli.Tone) {
	age := now.Sub(t.seenAt)
	left, claim := t.seen.left-age, t.seen.claim-age
	switch {
	case t.lost:
		return "must consent again", cli.Alarm
	case t.seen.holder != 0 && killed[t.seen.holder]:
		if opens := max(left, claim); opens > 0 {
			return fmt.Sprintf("holder died, %.1fs", opens.Seconds()), cli.Alarm
		}
		return "holder died", cli.Alarm
	case t.seen.holder != 0 && t.seen.again:
		return "recovering", cli.Busy
	case t.seen.holder != 0:
		return "exchanging", cli.Busy
	case t.seen.backoff:
		return "backing off", cli.Alarm
	case left <= 0 && waiting > 0:
		return "waiting", cli.Busy
	case left <= 0:
		return "quiet", cli.Faint
	case t.seen.due:
		return "due", cli.Busy
	default:
		return "fresh", cli.Calm
	}
}

func (s sums) lines() []term.Line {
	return []term.Line{
		{
			term.In(cli.Plain, fmt.Sprintf("  calls %s, waiting %s   exchanges %s for %s expired tokens   401s %s", thousands(s.calls), thousands(s.waiting), thousands(s.exchanges), thousands(s.expiries), thousands(s.unauthorized))),
		},
		{
			term.In(cli.Plain, "  "), term.In(zeroTone(s.repeats+s.lost), fmt.Sprintf("repeated %s   grants lost %s", thousands(s.repeats), thousands(s.lost))),
			term.In(cli.Plain, fmt.Sprintf("   lost_response %d   kills %d, recovered %d", s.lostResponse, s.kills, s.recovered)),
		},
	}
}

func zeroTone(n int) cli.Tone {
	if n > 0 {
		return cli.Alarm
	}
	return cli.Calm
}

func (e event) line() term.Line {
	return term.Line{term.In(cli.Faint, fmt.Sprintf("  %5.1fs  ", e.at.Seconds())), term.In(e.tone, e.text)}
}

// inRules says what the profile does with a refresh token that is presented twice.
func inRules(p provider.Profile) string {
	switch p.Replay {
	case provider.ReplayRevokesFamily:
		return "a refresh token that is presented twice revokes the grant"
	case provider.ReplayDead:
		return "a refresh token that is presented twice is refused"
	case provider.ReplayGrace:
		return fmt.Sprintf("a refresh token may be presented again within %s, then that revokes the grant", p.Grace)
	case provider.ReplaySamePair:
		return "a refresh token presented twice brings the same pair, until that is used"
	default:
		return "refresh tokens may be presented again"
	}
}
