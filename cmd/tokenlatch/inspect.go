package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// lastEntries is how many lines of the journal inspect shows.
const lastEntries = 8

func newInspect(g *globals) *cobra.Command {
	how := false
	cmd := &cobra.Command{
		Use: "inspect APP TENANT [flags]", Short: "all that is known of one grant, but its tokens",
		Long: `Show a grant's record in words: its tokens' times, who claims and who holds the
lease, how many processes listen, the last failure, and the last lines of its
journal. It reads no token. Times are UTC, by Redis' clock.`,
		Example: `tokenlatch inspect zoom acme
tokenlatch inspect zoom acme --how      # by which redis-cli lines to see it
tokenlatch inspect zoom acme --json | jq .claim`,
		Args: named("APP", "TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			k := grant.Key{App: args[0], Tenant: args[1]}
			if err := k.Validate(); err != nil {
				return cli.Usage(err)
			}
			return g.inspect(cmd, k, how)
		},
	}
	cmd.Flags().BoolVar(&how, "how", false, "print the redis-cli lines that show the same, and ask nothing")
	return cmd
}

func (g *globals) inspect(cmd *cobra.Command, k grant.Key, how bool) error {
	s, err := g.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	if how {
		return g.showHow(s, k)
	}
	d, err := lookAt(cmd.Context(), s, k)
	switch {
	case errors.Is(err, tokencache.ErrNone):
		return g.noGrant(cmd.Context(), s, k)
	case err != nil:
		return g.failed(s, err)
	}
	if g.asJSON() {
		return g.object(d.json(g.prefix))
	}
	if err := g.text(term.Render(d.lines(), 0, g.colour())); err != nil {
		return err
	}
	g.talk("`tokenlatch journal %s %s` has the whole journal; --how prints the keys", oncall.ID(k.App), oncall.ID(k.Tenant))
	return nil
}

// detail is what inspect reads.
type detail struct {
	row       inspect.Row
	finding   oncall.Finding
	listeners int64
	deaf      error // the listeners are not known
	journal   []inspect.Entry
	torn      error // the journal cannot be read
}

func lookAt(ctx context.Context, s *session, k grant.Key) (d detail, err error) {
	if d.row, err = s.Grant(ctx, k); err != nil {
		return d, err
	}
	d.finding = oncall.Look(&d.row)
	d.listeners, d.deaf = s.Listeners(ctx, k)
	d.journal, d.torn = s.Journal(ctx, k)
	d.journal = d.journal[max(0, len(d.journal)-lastEntries):]
	return d, nil
}

func (d *detail) json(prefix string) oncall.Detail {
	r := &d.row.Record
	out := oncall.Detail{
		Grant: oncall.GrantOf(&d.row, d.finding), Key: keyOf(prefix, d.row.Key, "grant"), Epoch: r.Epoch, Revision: r.Rev,
		AccessTokenFingerprint: r.AccessFP, RefreshTokenFingerprint: r.RefreshFP, Rejects: r.Rejects, Journal: []oncall.Entry{},
	}
	if l := d.row.Lease; l.By != "" {
		out.Lease = &oncall.Lease{By: l.By, Left: l.Left.Seconds()}
	}
	if d.deaf == nil {
		out.Listeners = &d.listeners
	}
	for _, e := range d.journal {
		out.Journal = append(out.Journal, oncall.EntryOf(e))
	}
	return out
}

// keyOf spells one of a grant's keys.
func keyOf(prefix string, k grant.Key, what string) string {
	return prefix + ":{" + k.String() + "}:" + what
}

// lines are a grant in words.
func (d *detail) lines() []term.Line {
	r, now := &d.row.Record, grant.Time(d.row.Now)
	var out []term.Line
	say := func(what, format string, args ...any) {
		out = append(out, term.Line{term.In(cli.Faint, fmt.Sprintf("  %-11s", what)), term.In(cli.Plain, fmt.Sprintf(format, args...))})
	}
	head := term.Line{term.In(cli.Bold, oncall.ID(d.row.App)+" "+oncall.ID(d.row.Tenant)), term.In(cli.Plain, ": "), term.In(toneOf(d.finding), d.finding.State)}
	if !d.finding.Since.IsZero() {
		head = append(head, term.In(cli.Plain, " since "+when(d.finding.Since, now)))
	}
	out = append(out, head)
	if d.finding.Why != "" {
		say("why", "%s", d.finding.Why)
	}
	if acts := d.finding.Acts(); acts != "" {
		say("who acts", "%s", acts)
	}
	if d.row.Err != nil {
		say("read", "what is stored is not shown; `redis-cli` shows it: --how")
	} else {
		d.sayTokens(say, r, now)
	}
	d.sayWork(say, r, now)
	return append(out, d.sayJournal(say, now)...)
}

// when is a time, and how long ago that was.
func when(t, now time.Time) string {
	return oncall.Clock(t, now) + " UTC (" + oncall.From(t, now) + ")"
}

func (d *detail) sayTokens(say func(string, string, ...any), r *grant.Record, now time.Time) {
	say("pair", "generation %d of the consent of %s UTC", r.Generation, oncall.Clock(grant.Time(r.Epoch), now))
	if r.State != grant.Disconnected {
		say("token", "%s: issued %s, due %s, ends %s UTC", oncall.Left(grant.Time(r.ExpiresAt), now), oncall.Clock(grant.Time(r.IssuedAt), now),
			oncall.Clock(grant.Time(r.RefreshAt), now), oncall.Clock(grant.Time(r.ExpiresAt), now))
	}
	if r.RefreshTokenExpiresAt != 0 {
		say("refresh", "its refresh token ends %s", when(grant.Time(r.RefreshTokenExpiresAt), now))
	}
	if r.UsedAt != 0 {
		say("used", "about %s", when(grant.Time(r.UsedAt), now))
	}
	if r.AccessFP != "" {
		say("prints", "access token %s, refresh token %s", r.AccessFP, orNone(r.RefreshFP))
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// sayWork is about who is at work, and what failed.
func (d *detail) sayWork(say func(string, string, ...any), r *grant.Record, now time.Time) {
	if c := r.Claim; c.Unresolved() && d.row.Err == nil {
		say("claim", "%s presents generation %d since %s", c.By, r.Generation, when(grant.Time(c.At), now))
		say("", "hard deadline %s; %d with unknown outcome", when(grant.Time(c.Until), now), c.N)
	}
	if l := d.row.Lease; l.By != "" {
		say("lease", "%s has it, %.1f s more unless extended", l.By, l.Left.Seconds())
	} else {
		say("lease", "free")
	}
	switch {
	case d.deaf != nil:
		say("listeners", "not known: %v", d.deaf)
	case d.listeners == 1:
		say("listeners", "1 process hears of its changes")
	default:
		say("listeners", "%s processes hear of its changes", oncall.Count(d.listeners))
	}
	if r.Error != "" && d.row.Err == nil {
		say("failure", "%s at %s, %d in a row", r.Error, when(grant.Time(r.ErrorAt), now), r.Fails)
	}
	if r.RetryAt != 0 && d.row.Err == nil {
		say("next try", "%s", when(grant.Time(r.RetryAt), now))
	}
	if r.Rejects > 0 && d.row.Err == nil {
		say("rejects", "%d exchanges in a row forced by refused access tokens", r.Rejects)
	}
	if r.By != "" && d.row.Err == nil {
		say("stored", "by %s, revision %d", r.By, r.Rev)
	}
}

func (d *detail) sayJournal(say func(string, string, ...any), now time.Time) (out []term.Line) {
	if d.torn != nil {
		say("journal", "cannot be read: %v", d.torn)
		return nil
	}
	if len(d.journal) == 0 {
		say("journal", "empty")
		return nil
	}
	say("journal", "the last %d, in UTC", len(d.journal))
	width := clockWidth(d.journal, now)
	for _, e := range d.journal {
		out = append(out, append(term.Line{term.In(cli.Plain, "    ")}, entryLine(e, now, width)...))
	}
	return out
}

// clockWidth returns how many columns the times of some entries take.
func clockWidth(entries []inspect.Entry, now time.Time) (width int) {
	for _, e := range entries {
		width = max(width, len(oncall.Clock(grant.Time(e.At), now)))
	}
	return width
}

// entryLine is a line of a journal in words.
func entryLine(e inspect.Entry, now time.Time, width int) term.Line {
	line := term.Line{
		term.In(cli.Faint, fmt.Sprintf("%-*s  ", width, oncall.Clock(grant.Time(e.At), now))), term.In(toneOfKind(e.Kind), fmt.Sprintf("%-11s", e.Kind)),
		term.In(cli.Plain, fmt.Sprintf("  generation %d  %s", e.Generation, e.By)),
	}
	if e.Why != "" {
		line = append(line, term.In(cli.Plain, "  "+e.Why))
	}
	if e.Answer != "" {
		line = append(line, term.In(cli.Plain, "  "+e.Answer))
	}
	if e.Took > 0 {
		line = append(line, term.In(cli.Faint, "  after "+e.Took.String()))
	}
	if e.RequestID != "" {
		line = append(line, term.In(cli.Faint, "  request id "+e.RequestID))
	}
	return line
}

func toneOfKind(kind string) cli.Tone {
	switch kind {
	case "connect", "commit", "restore":
		return cli.Calm
	case "reauthorize", "suspect":
		return cli.Alarm
	case "fail", "refused", "reject", "revival", "reauth_due", "extend":
		return cli.Busy
	}
	return cli.Plain
}

// showHow prints the redis-cli lines by which a person sees the same.
func (g *globals) showHow(s *session, k grant.Key) error {
	call := strings.Join(cli.CommandLine(s.addr), " ")
	key := func(what string) string { return "'" + keyOf(g.prefix, k, what) + "'" }
	lines := []string{
		call + " --raw HGETALL " + key("grant") + " | paste - -",
		call + " GET " + key("lock"),
		call + " PTTL " + key("lock"),
		call + " PUBSUB NUMSUB " + key("events"),
		fmt.Sprintf("%s XREVRANGE %s + - COUNT %d", call, key("journal"), lastEntries),
	}
	if g.json {
		return g.object(lines)
	}
	if g.jsonl {
		o := g.items(g.stdout)
		for _, line := range lines {
			if err := o.add(line); err != nil {
				return err
			}
		}
		return o.end(nil)
	}
	g.talk("redis-cli takes a password from $REDISCLI_AUTH. Never ask for …:secret: it is sealed, and of no use")
	return g.text(strings.Join(lines, "\n") + "\n")
}
