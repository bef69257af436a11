package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// What holds for each command, also for those that are still to come.
func TestEachCommandHasHelpThatFits(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, cmd := range tree(newRoot(nil, nil)) {
		if cmd.Hidden {
			continue
		}
		seen++
		name := strings.TrimPrefix(cmd.CommandPath(), "tokenlatch")
		code, help, stderr := told(t, nil, strings.Fields("help "+name)...)
		if code != cli.ExitOK || stderr != "" {
			t.Errorf("help%s: code %d: %s", name, code, stderr)
		}
		for line := range strings.Lines(help) {
			if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > 80 {
				t.Errorf("help%s: wider than 80 columns: %q", name, line)
			}
		}
		if topic := cmd.IsAdditionalHelpTopicCommand(); cmd.Short == "" || !topic && !strings.Contains(cmd.Example, cmd.CommandPath()) && cmd.HasParent() {
			t.Errorf("%s: what it is, or an example, is missing", cmd.CommandPath())
		}
	}
	if seen < 10 {
		t.Errorf("%d commands: nothing is proven", seen)
	}
}

func tree(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		all = append(all, tree(c)...)
	}
	return all
}

// The examples are command lines that are understood: each of their flags is there.
func TestTheFlagsOfExamplesExist(t *testing.T) {
	t.Parallel()
	for _, cmd := range tree(newRoot(nil, nil)) {
		for line := range strings.Lines(cmd.Example) {
			line, _, _ = strings.Cut(line, "#")
			line, _, _ = strings.Cut(line, "|")
			words := strings.Fields(line)
			if len(words) == 0 || words[0] != "tokenlatch" {
				continue
			}
			about, rest, err := newRoot(nil, nil).Find(words[1:])
			if err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if err := about.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
	}
}

// A pipe gets no escape, whatever the terminal around it is.
func TestNoColourGoesIntoAPipe(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	server := redistest.Own(t)
	tell(t, server.Client(t))
	for _, args := range []string{"ls", "ls --trouble", "apps", "inspect zoom dead", "inspect zoom broken", "journal zoom dead", "accept-loss zoom", "inspect zoom nobody", "explain zoom lost", "explain zoom", "wait zoom dead --for fresh", "wait zoom fine --for active", "keys status", "watch --json", "token zoom fine", "demo --naive --compare", "doctor"} {
		_, stdout, stderr := told(t, server, strings.Fields(args)...)
		if strings.Contains(stdout+stderr, "\x1b") {
			t.Errorf("%s: %q%q", args, stdout, stderr)
		}
	}
}

// A record, a tenant's name and a journal come from anybody who may write to Redis.
func TestNoControlCharacterReachesATerminal(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	tell(t, rdb)
	for _, err := range []error{
		rdb.HSet(t.Context(), "tl:{zoom:%1B%5B2J}:grant", "state", "active", "epoch", "1").Err(),
		rdb.HSet(t.Context(), "tl:{zoom:fine}:grant", "by", "\x1b[2J").Err(),
		rdb.Do(t.Context(), "XADD", "tl:{zoom:dead}:journal", "*", "kind", "\x1b[2J", "why", "\x1b]0;x\x07").Err(),
		rdb.HSet(t.Context(), "tl:app:zoom", "error", "\x1b[2J", "circuit", "open").Err(),
		rdb.HSet(t.Context(), "tl:app:other", "circuit@\x1b[2J", "open", "circuit@b", "open", "error@b", "\x1b[2J", "opened_at@b", "1", "changed_at@b", rdb.Time(t.Context()).Val().UnixMilli()).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"ls"}, {"apps"}, {"inspect", "zoom", "\x1b[2J"}, {"inspect", "zoom", "fine"}, {"inspect", "zoom", "dead"}, {"journal", "zoom", "dead"}, {"explain", "zoom", "dead"}, {"explain", "zoom", "\x1b[2J"}, {"explain", "zoom"}, {"wait", "zoom", "\x1b[2J", "--for", "active"}, {"keys", "status"}, {"export", "--sealed"}, {"doctor"}} {
		_, stdout, stderr := told(t, server, args...)
		if strings.ContainsAny(stdout+stderr, "\x1b\x07") || stdout == "" {
			t.Errorf("%q: %q%q", args, stdout, stderr)
		}
	}
}
