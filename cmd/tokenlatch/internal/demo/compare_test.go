package demo

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// halved is a pair of views in which everything is as wide as it gets.
func halved(tenants int) *pair {
	p := &pair{}
	for i := range p.halves {
		p.halves[i].last = crowded(tenants)
	}
	return p
}

func TestBothHalvesFitTheirTerminal(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {140, 40}, {200, 60}, {40, 10}} {
		for _, tenants := range []int{1, 6, 500} {
			lines := halved(tenants).lines(size[0], size[1], true)
			if len(lines) > size[1] {
				t.Errorf("%v: %d lines", size, len(lines))
			}
			for _, l := range lines {
				text := escapes.ReplaceAllString(l.Text(size[0], true), "")
				if utf8.RuneCountInString(text) > size[0] {
					t.Errorf("%v: %q", size, text)
				}
				if before, _, ok := strings.Cut(l.Text(0, false)+" ", between[:2]); !ok || utf8.RuneCountInString(before) != max(10, (size[0]-len(between))/2) {
					t.Errorf("%v: the halves are not beside each other: %q", size, l.Text(0, false))
				}
			}
		}
	}
	if lines := (&pair{}).lines(80, 24, true); len(lines) == 0 || !strings.Contains(lines[1].Text(0, false), "starting") {
		t.Errorf("before they begin: %v", lines)
	}
}

// The sums and each name are whole at 80 columns.
func TestNothingThatCountsIsCutAt80Columns(t *testing.T) {
	text := ""
	for _, l := range halved(12).lines(80, 24, true) {
		text += l.Text(80, false) + "\n"
	}
	for _, want := range []string{"12,345 presented again against the rules", "1,234 grants lost", "coordinated", "naive", "cyberdyne   9999  must consent again"} {
		if !strings.Contains(text, want[:min(len(want), 38)]) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestALossSaysWhy(t *testing.T) {
	dead := func(reason string) *tenant { return &tenant{name: "acme", seen: grant{epoch: 7, reason: reason}} }
	kills := []*kill{{tenant: "globex", epoch: 7, pid: 1}, {tenant: "acme", epoch: 6, pid: 2}, {tenant: "acme", epoch: 7, pid: 3, recovered: true}, {tenant: "acme", epoch: 7, pid: 4, at: time.Now()}}
	for _, c := range []struct {
		g    *grants
		t    *tenant
		want string
	}{
		{&grants{kills: kills}, dead("lost_response"), "lost_response: the new pair died with 4"},
		{&grants{kills: kills[:3]}, dead("lost_response"), "lost_response: the new pair was lost on its way"},
		{&grants{kills: kills}, dead("invalid_grant"), "invalid_grant"},
		{&grants{naive: true}, dead(""), "two workers presented one refresh token"},
		{&grants{}, dead(""), "the stored pair is dead"},
	} {
		if got := c.g.why(c.t); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
