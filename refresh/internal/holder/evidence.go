package holder

import (
	"slices"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// What the journal says of a change besides the change: by it an explanation knows why a token was
// presented, and what came of that.

// failed returns what came of an exchange of s that took so long and failed.
func failed(s *engine.Snapshot, e *provider.Error, took time.Duration) journal.Note {
	return journal.Note{Took: took, RequestID: requestID(e.RequestID, s.Pair)}
}

// brought returns what came of an exchange of s that took so long and brought p.
func brought(s *engine.Snapshot, p provider.Pair, stored grant.Pair, took time.Duration) journal.Note {
	n := journal.Note{Took: took, RequestID: requestID(p.RequestID, s.Pair, stored)}
	if narrower(s.Pair.Scope, p.Scope) {
		n.Why = journal.Narrower
	}
	return n
}

// requestID is an answer's request id as it may be written down: an Exchanger of one's own may put
// anything there.
func requestID(id string, pairs ...grant.Pair) string {
	for _, p := range pairs {
		for _, token := range []string{p.AccessToken.Reveal(), p.RefreshToken.Reveal()} {
			if token != "" && (strings.Contains(id, token) || strings.Contains(token, id)) {
				return ""
			}
		}
	}
	if len(id) > grant.MaxValue {
		return "" // half a token is token material too
	}
	return id
}

// narrower reports whether a scope lacks what the one before had. An answer that names no scope leaves
// it as it was (RFC 6749 §5.1).
func narrower(before, now string) bool {
	words := func(scope string) []string {
		return strings.FieldsFunc(scope, func(c rune) bool { return c == ' ' || c == ',' }) // some separate by commas
	}
	has := words(now)
	return len(has) > 0 && slices.ContainsFunc(words(before), func(word string) bool { return !slices.Contains(has, word) })
}
