package demo

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
)

// Lines is the final table.
func (r *Report) Lines() []term.Line {
	var ls []term.Line
	ls = append(ls, term.Line{term.In(cli.Bold, "tokenlatch demo"), term.In(cli.Plain, "  "+r.heading())}, term.Line{term.In(cli.Faint, "                 "+r.where())}, nil)
	ls = append(ls, number("webhooks that asked for an access token", r.Calls))
	for _, why := range slices.Sorted(maps.Keys(r.failures)) {
		ls = append(ls, number("  got none: "+why, r.failures[why]))
	}
	ls = append(ls,
		number("access tokens that had to be replaced", r.Expiries),
		number("exchanges at the provider", r.Exchanges),
	)
	if r.recovery > 0 {
		ls = append(ls, number("  of these, last attempts for a killed holder's grant", r.recovery))
	}
	ls = append(ls,
		bad(number("presentations repeated against the rules", r.Repeats), r.Repeats),
		bad(number("grants lost without a kill", r.GrantsLost), r.GrantsLost),
		number("lost_response (killed between provider's commit and ours)", r.LostResponse),
	)
	if r.timedOut > 0 {
		ls = append(ls, number("  of these without a kill: this machine is overloaded", r.timedOut))
	}
	ls = append(ls,
		number("holders killed in mid-exchange", r.Kills),
		number("  taken over, alive with a new pair", r.Recovered),
		number("API calls that ended with 401", r.Unauthorized),
		nil,
		row2("wait for an access token", fmt.Sprintf("p50 %s   p99 %s   max %s", inTime(r.Wait.P50), inTime(r.Wait.P99), inTime(r.Wait.Max))),
		row2("an exchange", "p50 "+inTime(r.Exchange.P50)),
		nil,
	)
	return append(ls, r.verdict()...)
}

func (r *Report) heading() string {
	return fmt.Sprintf("%s, %s's rules, %.1f s", r.Mode, r.Profile, r.seconds)
}

func (r *Report) where() string {
	return fmt.Sprintf("%s, %s, %s", plural(r.Workers, "worker"), plural(r.Tenants, "tenant"), r.backend)
}

// verdict is one line, and what to do next.
func (r *Report) verdict() []term.Line {
	switch r.Verdict {
	case pass:
		return []term.Line{
			{term.In(cli.Calm, "PASS"), term.In(cli.Plain, "  "+r.right())},
			{term.In(cli.Faint, "      compare: tokenlatch demo --naive")},
		}
	case fail:
		return []term.Line{{term.In(cli.Alarm, "FAIL"), term.In(cli.Plain, "  "+r.wrong())}}
	case nothing:
		return []term.Line{{term.In(cli.Busy, "NOTHING TO JUDGE"), term.In(cli.Plain, "  it ended before the first exchange")}}
	default:
		return []term.Line{
			{term.In(cli.Busy, "NAIVE"), term.In(cli.Plain, "  "+r.wrong())},
			{term.In(cli.Faint, "       a demonstration, so the exit code is 0; compare: tokenlatch demo")},
		}
	}
}

func (r *Report) right() string {
	if r.LostResponse > 0 {
		return "no presentation against the rules; grants were lost to kills only"
	}
	return "no presentation against the rules; no grant was lost"
}

func (r *Report) wrong() string {
	if r.Repeats == 0 && r.GrantsLost == 0 {
		return "nothing went wrong under this profile"
	}
	return fmt.Sprintf("%s against the rules, %s lost", plural(r.Repeats, "presentation"), plural(r.GrantsLost, "grant"))
}

const (
	wordsWide   = 62
	numbersWide = 9
)

func number(words string, n int) term.Line {
	return term.Line{term.In(cli.Plain, fmt.Sprintf("  %-*s%*s", wordsWide, words, numbersWide, thousands(n)))}
}

// bad marks a line whose number should be 0.
func bad(l term.Line, n int) term.Line {
	l[0].Tone = cli.Calm
	if n > 0 {
		l[0].Tone = cli.Alarm
	}
	return l
}

func row2(words, value string) term.Line {
	return term.Line{term.In(cli.Plain, fmt.Sprintf("  %-*s%*s", 26, words, wordsWide+numbersWide-26, value))}
}

// inTime spells milliseconds for people.
func inTime(ms float64) string {
	switch {
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	default:
		return fmt.Sprintf("%.2f s", ms/1000)
	}
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return thousands(n) + " " + strings.TrimSuffix(word, "s") + "s"
}
