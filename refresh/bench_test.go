package refresh_test

import (
	"context"
	"testing"

	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func BenchmarkTokenHot(b *testing.B) {
	f := newFleet(b, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	for w.cache.Peek(key("acme")) == nil {
		f.token(w, "acme")
	}
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := w.Token(ctx, "acme"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestHotTokenDoesNotAllocate(t *testing.T) {
	f := newFleet(t, refreshtest.Config{})
	w := f.worker()
	f.connect(w, "acme", false)
	for w.cache.Peek(key("acme")) == nil {
		f.token(w, "acme")
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = w.Token(context.Background(), "acme") }); n != 0 {
		t.Errorf("%v allocations per call", n)
	}
}
