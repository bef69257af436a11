package demo

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
)

// viewer shows a run until ctx ends; then it leaves the terminal as it was.
type viewer interface {
	show(ctx context.Context, now func() *frame)
}

// newViewer takes the live view where stdout is a terminal that can do it.
func newViewer(stdout io.Writer, quiet bool) viewer {
	live, ok := term.NewScreen(stdout)
	switch {
	case quiet:
		return hidden{}
	case ok:
		return &screen{live}
	default:
		return &log{out: stdout}
	}
}

// hidden shows nothing.
type hidden struct{}

func (hidden) show(ctx context.Context, _ func() *frame) { <-ctx.Done() }

// screen is the live view.
type screen struct{ *term.Screen }

const frameEvery = 100 * time.Millisecond

func (s *screen) show(ctx context.Context, now func() *frame) {
	s.Enter()
	defer s.Leave()
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	for {
		s.Draw(now().lines)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// log is the view where stdout is no terminal: a line for every event and, now and
// then, one with the sums.
type log struct {
	out    io.Writer
	events int // printed so far
}

const sumsEvery = 3 * time.Second

func (l *log) show(ctx context.Context, now func() *frame) {
	f := now()
	fmt.Fprintf(l.out, "tokenlatch demo  %s, %s\n%s\n", f.heading, f.total, f.rule)
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	next := sumsEvery
	for {
		f := now()
		l.news(f)
		if f.elapsed >= next {
			next += sumsEvery
			l.sums(f)
		}
		select {
		case <-ctx.Done():
			l.news(now())
			fmt.Fprintln(l.out)
			return
		case <-tick.C:
		}
	}
}

func (l *log) news(f *frame) {
	for _, e := range f.events[min(l.events, len(f.events)):] {
		fmt.Fprintln(l.out, e.line().Text(0, false))
	}
	l.events = len(f.events)
}

func (l *log) sums(f *frame) {
	var parts []string
	for _, s := range f.sums.lines() {
		parts = append(parts, strings.TrimSpace(s.Text(0, false)))
	}
	fmt.Fprintf(l.out, "  %5.1fs  %s\n", f.elapsed.Seconds(), strings.Join(parts, "   "))
}
