package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
)

// Comparison is the result of two runs at once. Its JSON is the output of --compare --json.
type Comparison struct {
	Coordinated *Report `json:"coordinated"`
	Naive       *Report `json:"naive"`
}

// Compare runs the same storms on workers that coordinate and on workers that do not, at the same time, and
// shows both side by side. The first Ctrl-C ends it with its report.
func Compare(opt Options, stdout io.Writer, quiet bool) (*Comparison, error) {
	if !quiet {
		announceBoth(opt, stdout)
	}
	both := &pair{out: stdout, quiet: quiet}
	both.live, both.onScreen = term.NewScreen(stdout)
	var v viewer = hidden{}
	if both.onScreen && !quiet {
		v = &screen{both.live} // to be left at the second Ctrl-C
	}
	ctx, stop := interruptible(v)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &Comparison{}
	var errs [2]error
	var runs, view sync.WaitGroup
	for i, to := range []**Report{&c.Coordinated, &c.Naive} {
		half := opt
		half.Naive = i == 1
		runs.Go(func() {
			if *to, errs[i] = play(ctx, half, &both.halves[i]); errs[i] != nil {
				cancel() // the other alone compares nothing
			}
		})
	}
	done := make(chan struct{})
	view.Go(func() { both.show(done) })
	runs.Wait()
	close(done)
	view.Wait()
	return c, cmp.Or(errs[0], errs[1])
}

func announceBoth(opt Options, stdout io.Writer) {
	fmt.Fprintf(stdout, "This binary is all that is needed: nothing is compiled or installed. It starts\n%s that coordinate and %d that do not, lets the same webhooks storm\nfor %s, and ends with a report. Ctrl-C ends it sooner.\n\n",
		plural(opt.Workers, "worker"), opt.Workers, opt.Duration)
}

// half is the view of one of two runs.
type half struct {
	mu   sync.Mutex // guards what follows
	now  func() *frame
	last *frame // once it has ended
}

// show implements viewer: somebody else draws.
func (h *half) show(ctx context.Context, now func() *frame) {
	h.mu.Lock()
	h.now = now
	h.mu.Unlock()
	<-ctx.Done()
	last := now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now, h.last = nil, last
}

// frame is the picture of this moment; nil before it has begun.
func (h *half) frame() *frame {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now != nil {
		return h.now()
	}
	return h.last
}

// pair shows two runs side by side.
type pair struct {
	out      io.Writer
	quiet    bool
	live     *term.Screen
	onScreen bool
	halves   [2]half
	said     [2]int // events that were printed
}

func (p *pair) show(done <-chan struct{}) {
	if p.quiet {
		return
	}
	if p.onScreen {
		p.live.Enter()
		defer p.live.Leave()
	}
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	next := sumsEvery
	for {
		if p.onScreen {
			p.live.Draw(p.lines)
		} else {
			next = p.log(next)
		}
		select {
		case <-done:
			if !p.onScreen {
				p.log(0)
				fmt.Fprintln(p.out)
			}
			return
		case <-tick.C:
		}
	}
}

var halfNames = [2]string{modeCoordinated, modeNaive}

// log prints what is new, a line each, where there is no terminal.
func (p *pair) log(next time.Duration) time.Duration {
	for i := range p.halves {
		f := p.halves[i].frame()
		if f == nil {
			continue
		}
		for _, e := range f.events[min(p.said[i], len(f.events)):] {
			fmt.Fprintf(p.out, "%-11s  %s\n", halfNames[i], strings.TrimSpace(e.line().Text(0, false)))
		}
		p.said[i] = len(f.events)
		if f.elapsed >= next && next > 0 {
			for _, l := range f.sums.lines() {
				fmt.Fprintf(p.out, "%-11s  %s\n", halfNames[i], strings.TrimSpace(l.Text(0, false)))
			}
			if i == 1 {
				next += sumsEvery
			}
		}
	}
	return next
}

const between = " | "

// lines draws both for a terminal of that size.
func (p *pair) lines(width, height int, utf8 bool) []term.Line {
	wide := max(10, (width-len(between))/2)
	left, right := p.halves[0].lines(halfNames[0], wide, height), p.halves[1].lines(halfNames[1], wide, height)
	var out []term.Line
	for i := range max(len(left), len(right)) {
		out = append(out, beside(nth(left, i), nth(right, i), wide))
	}
	return out[:min(len(out), height)]
}

func nth(lines []term.Line, i int) term.Line {
	if i < len(lines) {
		return lines[i]
	}
	return nil
}

// beside puts two lines into one, each cut to width columns.
func beside(left, right term.Line, width int) term.Line {
	line, used := fitted(left, width)
	line = append(line, term.In(cli.Plain, strings.Repeat(" ", width-used)), term.In(cli.Faint, between))
	rest, _ := fitted(right, width)
	return append(line, rest...)
}

// fitted is a line of at most width columns, and how many it has.
func fitted(l term.Line, width int) (out term.Line, used int) {
	for _, s := range l {
		n := utf8.RuneCountInString(s.Text)
		if used+n > width {
			s.Text = string([]rune(s.Text)[:width-used])
			n = width - used
		}
		out, used = append(out, s), used+n
	}
	return out, used
}

// lines are one half: its sums, its tenants, and its last events.
func (h *half) lines(name string, width, height int) []term.Line {
	f := h.frame()
	if f == nil {
		return []term.Line{{term.In(cli.Bold, name)}, {term.In(cli.Faint, "starting")}}
	}
	clock := fmt.Sprintf("%.1fs of %s", f.elapsed.Seconds(), f.total)
	if f.ending != "" {
		clock = f.ending
	}
	ls := []term.Line{{term.In(cli.Bold, name), term.In(cli.Plain, strings.Repeat(" ", max(1, width-len(name)-utf8.RuneCountInString(clock)))+clock)}}
	say := func(tone cli.Tone, format string, args ...any) {
		ls = append(ls, term.Line{term.In(tone, fmt.Sprintf(format, args...))})
	}
	s := f.sums
	say(cli.Plain, "%s calls, %s waiting", thousands(s.calls), thousands(s.waiting))
	say(cli.Plain, "%s exchanges for %s expired tokens", thousands(s.exchanges), thousands(s.expiries))
	say(zeroTone(s.repeats), "%s presented again against the rules", thousands(s.repeats))
	say(zeroTone(s.lost), "%s lost", plural(s.lost, "grant"))
	say(cli.Plain, "")
	rows := min(len(f.rows), max(1, (height-len(ls)-1)*2/3))
	for _, r := range f.rows[:rows] {
		ls = append(ls, term.Line{term.In(cli.Plain, fmt.Sprintf("%-11s %4d  ", r.tenant, r.generation)), term.In(r.tone, r.state)})
	}
	say(cli.Plain, "")
	for _, e := range f.events[max(0, len(f.events)-max(0, height-len(ls))):] {
		ls = append(ls, term.Line{term.In(cli.Faint, fmt.Sprintf("%4.1fs ", e.at.Seconds())), term.In(e.tone, e.text)})
	}
	return ls
}

// WriteJSON writes both reports as --json prints them.
func (c *Comparison) WriteJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(c)
}

// Exit is the command's exit code: that of the workers that coordinate.
func (c *Comparison) Exit() int { return c.Coordinated.Exit() }

// Lines is the final table.
func (c *Comparison) Lines() []term.Line {
	a, b := c.Coordinated, c.Naive
	ls := []term.Line{
		{term.In(cli.Bold, "tokenlatch demo --compare"), term.In(cli.Plain, fmt.Sprintf("  %s's rules, %s each, %s, %.1f s", a.Profile, plural(a.Workers, "worker"), plural(a.Tenants, "tenant"), max(a.seconds, b.seconds)))},
		nil,
		{term.In(cli.Bold, fmt.Sprintf("  %-44s%12s%12s", "", modeCoordinated, modeNaive))},
	}
	row := func(words string, left, right string, bad int) {
		tone := cli.Plain
		if bad > 0 {
			tone = cli.Alarm
		}
		ls = append(ls, term.Line{term.In(cli.Plain, fmt.Sprintf("  %-44s%12s", words, left)), term.In(tone, fmt.Sprintf("%12s", right))})
	}
	count := func(words string, left, right int) { row(words, thousands(left), thousands(right), 0) }
	count("webhooks that asked for an access token", a.Calls, b.Calls)
	count("  got none", a.Errors, b.Errors)
	count("access tokens that had to be replaced", a.Expiries, b.Expiries)
	count("exchanges at the provider", a.Exchanges, b.Exchanges)
	row("presentations repeated against the rules", thousands(a.Repeats), thousands(b.Repeats), b.Repeats)
	row("grants lost without a kill", thousands(a.GrantsLost), thousands(b.GrantsLost), b.GrantsLost)
	count("API calls that ended with 401", a.Unauthorized, b.Unauthorized)
	row("wait for an access token, p50", inTime(a.Wait.P50), inTime(b.Wait.P50), 0)
	row("wait for an access token, p99", inTime(a.Wait.P99), inTime(b.Wait.P99), 0)
	ls = append(ls, nil)
	return append(ls, a.verdict()[0], b.verdict()[0])
}
