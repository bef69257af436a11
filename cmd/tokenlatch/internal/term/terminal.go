package term

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// descriptor is the file descriptor of a writer that is a terminal.
func descriptor(w io.Writer) (fd int, ok bool) {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

// Coloured reports whether what goes to w may have colour.
func Coloured(w io.Writer) bool {
	_, ok := descriptor(w)
	return ok && wantsColour()
}

// wantsColour follows no-color.org and terminals that call themselves dumb.
func wantsColour() bool { return os.Getenv("NO_COLOR") == "" && !dumb() }

func dumb() bool { return os.Getenv("TERM") == "dumb" }

// speaksUTF8 follows the locale, by POSIX' precedence.
func speaksUTF8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToUpper(os.Getenv(name)); value != "" {
			return strings.Contains(value, "UTF-8") || strings.Contains(value, "UTF8")
		}
	}
	return false
}
