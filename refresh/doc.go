// Package refresh keeps OAuth grants alive across a fleet of processes: exactly one of
// them refreshes an expired token, all the others get the new one pushed.
//
//	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
//	aead, err := seal.FromFile("/etc/app/keyset.json")
//	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: aead})
//	zoom, err := provider.OAuth2(&oauth2.Config{ClientID: …, ClientSecret: …, Endpoint: …}, provider.Zoom())
//	tokens, err := refresh.New(refresh.Config{App: "zoom", Cache: cache, Provider: zoom})
//	defer tokens.Close(draining) // not the ctx that a signal has ended: exchanges in flight are finished
//
//	resp, err := tokens.Client("acme").Get(url) // in every worker, for every webhook
//
// [Coordinator.Client] sends requests with the access token and, on a 401, once more with
// a newer one. Underneath is [Coordinator.Token]. What it does:
//
//  1. Memory. A fresh token is returned without lock, allocation or Redis, as long as
//     this process is subscribed to the grant's events on a live connection.
//  2. Redis. Else one round trip. Fresh: return it, remember it, subscribe.
//  3. Due, but still valid: return it; one goroutine starts a refresh in the background.
//  4. Expired: one flight per grant and process, on which all callers wait, each on its
//     own ctx. It subscribes, reads again, and tries the lease once.
//  5. The process that wins the lease claims the generation, redeems the refresh token in
//     exactly one request, commits the new pair (the commit also publishes it) and
//     releases the lease.
//  6. Every other process waits for that message. A failure is published too: every waiter
//     returns the same typed error at once.
//
// An API that answers 401 is believed as far as it goes: [Coordinator.Reject] names the
// token that was refused, so that a thousand stragglers with an old one cause nothing, and
// an API that refuses every token a bounded number of exchanges.
//
// Nobody has to ask first: [Coordinator.Run] renews the grants that are in use before they
// expire, keeps the refresh tokens of idle ones alive, and says ahead of time where a
// consent ends at a fixed date. An answer is about one tenant until there is evidence of more:
// only when several tenants in a row are refused as if the client were, or are told to wait, with
// none accepted in between, the app's exchanges stop in the whole fleet; that is no tenant's fault.
// [Config.OnEvent] tells what happens.
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
// The provider's profile says when another process may take an unresolved claim over. If the
// provider refuses that presentation, the grant is lost: reauthorize, lost_response.
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
// transaction spans the provider and Redis. The lease saves work; what protects a grant
// is the claim, written before anything is presented, and that a commit is judged by
// generation, not by who holds the lease.
//
// What is not promised: "exactly once". If the provider's answer is lost (the process
// dies, the connection breaks, five minutes pass), and the provider neither repeats it
// nor honours the old refresh token, the grant is lost; the error says lost_response then.
// At most one presentation of unknown outcome per generation is promised, unless the
// provider's profile says that presenting again is safe, or the earlier holder is past its
// hard deadline and the access token has expired. A process that is stopped in
// the few instructions between its last look at the clock and the write to the socket,
// for longer than the claim stands, is beyond any promise.
package refresh
