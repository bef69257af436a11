// Package refresh keeps OAuth grants alive across a fleet of processes: exactly one of
// them refreshes an expired token, and all the others get the new one by push. A grant is
// what one tenant (a customer's account) lets one app do: a token pair and its history.
//
//	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
//	aead, err := seal.FromFile("/etc/app/keyset.json")
//	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: aead})
//	zoom, err := provider.OAuth2(&oauth2.Config{ClientID: …, ClientSecret: …, Endpoint: …}, provider.Zoom())
//	tokens, err := refresh.New(refresh.Config{App: "zoom", Cache: cache, Provider: zoom})
//	defer tokens.Close(draining) // a ctx with 100 s, not the one that a signal has ended: exchanges in flight are finished
//
//	resp, err := tokens.Client("acme").Get(url) // in every worker, for every webhook
//
// [Coordinator.Client] sends requests with the access token and, on a 401, once more with
// a newer one. It gets the token from [Coordinator.Token], which goes through these steps:
//
//  1. Memory. Token returns a fresh token without lock, allocation or Redis, as long as
//     this process is subscribed to the grant's events on a live connection.
//  2. Redis. Otherwise it reads the grant in one round trip. If the token there is fresh, it
//     returns the token, remembers it, and subscribes to the grant.
//  3. If the token is due but still valid, it returns the token. One goroutine starts a
//     refresh in the background.
//  4. If the token has expired, one flight per grant and process works for all callers, and
//     each waits on its own ctx. The flight subscribes, reads again, and tries the lease (a
//     lock that runs out) once.
//  5. The process that wins the lease claims the generation: it writes down that it is about to
//     present this refresh token. Then it redeems the token in exactly one request, commits
//     the new pair (the commit also publishes it) and releases the lease.
//  6. Every other process waits for that message. A failure is published too: every waiter
//     returns the same typed error at once.
//
// A 401 is believed within limits. [Coordinator.Reject] names the token that was refused, so a
// thousand late reports of an old token cause nothing. An API that refuses every token causes a
// bounded number of exchanges.
//
// [Coordinator.Run] renews grants although no caller asks. It renews those in use before their
// access tokens expire, keeps the refresh tokens of idle ones alive, and reports ahead of time
// that a consent ends at a fixed date.
//
// An answer of the provider is about one tenant until there is evidence of more. The app's
// exchanges stop in the whole fleet only if the provider refuses several tenants in a row (or the
// very first one) as if it refused the client, or tells several to wait, and accepts none in
// between. No tenant is at fault then. Where tenants have token endpoints at hosts of their own, the
// same holds for each host and its tenants. [Config.OnEvent] reports what happens.
//
// # States of a grant
//
// The record in Redis says which of three states a grant is in:
//
//	            Connect, Import                refused, and verified
//	no record -------------------> active -----------------------------> reauthorize
//	    ^                          |    ^ <----------------------------       |
//	    |                          |    |    Connect, a late commit,          |
//	    | after 90 days Disconnect |    |    or a revival that succeeds       |
//	    |                          v    | Connect                  Disconnect |
//	    +-------------------- disconnected <----------------------------------+
//
// A claim moves an active grant from one generation to the next:
//
//	                claim                    commit
//	no claim N ---------------> claimed N ---------------> no claim N+1
//	    ^                       |  |    ^                       ^
//	    |  fail: not redeemed,  |  |    | claim: another        |
//	    |  wait until retry_at  |  |    | process takes over    |
//	    +-----------------------+  |    |                       |
//	                               v    |                       |
//	                             unresolved N ------------------+
//	      the answer was lost, or the holder died    a late commit
//
// The provider's profile says when another process may take over an unresolved claim. If the
// provider refuses what that process presents, the grant is lost: its state is reauthorize, for
// the reason lost_response.
//
// # States of a flight
//
// A flight looks at the grant, decides, does one thing, and looks again, until its callers have
// their answer:
//
//	+--> look ---> decide ---> serve: the callers have the token
//	|                |-------> give up: they have an error that says who acts
//	|                |
//	|<- subscribe <--|         from now on no change is missed
//	|<- wait <-------|         for a push, or until a time
//	|<- report <-----|         that an API refused the token
//	|                v
//	|<- held <----- lead       try the lease once
//	|   elsewhere    |
//	|                v
//	|<- moved on <- claim
//	|                |
//	|                v      a pair
//	|             exchange ---------------------> commit --------> serve
//	|                |
//	|                |      another failure
//	|                |--------------------------> publish it ----> give up
//	|                |
//	|                | refused, and again two seconds later
//	|                v
//	+<- saved <--- verify ---------------------> reauthorize ----> give up
//	    by a spare pair, or by an earlier holder's
//
// # What is promised
//
// Redeeming a rotating refresh token cannot be undone and cannot be repeated, and no
// transaction spans the provider and Redis. The lease saves work. Two things protect a grant:
// the claim, which is written before the token is presented, and that Redis judges a commit by
// generation, not by who holds the lease.
//
// What is promised: at most one presentation of unknown outcome per generation. There are two
// exceptions:
//
//   - The provider's profile says that presenting again is safe.
//   - The earlier holder is past its hard deadline, and the access token has expired, or an API
//     has refused it.
//
// What is not promised: "exactly once". The provider's answer can be lost: the process dies, the
// connection breaks, five minutes pass. If the provider then neither repeats the answer nor
// honours the old refresh token, the grant is lost, and the error says lost_response. Nothing is
// promised for a process that is stopped in the few instructions between its last look at the
// clock and the write to the socket, for longer than its claim stands.
//
// docs/promises.md has all promises, and a matrix of faults.
package refresh
