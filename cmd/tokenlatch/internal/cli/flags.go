package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// IsHelp reports whether an argument asks for help.
func IsHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// Given reports whether a flag was set by hand.
func Given(fs *flag.FlagSet, name string) (set bool) {
	fs.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// Dashes spells flags as the help does: package flag writes -name in its errors.
func Dashes(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return errors.New(strings.NewReplacer("not defined: -", "not defined: --", "argument: -", "argument: --", " for flag -", " for flag --", " for -", " for --").Replace(err.Error()))
}

// PrintFlags writes what a command's help says of its flags, 80 columns wide.
func PrintFlags(w io.Writer, fs *flag.FlagSet) {
	fs.VisitAll(func(f *flag.Flag) {
		kind, text := flag.UnquoteUsage(f)
		head := "--" + f.Name
		if kind != "" {
			head += " " + kind
		}
		if f.DefValue != "" && f.DefValue != "false" {
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
