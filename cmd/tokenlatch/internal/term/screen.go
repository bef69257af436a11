package term

import (
	"io"
	"strings"

	"golang.org/x/term"
)

// Screen is a terminal's alternate screen, on which whole pictures are drawn.
type Screen struct {
	out io.Writer
	fd  int
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // alternate screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

// NewScreen is the screen of the terminal behind w; ok is false if there is none, or
// one that calls itself dumb.
func NewScreen(w io.Writer) (s *Screen, ok bool) {
	fd, ok := descriptor(w)
	if !ok || dumb() {
		return nil, false
	}
	return &Screen{out: w, fd: fd}, true
}

// Enter shows the screen.
func (s *Screen) Enter() { _, _ = io.WriteString(s.out, enterScreen) }

// Leave leaves the terminal as it was before Enter.
func (s *Screen) Leave() { _, _ = io.WriteString(s.out, leaveScreen) }

// Draw writes a whole picture at once, over the last one: nothing flickers. The picture
// is made for the terminal's size, and for what characters it has.
func (s *Screen) Draw(picture func(width, height int, utf8 bool) []Line) {
	width, height, err := term.GetSize(s.fd)
	if err != nil || width < 1 || height < 1 {
		width, height = 80, 24
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, l := range picture(width, height, speaksUTF8()) {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l.Text(width, wantsColour()) + "\x1b[K")
	}
	b.WriteString("\x1b[J")
	_, _ = io.WriteString(s.out, b.String())
}
