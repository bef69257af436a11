package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/store"
)

const (
	// maxUnread is how much of an unread answer is kept, in bytes.
	maxUnread = 64 << 10
	// unreadKept is how many of a grant's unread answers are kept, unreadLife how long.
	unreadKept = 4
	unreadLife = 7 * 24 * time.Hour
)

// UnreadAnswer is a success of the provider in which no pair could be found. It may hold the only
// living one: who can read it may give it to Connect.
type UnreadAnswer struct {
	Epoch, Generation int64 // whose refresh token was presented
	Status            int   // HTTP status; 0 where it is not known
	Body              grant.Secret
}

// KeepUnread keeps, sealed and for a week, what the provider answered when base's generation was
// presented: the first 64 KiB. Of a grant the last four are kept. A repeat with the same id changes
// nothing.
func (g Grant) KeepUnread(ctx context.Context, base *Snapshot, id string, a UnreadAnswer) error {
	body := a.Body.Reveal()
	text := fmt.Sprintf("unread %d %d\n%s", base.Generation, a.Status, body[:min(len(body), maxUnread)])
	sealed, err := g.c.sealer.SealText(base.Key, base.Epoch, []byte(text))
	if err != nil {
		return err
	}
	err = g.c.db.Eval(ctx, store.UnreadScript, []string{g.keys().Unread()}, id, sealed, unreadKept, unreadLife.Milliseconds()).Err()
	if err != nil {
		return fmt.Errorf("tokencache: keep what the provider answered %s: %w", base.Key, err)
	}
	return nil
}

// Unread returns the unread answers that are kept of a grant, the newest last. The error is in the
// chain of ErrSealed where one does not open; those that do are returned with it.
func (g Grant) Unread(ctx context.Context) ([]UnreadAnswer, error) {
	if err := g.key.Validate(); err != nil {
		return nil, err
	}
	kept, err := g.c.rdb.LRange(ctx, g.keys().Unread(), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("tokencache: unread answers of %s: %w", g.key, err)
	}
	var all []UnreadAnswer
	var failed error
	for _, one := range kept {
		_, sealed, _ := strings.Cut(one, "\n") // after the id
		a, err := g.openUnread(sealed)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		all = append(all, a)
	}
	return all, failed
}

func (g Grant) openUnread(sealed string) (UnreadAnswer, error) {
	epoch, err := grant.EpochOf([]byte(sealed))
	if err != nil {
		return UnreadAnswer{}, fmt.Errorf("%w (%s: an unread answer)", grant.ErrSealed, g.key)
	}
	plain, err := g.c.sealer.OpenText(g.key, epoch, []byte(sealed))
	if err != nil {
		return UnreadAnswer{}, fmt.Errorf("%w (%s: an unread answer)", grant.ErrSealed, g.key)
	}
	head, body, _ := strings.Cut(string(plain), "\n")
	head, ok := strings.CutPrefix(head, "unread ")
	generation, status, _ := strings.Cut(head, " ")
	gen, err1 := grant.ParseNumber(generation, grant.MaxCounter)
	code, err2 := strconv.Atoi(status)
	if !ok || err1 != nil || err2 != nil {
		return UnreadAnswer{}, fmt.Errorf("%w (%s: opened, but not an unread answer)", grant.ErrSealed, g.key)
	}
	return UnreadAnswer{Epoch: epoch, Generation: gen, Status: code, Body: grant.Hide(body)}, nil
}
