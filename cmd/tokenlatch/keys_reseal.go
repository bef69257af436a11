package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

// resealing are the flags of keys reseal.
type resealing struct {
	*globals
	config, confirm string
	rate            int
}

func newKeysReseal(g *globals) *cobra.Command {
	r := &resealing{globals: g}
	cmd := &cobra.Command{
		Use: "reseal [flags]", Short: "seal anew what another key than the primary has sealed",
		Long: `Seal each pair anew that another key than the primary has sealed. It changes no
pair and no record, and may run while the fleet works: a value takes the place
of the very value that it was made of, and whatever a worker stores meanwhile
wins. Broken off, it can be run again: what is done is passed over.

All workers must have the primary before: what is sealed with it does not open
for those that do not. Where no worker has sealed anything with it yet, it wants
--confirm KEY_ID.`,
		Example: `tokenlatch keys reseal
tokenlatch keys reseal --rate 50        # so many grants a second`,
		Args: named(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.rate < 1 || r.rate > 100_000 {
				return cli.Usage(fmt.Errorf("--rate %d: must be between 1 and 100000", r.rate))
			}
			return r.reseal(cmd)
		},
	}
	addConfig(cmd, &r.config)
	cmd.Flags().IntVar(&r.rate, "rate", 500, "at most `N` grants a second are sealed anew")
	cmd.Flags().StringVar(&r.confirm, "confirm", "", "`KEY_ID` of the primary: all workers have it")
	return cmd
}

// resealed is what reseal did, in JSON: docs/json/keys-reseal.schema.json.
type resealed struct {
	KeyID    uint32 `json:"key_id"`
	Resealed int64  `json:"resealed"`
	Already  int64  `json:"already"`
	Moved    int64  `json:"changed_meanwhile"`
	Unopened int64  `json:"unopened"`

	why error // of the first that does not open
}

func (r *resealing) reseal(cmd *cobra.Command) error {
	keyset, err := configuredKeyset(r.config)
	if err != nil {
		return err
	}
	keys, err := seal.Keys(keyset)
	if err != nil {
		return badConfig(err)
	}
	aead, err := seal.FromJSON(keyset)
	if err != nil {
		return badConfig(err)
	}
	s, err := r.open(cmd)
	if err != nil {
		return err
	}
	defer s.close()
	out := &resealed{}
	for _, k := range keys {
		if k.Primary {
			out.KeyID = k.ID
		}
	}
	if err := r.sure(cmd.Context(), s, out.KeyID); err != nil {
		return err
	}
	cache, err := tokencache.New(s.rdb, tokencache.Config{Prefix: r.prefix, AEAD: aead})
	if err != nil {
		return badConfig(err)
	}
	err = r.all(cmd.Context(), s, cache, out)
	err = r.failed(s, err)
	if unfit, ok := errors.AsType[*cli.Error](err); ok && unfit.Code == "redis_unfit" {
		unfit.Hint = "reseal needs +lset beside the rights of a worker; " + unfit.Hint
	}
	return r.end(out, err)
}

// sure refuses a primary that no worker has sealed with, unless somebody says that all have it.
func (r *resealing) sure(ctx context.Context, s *session, primary uint32) error {
	counted, err := r.census(ctx, s, "")
	if err != nil {
		return r.failed(s, err)
	}
	id := strconv.FormatUint(uint64(primary), 10)
	if len(counted) == 0 || counted[sealer{id: primary}] != nil || r.confirm == id {
		return nil
	}
	return &cli.Error{
		Exit: cli.ExitUnconfirmed, Code: "not_confirmed",
		Err:  fmt.Errorf("not confirmed: nothing is sealed with key %s yet. Workers that do not have it could open nothing any more", id),
		Hint: "roll the keyset out to all workers; then: tokenlatch keys reseal --confirm " + id,
	}
}

// resealers is how many grants are sealed anew at once.
const resealers = 4

// all goes through the grants. The error is the first of Redis.
func (r *resealing) all(ctx context.Context, s *session, cache *tokencache.Cache, out *resealed) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan grant.Key)
	var mu sync.Mutex // guards out
	var work sync.WaitGroup
	pace := &pacer{every: time.Second / time.Duration(r.rate)}
	for range resealers {
		work.Go(func() {
			for k := range todo {
				n, err := cache.Grant(k).Reseal(ctx, stale(out.KeyID))
				mu.Lock()
				out.add(n, err)
				mu.Unlock()
				if err != nil && !errors.Is(err, tokencache.ErrSealed) {
					cancel(err)
				}
				if n.Anew > 0 {
					pace.wait(ctx)
				}
			}
		})
	}
	p := r.progress()
	seen, first := int64(0), error(nil)
	for row, err := range s.List(ctx, "") {
		if err != nil {
			first = err
			continue
		}
		seen++
		p.tick(seen)
		select {
		case todo <- row.Key:
		case <-ctx.Done():
		}
	}
	close(todo)
	work.Wait()
	p.end()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return first
}

func stale(primary uint32) func([]byte) bool {
	return func(sealed []byte) bool { return sealerOf(sealed) != sealer{id: primary} }
}

func (o *resealed) add(n engine.Resealed, err error) {
	o.Resealed += int64(n.Anew)
	o.Already += int64(n.Skipped)
	o.Moved += int64(n.Moved)
	if errors.Is(err, tokencache.ErrSealed) {
		o.Unopened++
		if o.why == nil {
			o.why = err
		}
	}
}

// pacer lets one through in so long.
type pacer struct {
	every time.Duration
	mu    sync.Mutex // guards what follows
	next  time.Time
}

func (p *pacer) wait(ctx context.Context) {
	p.mu.Lock()
	now := time.Now()
	p.next = maxTime(p.next, now).Add(p.every)
	pause := p.next.Sub(now)
	p.mu.Unlock()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// end says what was done, and what is left.
func (r *resealing) end(o *resealed, err error) error {
	said := fmt.Sprintf("%s sealed anew with key %d, %s were already", oncall.Count(o.Resealed), o.KeyID, oncall.Count(o.Already))
	if o.Moved > 0 {
		said += fmt.Sprintf(", %s changed meanwhile: run it again", oncall.Count(o.Moved))
	}
	switch {
	case err != nil:
		r.talk("%s; run it again to go on", said)
		return err
	case o.Unopened > 0:
		return &cli.Error{
			Exit: cli.ExitFailed, Code: "unopened", Err: fmt.Errorf("%s; the values of %s grants do not open, the first: %w", said, oncall.Count(o.Unopened), o.why),
			Hint: "tokenlatch keys status tells which key they want",
		}
	case r.asJSON():
		return r.object(o)
	}
	return r.text(said + "\n")
}
