package proof

import (
	"strings"
	"testing"
)

// What it costs a process to prove a message, or to see that it is proven: a commit with an access
// token of 700 bytes.
func BenchmarkProof(b *testing.B) {
	body := strings.Repeat("x", 2200)
	const channel = "tl:{zoom:acme}:events"
	key := strings.Repeat("k", 26)
	p := &Proof{names: "tl"}
	p.key.Store(&key)
	message := p.Sign(b.Context(), channel, body)
	b.Run("prove", func(b *testing.B) {
		for b.Loop() {
			digest(key, channel, body)
		}
	})
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			if _, ok := p.Proven(channel, message); !ok {
				b.Fatal("not proven")
			}
		}
	})
}
