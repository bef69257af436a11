package refresh_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// A worker that remembers nothing serves valid tokens from a Redis that refuses writes.
func TestARedisThatRefusesWritesServesTokensToWorkersThatRememberNothing(t *testing.T) {
	t.Parallel()
	set := func(directive, value string) func(*testing.T, *redis.Client) {
		return func(t *testing.T, admin *redis.Client) {
			if err := admin.ConfigSet(t.Context(), directive, value).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for cause, refuse := range map[string]func(*testing.T, *redis.Client){
		"OOM":        set("maxmemory", "1"),
		"NOREPLICAS": set("min-replicas-to-write", "3"),
		"MISCONF":    failSnapshots,
	} {
		t.Run(cause, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{})
			f.redis = redistest.Own(t)
			first := f.worker()
			for i := range 3 {
				f.connect(first, fmt.Sprint("valid-", i), false)
			}
			f.connect(first, "expired", true)
			admin := f.redis.Client(t)
			refuse(t, admin)
			if err := admin.Set(t.Context(), "probe", "x", 0).Err(); err == nil {
				t.Fatal("this Redis takes writes: nothing is proven")
			}
			cold := f.worker()
			f.token(cold, "valid-0")
			if _, err := cold.TryToken(f.ctx(), "valid-1"); err != nil {
				t.Errorf("TryToken: %v", err)
			}
			if _, err := cold.Status(f.ctx(), "valid-2"); err != nil {
				t.Errorf("Status: %v", err)
			}
			_, err := cold.Token(f.ctx(), "expired")
			kind(t, err, refresh.ErrUnavailable, "")
			if !strings.Contains(err.Error(), cause) {
				t.Errorf("the error does not name %s: %v", cause, err)
			}
			if n := len(f.server.Ledger()); n != 0 {
				t.Errorf("%d exchanges without a claim", n)
			}
		})
	}
}

// failSnapshots lets a snapshot fail: there is a directory where its file should be.
func failSnapshots(t *testing.T, admin *redis.Client) {
	at, err := admin.ConfigGet(t.Context(), "d*").Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(at["dir"], at["dbfilename"], "a-directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := admin.ConfigSet(t.Context(), "save", "3600 1000000").Err(); err != nil {
		t.Fatal(err)
	}
	if err := admin.BgSave(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		info, err := admin.Info(t.Context(), "persistence").Result()
		if err == nil && strings.Contains(info, "rdb_last_bgsave_status:err") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the snapshot did not fail: %v", err)
		}
	}
}
