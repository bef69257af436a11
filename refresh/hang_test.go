package refresh_test

import (
	"context"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// Redis hangs, and what memory holds is not known to be current any more. Who has less time than
// Redis is given gets the token while it can still be used.
func TestADeadlineThatIsAboutToEndIsServedFromMemory(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{})
	f.redis = redistest.Own(t)
	w := f.worker()
	valid := f.connect(w, "acme", false)
	f.hot(w, "acme")
	f.redis.Pause(t)
	defer f.redis.Resume(t)
	f.eventually("the subscriber connection to count as dead", func() bool { return w.cache.Grant(key("acme")).Peek() == nil })
	for name, call := range map[string]func(context.Context) (*oauth2.Token, error){
		"Token":    func(ctx context.Context) (*oauth2.Token, error) { return w.Token(ctx, "acme") },
		"TryToken": func(ctx context.Context) (*oauth2.Token, error) { return w.TryToken(ctx, "acme") },
		"source":   func(ctx context.Context) (*oauth2.Token, error) { return w.TokenSource(ctx, "acme").Token() },
	} {
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			tok, err := call(ctx)
			end, _ := ctx.Deadline()
			left := time.Until(end)
			cancel()
			if err != nil || tok.AccessToken != valid.AccessToken {
				t.Errorf("%s: %v, with %v left", name, err, left)
			}
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Token(gone, "acme"); err == nil {
		t.Error("who has left was served")
	}
}
