package policy

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Standing says in words who presents which generation of a grant since when, and when others may take over:
// opens, by Redis' clock. It is for errors, in one line.
func Standing(r *grant.Record, opens int64) error {
	return fmt.Errorf("%s presents generation %d since %s, and what came of it is not known yet; others may take over from %s on",
		printable(r.Claim.By), r.Generation, clockTime(r.Claim.At), clockTime(opens))
}

// clockTime is a time of Redis' clock, unix ms, as people read it.
func clockTime(ms int64) string { return time.UnixMilli(ms).UTC().Format("15:04:05 UTC") }

// printable leaves out what begins another line: whoever may write to Redis can choose a name.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, name)
}
