package doctor

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

func ok(format string, args ...any) verdict {
	return verdict{result: OK, text: fmt.Sprintf(format, args...)}
}

func warn(format string, args ...any) verdict {
	return verdict{result: Warning, text: fmt.Sprintf(format, args...)}
}

func fail(format string, args ...any) verdict {
	return verdict{result: Failure, text: fmt.Sprintf(format, args...)}
}

func skip(format string, args ...any) verdict {
	return verdict{result: Skipped, text: fmt.Sprintf(format, args...)}
}

// unknown is about what could not be asked.
func unknown(err error) verdict { return skip("not known: %s", line(err)) }

// line is an error in one line, without the names of our packages.
func line(err error) string {
	text := strings.NewReplacer("tokencache: ", "", "inspect: ", "").Replace(err.Error())
	if _, refused, found := strings.Cut(text, "NOPERM "); found {
		text = refused // the rest is ours, and the same for all
	}
	return printable(strings.Join(strings.Fields(text), " "))
}

// printable leaves out what a terminal would obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// denied reports whether Redis does not allow this user to ask.
func denied(err error) bool {
	if err == nil {
		return false
	}
	text := strings.ToLower(err.Error())
	return errors.Is(err, grant.ErrUnfit) || strings.Contains(text, "noperm") || strings.Contains(text, "no permissions") || strings.Contains(text, "unknown command")
}

// some names a few of many.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// ms is a short time for people.
func ms(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%s %s", oncall.Count(int64(n)), many)
}
