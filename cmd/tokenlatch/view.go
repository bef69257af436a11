package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/term"
)

// viewer shows a run until ctx ends; then it leaves the terminal as it was.
type viewer interface {
	show(ctx context.Context, now func() *frame)
}

// newViewer takes the live view where stdout is a terminal that can do it.
func newViewer(stdout io.Writer, quiet bool) viewer {
	fd, ok := terminal(stdout)
	switch {
	case quiet:
		return hidden{}
	case ok && !dumb():
		return &screen{out: stdout, fd: fd}
	default:
		return &log{out: stdout}
	}
}

// terminal is the file descriptor of a writer that is a terminal.
func terminal(w io.Writer) (fd int, ok bool) {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

// hidden shows nothing.
type hidden struct{}

func (hidden) show(ctx context.Context, _ func() *frame) { <-ctx.Done() }

// screen is the live view, on the terminal's alternate screen.
type screen struct {
	out io.Writer
	fd  int
}

const (
	frameEvery  = 100 * time.Millisecond
	enterScreen = "\x1b[?1049h\x1b[?25l" // alternate screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

func (s *screen) show(ctx context.Context, now func() *frame) {
	_, _ = io.WriteString(s.out, enterScreen)
	defer func() { _, _ = io.WriteString(s.out, leaveScreen) }()
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	for {
		s.draw(now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// draw writes a whole frame at once, over the last one: nothing flickers.
func (s *screen) draw(f *frame) {
	width, height, err := term.GetSize(s.fd)
	if err != nil || width < 1 || height < 1 {
		width, height = 80, 24
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, l := range f.lines(width, height, speaksUTF8()) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l.text(width, wantsColour()) + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	_, _ = io.WriteString(s.out, b.String())
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
		fmt.Fprintln(l.out, e.line().text(0, false))
	}
	l.events = len(f.events)
}

func (l *log) sums(f *frame) {
	var parts []string
	for _, s := range f.sums.lines() {
		parts = append(parts, strings.TrimSpace(s.text(0, false)))
	}
	fmt.Fprintf(l.out, "  %5.1fs  %s\n", f.elapsed.Seconds(), strings.Join(parts, "   "))
}
