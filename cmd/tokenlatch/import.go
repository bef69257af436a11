package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/settings"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// importing are the flags of import.
type importing struct {
	*globals
	config, app    string
	dryRun, resume bool
}

func newImport(g *globals) *cobra.Command {
	x := &importing{globals: g}
	cmd := &cobra.Command{
		Use: "import FILE|- [flags]", Short: "store the pairs of a file, never over a grant that exists",
		Long: `Store grants with their pairs, from a file or from stdin: JSON, an object a
line, or CSV with a line of names. The members, or columns:

  tenant, access_token, refresh_token   needed
  app                                   or --app for all
  expires_at                            RFC 3339, or seconds since 1970; where
                                        it is missing the first use refreshes
  token_type, scope, extra (JSON), refresh_token_expires_at
  sealed, prefix                        in place of the tokens, of an export
                                        --sealed: needs the same keyset

A tenant that has a grant, or has disconnected one, keeps it. So an import that
was broken off can be run again as a whole; --resume skips what FILE.progress
says is done. Each line is reported. Stop whatever else refreshes these grants
first.`,
		Example: `tokenlatch import grants.jsonl --dry-run
tokenlatch import grants.csv --app zoom
age -d grants.jsonl.age | tokenlatch import - --jsonl > report.jsonl
tokenlatch import grants.jsonl --resume`,
		Args: named("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if x.resume && (args[0] == "-" || x.dryRun) {
				return cli.Usage(errors.New("--resume goes with a FILE, and not with --dry-run"))
			}
			return x.importFile(cmd, args[0])
		},
	}
	addConfig(cmd, &x.config)
	cmd.Flags().StringVar(&x.app, "app", "", "`APP` of lines that name none")
	cmd.Flags().BoolVar(&x.dryRun, "dry-run", false, "store nothing: say what would be done")
	cmd.Flags().BoolVar(&x.resume, "resume", false, "go on where an import of this FILE was broken off")
	return cmd
}

// What became of a line.
const (
	lineImported = "imported"
	lineWould    = "would_import"
	lineExists   = "exists"
	lineInvalid  = "invalid"
	lineFailed   = "failed" // not now: Redis, or the keyset
)

// line is a line of the report: docs/json/import-line.schema.json.
type line struct {
	Line   int    `json:"line"`
	App    string `json:"app,omitempty"`
	Tenant string `json:"tenant,omitempty"`
	Result string `json:"result"`
	Why    string `json:"why,omitempty"`
}

func (x *importing) importFile(cmd *cobra.Command, name string) error {
	file, err := readConfig(x.config)
	if err != nil {
		return err
	}
	aead, err := file.AEAD()
	if err != nil {
		return badConfig(err)
	}
	in, r := io.Reader(cmd.InOrStdin()), (*resumed)(nil)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return &cli.Error{Exit: cli.ExitFailed, Code: "file", Err: err, Hint: "tokenlatch import -h"}
		}
		defer f.Close()
		if in, r, err = resume(f, name, x.resume); err != nil {
			return &cli.Error{Exit: cli.ExitFailed, Code: "file", Err: err, Hint: "tokenlatch import " + name + " begins anew: what is there is left as it is"}
		}
	}
	if x.dryRun {
		r = nil
	}
	s, err := x.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	m := &importer{importing: x, file: file, s: s, sealer: grant.Sealer{AEAD: aead}, apps: map[string]*worker{}, first: map[grant.Key]int{}, items: x.items(x.stdout), progress: r}
	if err := s.rdb.Ping(cmd.Context()).Err(); err != nil {
		return x.failed(s, err)
	}
	err = m.run(cmd.Context(), in)
	return m.end(name, err)
}

// importer is one run of import.
type importer struct {
	*importing
	file     *settings.File
	s        *session
	sealer   grant.Sealer
	apps     map[string]*worker
	first    map[grant.Key]int // line of each grant
	items    *items
	progress *resumed // nil: of stdin

	counts map[string]int
	why    error // of the first line that failed
}

// importPage is how many lines are stored at once.
const importPage = 32

// run imports page by page: after each, what is done is written down.
func (m *importer) run(ctx context.Context, in io.Reader) error {
	m.counts = map[string]int{}
	lines, err := readLines(in, m.progress)
	if err != nil {
		return &cli.Error{Exit: cli.ExitUsage, Code: "file", Err: err, Hint: "tokenlatch import -h lists what a file may have"}
	}
	for ctx.Err() == nil {
		page, err := lines.page(importPage)
		if failed := m.page(ctx, page); failed != nil {
			return failed
		}
		if errors.Is(err, io.EOF) {
			return m.progress.done()
		}
		if err != nil {
			return err
		}
		if err := m.progress.note(); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// page imports some lines, and reports them in their order. The error says that it makes no sense to go on.
func (m *importer) page(ctx context.Context, page []entry) error {
	results := make([]line, len(page))
	var work sync.WaitGroup
	for i := range page {
		e := &page[i]
		w := m.prepare(e)
		if e.err != nil {
			results[i] = line{Line: e.line, App: e.App, Tenant: e.Tenant, Result: lineInvalid, Why: e.err.Error()}
			continue
		}
		work.Go(func() { results[i] = m.store(ctx, w, e) })
	}
	work.Wait()
	for _, l := range results {
		if err := m.report(l); err != nil {
			return err
		}
		if l.Result == lineFailed && m.why == nil {
			m.why = fmt.Errorf("line %d: %s", l.Line, l.Why)
		}
	}
	return m.why
}

// prepare looks at a line without asking anybody: e.err says what is wrong with it.
func (m *importer) prepare(e *entry) *worker {
	if e.err != nil {
		return nil
	}
	if e.App == "" {
		e.App = m.app
	}
	k := grant.Key{App: e.App, Tenant: e.Tenant}
	if e.err = k.Validate(); e.err != nil {
		return nil
	}
	if before, twice := m.first[k]; twice {
		e.err = fmt.Errorf("line %d has this tenant already", before)
		return nil
	}
	m.first[k] = e.line
	if e.err = m.unseal(e); e.err != nil {
		return nil
	}
	w := m.apps[e.App]
	if w == nil {
		w = &worker{session: m.s, name: commandName()}
		if e.err = w.begin(m.file, e.App, m.prefix); e.err != nil {
			return nil
		}
		m.apps[e.App] = w
	}
	if e.RefreshToken == "" && !w.app.Mints() {
		e.err = errors.New("no refresh_token")
	}
	return w
}

// unseal opens what an export has left sealed.
func (m *importer) unseal(e *entry) error {
	if e.Sealed == "" {
		if e.AccessToken == "" {
			return errors.New("no access_token")
		}
		return nil
	}
	sealed, err := base64.StdEncoding.DecodeString(e.Sealed)
	if err != nil {
		return errors.New("sealed is no base64")
	}
	epoch, err := grant.EpochOf(sealed)
	if err != nil {
		return errors.New("sealed is no pair of an export")
	}
	sealer := m.sealer
	if sealer.Prefix = e.Prefix; sealer.Prefix == "" {
		sealer.Prefix = m.prefix
	}
	p, err := sealer.Open(grant.Key{App: e.App, Tenant: e.Tenant}, epoch, grant.AnyGeneration, sealed)
	if err == nil {
		fill(&e.moved, p)
	}
	return err
}

// store imports one grant.
func (m *importer) store(ctx context.Context, w *worker, e *entry) line {
	out := line{Line: e.line, App: e.App, Tenant: e.Tenant, Result: lineFailed}
	if m.dryRun {
		row, err := rowAt(ctx, m.s, grant.Key{App: e.App, Tenant: e.Tenant})
		switch {
		case err != nil:
			out.Why = err.Error()
		case row != nil:
			out.Result = lineExists
		default:
			out.Result = lineWould
		}
		return out
	}
	did, err := w.tokens.Import(ctx, e.Tenant, e.token(), refresh.WithExtra(e.Extra))
	switch {
	case err != nil:
		out.Why = err.Error()
	case did == refresh.Exists:
		out.Result = lineExists
	default:
		out.Result = lineImported
	}
	return out
}

// token returns what is imported. An end that is not known is now: the first use refreshes it.
func (m *moved) token() *oauth2.Token {
	tok := &oauth2.Token{AccessToken: m.AccessToken, RefreshToken: m.RefreshToken, TokenType: m.TokenType, Expiry: m.ExpiresAt}
	if tok.Expiry.IsZero() {
		tok.Expiry = time.Now()
	}
	members := map[string]any{}
	if m.Scope != "" {
		members["scope"] = m.Scope
	}
	if !m.RefreshExpires.IsZero() {
		members["refresh_token_expires_at"] = m.RefreshExpires.Format(time.RFC3339)
	}
	return tok.WithExtra(members)
}

func (m *importer) report(l line) error {
	m.counts[l.Result]++
	if m.asJSON() {
		return m.items.add(l)
	}
	if m.quiet && l.Result != lineInvalid && l.Result != lineFailed {
		return nil
	}
	text := fmt.Sprintf("line %d: ", l.Line)
	if l.Tenant != "" {
		text += oncall.ID(l.App) + " " + oncall.ID(l.Tenant) + ": "
	}
	text += strings.ReplaceAll(l.Result, "_", " ")
	if l.Why != "" {
		text += ": " + l.Why
	}
	_, err := m.items.w.WriteString(text + "\n")
	return err
}

// end ends the workers, and says what was done.
func (m *importer) end(name string, err error) error {
	for _, w := range m.apps {
		ctx, cancel := context.WithTimeout(context.Background(), closeFor)
		err = errors.Join(err, w.tokens.Close(ctx))
		cancel()
	}
	if !m.asJSON() {
		err = errors.Join(err, m.items.w.Flush())
	}
	var said []string
	for _, result := range []string{lineImported, lineWould, lineExists, lineInvalid, lineFailed} {
		if n := m.counts[result]; n > 0 {
			said = append(said, oncall.Count(int64(n))+" "+strings.ReplaceAll(result, "_", " "))
		}
	}
	switch {
	case errors.Is(err, context.Canceled):
		m.talk("%s, interrupted. tokenlatch import %s --resume goes on", strings.Join(said, ", "), name)
	case err != nil:
		err = &cli.Error{Exit: cli.ExitFailed, Code: "broken_off", Err: fmt.Errorf("%s: %w", strings.Join(append(said, "broken off"), ", "), err), Hint: "tokenlatch import " + name + " --resume goes on"}
	case m.counts[lineInvalid] > 0:
		err = &cli.Error{Exit: cli.ExitFailed, Code: "invalid_lines", Err: errors.New(strings.Join(said, ", ")), Hint: "mend these lines, and import them: the others are left as they are"}
	default:
		m.talk("%s", strings.Join(said, ", "))
	}
	if m.asJSON() {
		return m.items.end(err)
	}
	return err
}
