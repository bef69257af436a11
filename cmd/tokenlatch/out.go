package main

import (
	"bufio"
	"encoding/json"
	"io"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
)

// items writes JSON: one array, or one object a line. What is written can be seen a moment later.
type items struct {
	w       *bufio.Writer
	lines   bool
	n       int
	flushed time.Time
}

func (g *globals) items(w io.Writer) *items { return &items{w: bufio.NewWriter(w), lines: g.jsonl} }

// table is one of text on what items write to. The cells of the column of that number may go below on a
// narrow terminal.
func (g *globals) table(o *items, fold int, heads ...string) *term.Table {
	return &term.Table{W: o.w, Heads: heads, Width: term.Width(g.stdout), Fold: fold, Colour: g.colour()}
}

// flushAfter is how long what is written may stay unseen.
const flushAfter = 50 * time.Millisecond

func (o *items) add(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	lead, trail := ",\n", ""
	switch {
	case o.lines:
		lead, trail = "", "\n"
	case o.n == 0:
		lead = "[\n"
	}
	o.n++
	_, _ = o.w.WriteString(lead)
	_, _ = o.w.Write(text)
	_, _ = o.w.WriteString(trail)
	return o.tick()
}

// tick shows what is written, now and then.
func (o *items) tick() error {
	if now := time.Now(); now.Sub(o.flushed) > flushAfter {
		o.flushed = now
		return o.w.Flush()
	}
	return nil
}

// end ends the array, and gives err back. An array that has begun is ended all the same, and err says that it
// had.
func (o *items) end(err error) error {
	switch {
	case err != nil && o.n == 0:
		return err
	case o.lines:
	case o.n == 0:
		_, _ = o.w.WriteString("[]\n")
	default:
		_, _ = o.w.WriteString("\n]\n")
	}
	flushed := o.w.Flush()
	if err != nil {
		return &begunError{err, o.lines}
	}
	return flushed
}

// begunError is an error after data that is on stdout already.
type begunError struct {
	error
	lines bool // each stands alone, so that an error may follow
}

func (e *begunError) Unwrap() error { return e.error }

// object writes one JSON object.
func (g *globals) object(v any) error {
	enc := json.NewEncoder(g.stdout)
	if !g.jsonl {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// text writes lines of text.
func (g *globals) text(lines string) error {
	_, err := io.WriteString(g.stdout, lines)
	return err
}
