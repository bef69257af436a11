package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// PrintFlags writes what a command's help says of its flags, 80 columns wide.
func PrintFlags(w io.Writer, fs *pflag.FlagSet) {
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		kind, text := pflag.UnquoteUsage(f)
		head := "--" + f.Name
		if f.Shorthand != "" {
			head = "-" + f.Shorthand + ", " + head
		}
		if kind != "" {
			head += " " + kind
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && f.DefValue != "0s" {
			text += " (default " + f.DefValue + ")"
		}
		indent := strings.Repeat(" ", 23)
		if len(head) > 20 {
			head += "\n" + indent[1:]
		}
		fmt.Fprintf(w, "  %-20s %s\n", head, wrap(text, 56, indent))
	})
}

// wrap breaks text into lines of at most width columns; all but the first are indented.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	left := width
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case len(word)+1 > left:
			b.WriteString("\n" + indent)
			left = width
		default:
			b.WriteByte(' ')
			left--
		}
		b.WriteString(word)
		left -= len(word)
	}
	return b.String()
}
