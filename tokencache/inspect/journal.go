package inspect

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// Entry is one line of a grant's journal: a change of its state.
type Entry = journal.Entry

// Journal reads a grant's journal, the oldest entry first. It is empty where there is none.
func (in *Inspector) Journal(ctx context.Context, k grant.Key) ([]Entry, error) {
	if err := k.Validate(); err != nil {
		return nil, err
	}
	key := in.names.Grant(k).Journal()
	got, err := store.Bounded(ctx, in.timeout, func(ctx context.Context) ([]redis.XMessage, error) {
		return in.db.Redis.XRange(ctx, key, "-", "+").Result()
	})
	if err != nil {
		return nil, fmt.Errorf("tokencache: journal of %s: %w", k, said(err))
	}
	entries := make([]Entry, len(got))
	for i, m := range got {
		entries[i] = entryOf(m)
	}
	return entries, nil
}

// Follow yields the entries after one of that id, and those that come, until ctx ends. With "" it begins
// with the oldest. An error says that Redis does not answer just now: it asks again after a second.
func (in *Inspector) Follow(ctx context.Context, k grant.Key, after string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for ctx.Err() == nil {
			got, err := in.after(ctx, k, after)
			for _, e := range got {
				if after = e.ID; !yield(e, nil) {
					return
				}
			}
			if err != nil && ctx.Err() == nil && (!yield(Entry{}, err) || mono.Sleep(ctx, time.Second) != nil) {
				return
			}
		}
	}
}

// listenFor is how long Redis waits for a new entry before it answers that there is none.
const listenFor = time.Second

func (in *Inspector) after(ctx context.Context, k grant.Key, after string) ([]Entry, error) {
	if after == "" {
		after = "0"
	}
	got, err := store.Bounded(ctx, listenFor+in.timeout, func(ctx context.Context) ([]redis.XStream, error) {
		return in.db.Redis.XRead(ctx, &redis.XReadArgs{Streams: []string{in.names.Grant(k).Journal(), after}, Block: listenFor}).Result()
	})
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("tokencache: journal of %s: %w", k, said(err))
	}
	var entries []Entry
	for _, stream := range got {
		for _, m := range stream.Messages {
			entries = append(entries, entryOf(m))
		}
	}
	return entries, nil
}

func entryOf(m redis.XMessage) Entry {
	e := journal.Parse(m.ID, m.Values)
	for _, text := range []*string{&e.Kind, &e.By, &e.Why, &e.Answer, &e.RequestID, &e.Change} {
		*text = printable(*text)
	}
	return e
}

// printable keeps control characters out of a terminal: anybody who may write to Redis can put some there.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, s)
}
