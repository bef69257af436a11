package oncall

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Span is a duration as people say it, short: 53s, 8m, 5h, 12d.
func Span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/day)
}

// Clock is a time in UTC as people read it beside now: the time of day, or the date before it if that is another.
func Clock(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	switch {
	case t.IsZero() || t.Unix() <= 0:
		return "-"
	case t.YearDay() == now.YearDay() && t.Year() == now.Year():
		return t.Format(time.TimeOnly)
	case t.Year() == now.Year():
		return t.Format("01-02 15:04")
	}
	return t.Format(time.DateOnly)
}

// From is a time seen from now: "in 8m" or "3h ago".
func From(t, now time.Time) string {
	if d := t.Sub(now); d > 0 {
		return "in " + Span(d)
	}
	return Span(now.Sub(t)) + " ago"
}

// Left says how long a token is valid still, or since when it is not.
func Left(ends, now time.Time) string {
	switch d := ends.Sub(now); {
	case ends.IsZero():
		return "-"
	case d > 0:
		return Span(d) + " left"
	default:
		return "ended " + Span(-d) + " ago"
	}
}

// ID is the name of an app or a tenant, whole. One with spaces, quotes or control characters is quoted.
func ID(name string) string {
	odd := func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune("'\"`\\$", r) || r == unicode.ReplacementChar
	}
	if name == "" || strings.ContainsFunc(name, odd) {
		return strconv.Quote(name)
	}
	return name
}

// Count is a number with commas, as in 1,001.
func Count(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
