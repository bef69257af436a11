package explain

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// longest is how many lines of the journal a story tells; those in the middle are left out first.
const longest = 9

// tell appends a sentence, with where it is known from.
func (e *Explanation) tell(at int64, from, format string, args ...any) {
	e.Story = append(e.Story, Sentence{At: timeOf(at), Text: oneLine(fmt.Sprintf(format, args...)) + " (" + from + ")"})
}

func (e *Explanation) unknown(format string, args ...any) {
	e.Unknown = append(e.Unknown, oneLine(fmt.Sprintf(format, args...)))
}

// advise appends things to do; the last has the command.
func (e *Explanation) advise(command string, texts ...string) {
	for i, text := range texts {
		a := Action{Text: text}
		if i == len(texts)-1 {
			a.Command = command
		}
		e.Do = append(e.Do, a)
	}
}

// tellJournal tells what the journal has of the stored generation after the pair was stored, or the lines given.
func (j *judge) tellJournal(e *Explanation, lines []journal.Entry) {
	if lines == nil {
		for _, line := range j.lines() {
			if line.Kind != journal.Commit && line.Kind != journal.Connect {
				lines = append(lines, line)
			}
		}
	}
	if len(j.lines()) == 0 && j.leaseKnown() {
		e.unknown("what came before: the journal does not have it any more, it keeps the last changes alone")
	}
	for i, line := range lines {
		switch left := len(lines) - longest; {
		case left <= 0 || i < longest/2 || i >= longest/2+left:
			e.tell(line.At, "journal", "%s", j.sentence(line))
		case i == longest/2:
			e.tell(line.At, "journal", "%d changes more of the kind, which `tokenlatch journal` lists", left)
		}
	}
}

// tellPair tells where the stored pair comes from.
func (j *judge) tellPair(e *Explanation) {
	for _, kind := range []string{journal.Commit, journal.Connect, journal.Restore} {
		if line, ok := j.last(kind); ok {
			e.tell(line.At, "journal", "%s", j.sentence(line))
			return
		}
	}
	e.tell(j.r.IssuedAt, "record: issued_at, by", "generation %d was stored; %s made the last change", j.r.Generation, by(j.r.By))
}

var whys = map[string]string{
	journal.Due: ": its access token was due", journal.Idle: ": nobody uses it, and its refresh token is kept alive", journal.Asked: ": a caller waited for a token",
	journal.ByAPI: ": an API had refused the access token", journal.Forced: ": somebody forced a refresh", journal.Takeover: ", taking over the claim before, which had no outcome",
	journal.Revived: " once more, since its death may have been a mistake",
}

// sentence returns what a line of the journal says.
func (j *judge) sentence(l journal.Entry) string {
	who := by(l.By)
	switch l.Kind {
	case journal.Connect:
		return fmt.Sprintf("the tenant consented; %s stored generation %d", who, l.Generation)
	case journal.Disconnect:
		return who + " disconnected the tenant"
	case journal.Claim:
		return fmt.Sprintf("%s began to present generation %d%s", who, l.Generation, cmp.Or(whys[l.Why], reasonGiven(l.Why)))
	case journal.Extend:
		return fmt.Sprintf("%s still waits for the answer of %s, and sent its callers away", who, j.provider())
	case journal.Commit:
		return fmt.Sprintf("%s stored generation %d%s%s", who, l.Generation, took(l), commits[l.Why])
	case journal.Fail:
		return fmt.Sprintf("%s answered %s: %s%s", j.provider(), who, answer(l.Answer), took(l))
	case journal.Refused:
		return fmt.Sprintf("%s refused generation %d, presented by %s: %s%s; it is asked once more before that is believed", j.provider(), l.Generation, who, answer(l.Answer), took(l))
	case journal.Reauthorize:
		return fmt.Sprintf("%s concluded that the tenant must consent again: %s%s", who, l.Why, answered(l))
	case journal.Revival:
		return fmt.Sprintf("%s presented the dead grant again: %s%s", who, answer(l.Answer), took(l))
	case journal.ReauthDue:
		return who + " said that the refresh token ends at a fixed date"
	case journal.Reject:
		return fmt.Sprintf("an API refused the access token of generation %d, as %s reported", l.Generation, who)
	case journal.Suspect:
		return fmt.Sprintf("%s noted a suspicion: %s", who, l.Why)
	case journal.Spare:
		return fmt.Sprintf("%s kept a pair as spare: %s", who, l.Why)
	case journal.Restore:
		return fmt.Sprintf("%s gave back generation %d, which Redis had lost", who, l.Generation)
	}
	return fmt.Sprintf("%s: %s by %s", l.Kind, l.Why, who)
}

var commits = map[string]string{
	journal.FromSpare: ", the pair that had been kept as spare", journal.Late: ", although the grant had been declared dead: it lives",
	journal.Narrower: ", whose scope lacks what the one before had",
}

func reasonGiven(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// took returns how long an exchange took, and its name at the provider.
func took(l journal.Entry) string {
	text := ""
	if l.Took > 0 {
		text = ", after " + span(l.Took)
	}
	if l.RequestID != "" {
		text += ", request id " + l.RequestID
	}
	return text
}

func answered(l journal.Entry) string {
	if l.Answer == "" {
		return took(l)
	}
	return "; the last answer was " + answer(l.Answer) + took(l)
}

// answer is class/code/status in words.
func answer(text string) string {
	class, _, _ := strings.Cut(text, "/")
	code, status, _ := policy.ParseErrorText(text)
	said := cmp.Or(code, classes[class], class)
	if status != 0 {
		said += fmt.Sprintf(" (HTTP %d)", status)
	}
	switch class {
	case "unsent":
		return "nothing was sent (" + cmp.Or(code, "no connection") + ")"
	case "ambiguous":
		if status == 0 {
			return "no usable answer came (" + cmp.Or(code, "the connection broke") + ")"
		}
		return said + ", which does not say whether the refresh token is spent"
	case "refused":
		if code != "invalid_grant" { // which was refused once, and is asked again
			return said + ", for which there is no rule"
		}
	}
	return said
}

// classes are the words for an answer that has no code of its own.
var classes = map[string]string{
	"ambiguous": "an error", "busy": "too busy", "throttled": "too many requests", "refused": "a refusal",
	"app_refused": "the client is refused", "reauthorize": "the grant is refused",
}

// provider is its name for people.
func (j *judge) provider() string {
	if j.Profile != nil && j.Profile.Name != "" {
		return j.Profile.Name
	}
	return "the provider"
}

// tenant is its name as it can be printed.
func (j *judge) tenant() string { return shown(j.Tenant) }

func by(name string) string { return cmp.Or(shown(name), "a process without a name") }

// shown is a name on one line, whatever it holds.
func shown(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0 {
		return name
	}
	return grant.Escape(name)
}

// oneLine keeps what others have written from looking like more lines.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, text)
}

func timeOf(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// at is a time in a text: when, in UTC, and how far from now.
func (j *judge) at(ms int64) string {
	t, now := timeOf(ms), timeOf(j.Now)
	layout := "15:04:05"
	if t.Format(time.DateOnly) != now.Format(time.DateOnly) {
		layout = "2006-01-02 15:04:05"
	}
	when := t.Format(layout) + " UTC"
	switch d := time.Duration(ms-j.Now) * time.Millisecond; {
	case d > 0:
		return when + " (in " + span(d) + ")"
	case d < 0:
		return when + " (" + span(-d) + " ago)"
	}
	return when
}

// span is a duration as people say it.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/day)
}

// command is a line for the shell, about this grant.
func (j *judge) command(verb string, flags ...string) string {
	return line(verb, flags, j.App, j.Tenant)
}

// appCommand is one about the app.
func (j *judge) appCommand(verb string, flags ...string) string { return line(verb, flags, j.App) }

func line(verb string, flags []string, names ...string) string {
	words := append([]string{"tokenlatch", verb}, flags...)
	if strings.HasPrefix(strings.Join(names, ""), "-") || strings.HasPrefix(names[len(names)-1], "-") {
		words = append(words, "--") // no flag, but a name
	}
	for _, name := range names {
		words = append(words, quoted(name))
	}
	return strings.Join(words, " ")
}

// quoted is one word of a shell.
func quoted(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@:/+"
	if word != "" && strings.Trim(word, plain) == "" {
		return word
	}
	if shown(word) == word {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	var b strings.Builder
	for _, c := range []byte(word) {
		switch {
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		case c == '\'' || c == '\\':
			b.WriteString(`\` + string(c))
		default:
			b.WriteByte(c)
		}
	}
	return "$'" + b.String() + "'"
}
