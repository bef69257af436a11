package main

import (
	"context"
	"errors"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/board"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// board shows what a source tells on the terminal, until a key or ctx ends it.
func (g *globals) board(ctx context.Context, src *source) error {
	title := "tokenlatch watch"
	if src.key.App != "" {
		title += " " + oncall.ID(src.key.App)
	}
	if src.key.Tenant != "" {
		title += " " + oncall.ID(src.key.Tenant)
	}
	m := board.New(title, g.place(src.s), g.colour())
	m.OneApp = src.key.App != ""
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := tea.NewProgram(m, tea.WithContext(ctx), tea.WithOutput(g.stdout), tea.WithoutSignalHandler())
	f := &feeder{src: src, send: p.Send, again: make(chan struct{}, 1)}
	var work sync.WaitGroup
	work.Go(func() { src.run(ctx, f.listener()) })
	work.Go(func() { f.list(ctx) })
	_, err := p.Run()
	interrupted := m.Interrupted || ctx.Err() != nil
	cancel()
	work.Wait()
	switch {
	case interrupted:
		return context.Canceled
	case err != nil:
		return &cli.Error{Exit: cli.ExitFailed, Code: "terminal", Err: err, Hint: "tokenlatch watch --plain prints lines"}
	}
	return nil
}

// feeder sends a board what there is, and what happens.
type feeder struct {
	src   *source
	send  func(tea.Msg)
	again chan struct{} // has room for one: list anew
}

func (f *feeder) listener() listener {
	ctx := context.Background()
	return listener{
		listening: func(bool) {
			f.send(board.Away(""))
			f.relist()
		},
		away: func(err error) { f.send(board.Away(err.Error())) },
		entry: func(k grant.Key, e inspect.Entry) {
			f.send(board.Event{Line: happened(k, e)})
		},
		changed: func(k grant.Key) {
			row, err := f.src.s.Grant(ctx, k)
			switch {
			case errors.Is(err, tokencache.ErrNone):
				f.send(board.Gone{App: k.App, Tenant: k.Tenant})
			case err == nil:
				f.send(board.Rows{Rows: []board.Row{boardRow(&row)}, Now: grant.Time(row.Now)})
			}
		},
		app: func(app string, a *oncall.App) {
			f.send(board.Rows{Rows: []board.Row{appBoardRow(a)}})
			if a.State != oncall.AppOK {
				f.send(board.Event{Line: appHappened(a)})
			}
		},
	}
}

func (f *feeder) relist() {
	select {
	case f.again <- struct{}{}:
	default:
	}
}

// Lists are repeated: a claim whose holder is silent makes no event.
const (
	listEvery = 5 * time.Second
	listShare = 20 // of the time is spent on lists, at most one part in so many
)

// list sends all grants, again and again.
func (f *feeder) list(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		if f.all(ctx) {
			f.send(board.Listed{})
		}
		f.apps(ctx)
		pause := time.NewTimer(max(listEvery, listShare*time.Since(began)))
		select {
		case <-pause.C:
		case <-f.again:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// pageOf rows are sent at once.
const pageOf = 500

// all sends each grant, and reports whether none is missing.
func (f *feeder) all(ctx context.Context) (complete bool) {
	if f.src.key.Tenant != "" {
		row, err := f.src.s.Grant(ctx, f.src.key)
		if err == nil {
			f.send(board.Rows{Rows: []board.Row{boardRow(&row)}, Now: grant.Time(row.Now)})
		}
		return err == nil || errors.Is(err, tokencache.ErrNone)
	}
	complete = true
	var page []board.Row
	now := time.Time{}
	flush := func() {
		if len(page) > 0 {
			f.send(board.Rows{Rows: page, Now: now})
		}
		page = nil
	}
	for row, err := range f.src.s.List(ctx, f.src.key.App) {
		if err != nil {
			complete = false
			continue
		}
		now = grant.Time(row.Now)
		if page = append(page, boardRow(&row)); len(page) == pageOf {
			flush()
		}
	}
	flush()
	return complete
}

// apps sends how the apps are as a whole.
func (f *feeder) apps(ctx context.Context) {
	tell := func(app string) {
		f.src.look(ctx, app, listener{app: func(_ string, a *oncall.App) { f.send(board.Rows{Rows: []board.Row{appBoardRow(a)}}) }})
	}
	if f.src.key.App != "" {
		tell(f.src.key.App)
		return
	}
	for app, err := range f.src.s.Apps(ctx) {
		if err == nil {
			tell(app)
		}
	}
}

func boardRow(row *inspect.Row) board.Row {
	f := oncall.Look(row)
	r := board.Row{
		App: row.App, Tenant: row.Tenant, State: f.State, Why: f.Why, Acts: f.Acts(), Tone: toneOf(f), Trouble: f.Trouble,
		Since: f.Since, Code: oncall.CodeOf(row),
	}
	if row.Err == nil && row.Record.State != grant.Disconnected && row.Record.ExpiresAt != 0 {
		r.Expires = grant.Time(row.Record.ExpiresAt)
	}
	return r
}

func appBoardRow(a *oncall.App) board.Row {
	return board.Row{App: a.App, State: a.State, Why: a.Why, Trouble: a.State != oncall.AppOK && a.State != oncall.AppUnknown}
}
