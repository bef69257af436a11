package main

import (
	"fmt"
	"io"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
)

// progress says on a terminal how far a long look is.
type progress struct {
	w     io.Writer // nil: nothing is said
	next  time.Time
	shown bool
}

const progressEvery = 200 * time.Millisecond

func (g *globals) progress() *progress {
	if g.quiet || !term.IsTerminal(g.stderr) {
		return &progress{}
	}
	return &progress{w: g.stderr, next: time.Now().Add(progressEvery / 2)}
}

// clearing writes to what may be the same terminal: each write begins on a clean line.
type clearing struct {
	p *progress
	w io.Writer
}

func (c clearing) Write(text []byte) (int, error) {
	c.p.end()
	return c.w.Write(text)
}

func (p *progress) tick(n int64) {
	if p.w == nil || n%256 != 0 {
		return
	}
	if now := time.Now(); now.After(p.next) {
		p.next, p.shown = now.Add(progressEvery), true
		fmt.Fprintf(p.w, "\r%s grants looked at\x1b[K", oncall.Count(n))
	}
}

func (p *progress) end() {
	if p.shown {
		p.shown = false
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
