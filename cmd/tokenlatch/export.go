package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// exporting are the flags of export.
type exporting struct {
	*globals
	config, format string
	sealed, show   bool
}

func newExport(g *globals) *cobra.Command {
	x := &exporting{globals: g}
	cmd := &cobra.Command{
		Use: "export [APP] [flags]", Short: "write grants with their pairs, to be imported elsewhere",
		Long: `Write the grants of an app, or of all apps, one a line, as import reads them.

With --sealed the pairs stay encrypted, as they are in Redis, and no keyset is
needed; import then needs the same keyset. Without it whoever reads the output
has the tokens of all tenants: pipe it into a program that encrypts it.

A refresh token is good for one use. While the fleet runs, an export is out of
date with the next refresh, and two fleets that use the same grants ruin them:
stop every worker first. Grants that must be reauthorized or are disconnected
have nothing to move, and are left out.`,
		Example: `tokenlatch export --sealed > grants.jsonl
tokenlatch export zoom | age -r age1… > grants.jsonl.age
tokenlatch export zoom --sealed --format csv > grants.csv`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.Usage(fmt.Errorf("takes one APP, got %q too", args[1]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := x.check(args); err != nil {
				return err
			}
			return x.export(cmd, strings.Join(args, ""))
		},
	}
	addConfig(cmd, &x.config)
	cmd.Flags().BoolVar(&x.sealed, "sealed", false, "leave the pairs encrypted")
	cmd.Flags().StringVar(&x.format, "format", "jsonl", "`FORMAT`: jsonl or csv; --json writes one array")
	cmd.Flags().BoolVar(&x.show, "show", false, "write to a terminal, too")
	return cmd
}

func (x *exporting) check(args []string) error {
	for _, app := range args {
		if err := (grant.Key{App: app, Tenant: "-"}).Validate(); err != nil {
			return cli.Usage(err)
		}
	}
	switch {
	case x.format != "jsonl" && x.format != "csv":
		return cli.Usage(fmt.Errorf("--format %q is not known; there are: jsonl, csv", x.format))
	case x.format == "csv" && x.asJSON():
		return cli.Usage(errors.New("--format csv and JSON: give one of them"))
	case !x.show && term.IsTerminal(x.stdout):
		return &cli.Error{Exit: cli.ExitUsage, Code: "terminal", Err: errors.New("tokens are not written to a terminal, where they stay to be read"), Hint: "write them to a file or a pipe, or give --show"}
	}
	return nil
}

// moved is a grant that is moved: a line of an export. docs/json/export.schema.json.
type moved struct {
	App            string         `json:"app"`
	Tenant         string         `json:"tenant"`
	AccessToken    string         `json:"access_token,omitempty"`
	RefreshToken   string         `json:"refresh_token,omitempty"`
	TokenType      string         `json:"token_type,omitempty"`
	Scope          string         `json:"scope,omitempty"`
	ExpiresAt      time.Time      `json:"expires_at,omitzero"`
	RefreshExpires time.Time      `json:"refresh_token_expires_at,omitzero"`
	Extra          map[string]any `json:"extra,omitempty"`
	Prefix         string         `json:"prefix,omitempty"` // with Sealed: what it is bound to
	Sealed         string         `json:"sealed,omitempty"` // base64 of what is in Redis
}

// movedColumns are the columns of a CSV.
var movedColumns = []string{"app", "tenant", "access_token", "refresh_token", "token_type", "scope", "expires_at", "refresh_token_expires_at", "extra", "prefix", "sealed"}

func (m *moved) record() ([]string, error) {
	extra := ""
	if len(m.Extra) > 0 {
		text, err := json.Marshal(m.Extra)
		if err != nil {
			return nil, err
		}
		extra = string(text)
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.Format(time.RFC3339Nano)
	}
	return []string{m.App, m.Tenant, m.AccessToken, m.RefreshToken, m.TokenType, m.Scope, at(m.ExpiresAt), at(m.RefreshExpires), extra, m.Prefix, m.Sealed}, nil
}

// export writes the grants page by page.
func (x *exporting) export(cmd *cobra.Command, app string) error {
	sealer := grant.Sealer{Prefix: x.prefix}
	if !x.sealed {
		file, err := readConfig(x.config)
		if err != nil {
			return err
		}
		if sealer.AEAD, err = file.AEAD(); err != nil {
			return badConfig(err)
		}
	}
	s, err := x.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	e := &exporter{exporting: x, s: s, sealer: sealer, progress: x.progress(), items: x.items(x.stdout)}
	e.items.lines = !x.json
	e.csv = csv.NewWriter(e.items.w)
	err = x.failed(s, e.all(cmd.Context(), app))
	e.progress.end()
	return e.end(err)
}

// exporter is one run of export.
type exporter struct {
	*exporting
	s        *session
	sealer   grant.Sealer
	items    *items
	csv      *csv.Writer
	progress *progress

	seen, written, dead, lost int64
	why                       error // of the first that is lost
}

// exportPage is how many pairs are read in one round trip.
const exportPage = 64

func (e *exporter) all(ctx context.Context, app string) (first error) {
	var page []inspect.Row
	for row, err := range e.s.List(ctx, app) {
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		e.seen++
		e.progress.tick(e.seen)
		if row.Err == nil && row.Record.State != grant.Active {
			e.dead++
			continue
		}
		if page = append(page, row); len(page) == exportPage {
			if err := e.page(ctx, page); err != nil {
				return err
			}
			page = page[:0]
		}
	}
	return cmp.Or(first, e.page(ctx, page))
}

// page writes the grants of a page.
func (e *exporter) page(ctx context.Context, rows []inspect.Row) error {
	pairs := make([]*redis.StringCmd, len(rows))
	commands, _ := e.s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, row := range rows {
			pairs[i] = p.Get(ctx, keyOf(e.prefix, row.Key, "secret"))
		}
		return nil
	})
	if err := unanswered(commands); err != nil {
		return err
	}
	for i := range rows {
		sealed, _ := pairs[i].Bytes()
		if err := e.one(ctx, &rows[i], sealed); err != nil {
			return err
		}
	}
	return nil
}

// unanswered is the first error of commands that says nothing about their keys. A pipeline's own error is that of its
// first command: a pair that is missing would hide that a node does not answer for others.
func unanswered(commands []redis.Cmder) error {
	for _, c := range commands {
		if err := c.Err(); err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "WRONGTYPE") { // that one is damaged
			return err
		}
	}
	return nil
}

// one writes a grant. One that cannot be read is counted.
func (e *exporter) one(ctx context.Context, row *inspect.Row, sealed []byte) error {
	m, err := e.move(ctx, row, sealed)
	if err != nil {
		e.lost++
		e.why = cmp.Or(e.why, fmt.Errorf("%s %s: %w", oncall.ID(row.App), oncall.ID(row.Tenant), err))
		return nil
	}
	if e.written++; e.format == "csv" {
		if e.written == 1 {
			_ = e.csv.Write(movedColumns)
		}
		record, err := m.record()
		if err != nil {
			return err
		}
		return e.csv.Write(record)
	}
	return e.items.add(m)
}

var errNoPair = errors.New("it has no pair")

// tries is how often a grant is read again that changes while it is read.
const tries = 3

func (e *exporter) move(ctx context.Context, row *inspect.Row, sealed []byte) (*moved, error) {
	m := &moved{App: row.App, Tenant: row.Tenant}
	switch {
	case row.Err != nil:
		return nil, row.Err
	case len(sealed) == 0:
		return nil, errNoPair
	case e.sealed:
		m.Prefix, m.Sealed = e.prefix, base64.StdEncoding.EncodeToString(sealed)
		return m, nil
	}
	p, err := e.sealer.Open(row.Key, row.Record.Epoch, row.Record.Generation, sealed)
	for n := 1; errors.Is(err, grant.ErrOtherPair) && n < tries; n++ { // it was refreshed in between
		now, failed := e.s.Grant(ctx, row.Key)
		if failed == nil && now.Err == nil {
			if sealed, failed = e.s.rdb.Get(ctx, keyOf(e.prefix, row.Key, "secret")).Bytes(); failed == nil {
				p, err = e.sealer.Open(row.Key, now.Record.Epoch, now.Record.Generation, sealed)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	fill(m, p)
	return m, nil
}

func fill(m *moved, p grant.Pair) {
	m.AccessToken, m.RefreshToken, m.TokenType, m.Scope, m.Extra = p.AccessToken.Reveal(), p.RefreshToken.Reveal(), p.TokenType, p.Scope, p.Extra
	if p.ExpiresAt != 0 {
		m.ExpiresAt = grant.Time(p.ExpiresAt).UTC()
	}
	if p.RefreshTokenExpiresAt != 0 {
		m.RefreshExpires = grant.Time(p.RefreshTokenExpiresAt).UTC()
	}
}

// end flushes, and says what is missing.
func (e *exporter) end(err error) error {
	if e.csv.Flush(); e.format == "csv" {
		err = cmp.Or(err, e.csv.Error(), flushed(e.items.w))
	} else {
		err = e.items.end(err)
	}
	if err != nil {
		return err
	}
	said := []string{oncall.Count(e.written) + " written"}
	if e.dead > 0 {
		said = append(said, oncall.Count(e.dead)+" left out that are reauthorize or disconnected")
	}
	if e.lost > 0 {
		return &begunError{&cli.Error{
			Exit: cli.ExitFailed, Code: "incomplete", Err: fmt.Errorf("%s; %s cannot be read, the first: %w", strings.Join(said, ", "), oncall.Count(e.lost), e.why),
			Hint: "tokenlatch ls --state damaged; the keyset must be the workers'",
		}, e.items.lines}
	}
	e.talk("%s", strings.Join(slices.Clip(said), ", "))
	return nil
}

func flushed(w *bufio.Writer) error { return w.Flush() }
