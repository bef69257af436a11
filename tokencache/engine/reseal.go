package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

// Resealed counts the sealed values of a grant: its pair, its spare, its unread answers.
type Resealed struct {
	Anew    int // were sealed anew
	Moved   int // have changed meanwhile, each time: look again
	Skipped int // need it not
}

// resealTries is how often a value is read again that changes while it is sealed.
const resealTries = 3

// Reseal seals what is stored of a grant anew with the AEAD's primary key, where stale says that it must be. It
// changes no pair: each value takes the place of the very value that it was made of, and of no other, so
// that a commit, a consent or a restore in between wins. A process that dies in the middle leaves values
// that open. The error is in the chain of ErrSealed for a value that does not open.
func (g Grant) Reseal(ctx context.Context, stale func(sealed []byte) bool) (n Resealed, err error) {
	if err := g.key.Validate(); err != nil {
		return n, err
	}
	r := &resealing{g: g, stale: stale}
	var failed error
	for _, key := range []string{g.keys().Secret(), g.keys().Spare()} {
		failed = errors.Join(failed, r.pair(ctx, key))
	}
	failed = errors.Join(failed, r.unread(ctx))
	return r.n, failed
}

// resealing is one Reseal.
type resealing struct {
	g     Grant
	stale func(sealed []byte) bool
	n     Resealed
}

// pair seals the pair of a key anew.
func (r *resealing) pair(ctx context.Context, key string) error {
	for range resealTries {
		old, err := r.g.c.rdb.Get(ctx, key).Bytes()
		switch {
		case errors.Is(err, redis.Nil):
			return nil
		case redis.HasErrorPrefix(err, "WRONGTYPE"):
			return fmt.Errorf("%w (%s: the key has another type)", grant.ErrSealed, r.g.key)
		case err != nil:
			return fmt.Errorf("tokencache: reseal %s: %w", r.g.key, err)
		}
		if done, err := r.replace(ctx, key, nil, old); done || err != nil {
			return err
		}
	}
	r.n.Moved++
	return nil
}

// unread does the same for answers that could not be read: an id, a line feed, and a sealed text each.
func (r *resealing) unread(ctx context.Context) error {
	key := r.g.keys().Unread()
	kept, err := r.g.c.rdb.LRange(ctx, key, 0, -1).Result()
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil // it holds no answers
	}
	if err != nil {
		return fmt.Errorf("tokencache: reseal the unread answers of %s: %w", r.g.key, err)
	}
	for _, one := range kept {
		id, sealed, _ := bytes.Cut([]byte(one), []byte{'\n'})
		done, err := r.replace(ctx, key, append(id, '\n'), sealed)
		if err != nil {
			return err
		}
		if !done {
			r.n.Moved++ // it has ended, or made way for newer ones
		}
	}
	return nil
}

// replace puts a value that is sealed anew in the place of the old one. done is false if the old one is not there
// any more.
func (r *resealing) replace(ctx context.Context, key string, head, old []byte) (done bool, err error) {
	if !r.stale(old) {
		r.n.Skipped++
		return true, nil
	}
	epoch, err := grant.EpochOf(old)
	if err != nil {
		return false, fmt.Errorf("%w (%s: no sealed value)", grant.ErrSealed, r.g.key)
	}
	text, err := r.g.c.sealer.OpenText(r.g.key, epoch, old)
	if err != nil {
		return false, fmt.Errorf("%w (%s)", grant.ErrSealed, r.g.key)
	}
	anew, err := r.g.c.sealer.SealText(r.g.key, epoch, text)
	if err != nil {
		return false, err
	}
	put, err := r.g.c.db.Eval(ctx, store.ResealScript, []string{key}, string(head)+string(old), string(head)+anew).Int()
	if err != nil {
		return false, fmt.Errorf("tokencache: reseal %s: %w", r.g.key, err)
	}
	if put == 1 {
		r.n.Anew++
	}
	return put == 1, nil
}
