// Package refreshtest is a strict fake OAuth 2.0 authorization server. Its ledger has every
// presentation of every refresh token: to present a token is to send it to the server.
//
// The smallest test:
//
//	func TestOneExchangeServesEverybody(t *testing.T) {
//		server := refreshtest.Start(t, refreshtest.Config{})
//		first := server.Grant("acme") // the tenant consents: a new token pair
//
//		// … point the code under test at server.OAuth2Config(), give it the
//		// pair, let a hundred goroutines ask for a token …
//
//		if n := server.Ledger().Presentations("acme").Exchanges(); n != 1 {
//			t.Errorf("%d exchanges, want 1", n)
//		}
//		if bad := server.Ledger().Violations(provider.Profile{}); len(bad) > 0 {
//			t.Errorf("spent refresh tokens presented again:\n%v", bad)
//		}
//	}
//
// # One exchange
//
// A POST to [Server.TokenURL] goes through these points, in this order:
//
//  1. The request is checked: method, content type, no repeated parameter, the
//     client's secret (RFC 6749 §2.3.1, §3.2). A bad one is answered at once.
//  2. It is written into the ledger; [Server.AwaitExchange] returns.
//  3. Config.LatencyBefore passes; then a [Gate] from Hold(BeforeCommit) stops it.
//  4. A [Step] with At: BeforeCommit ends it here, with nothing spent.
//  5. The commit: in one step the server judges the refresh token, spends it
//     and issues the new pair.
//  6. Config.LatencyAfter passes; then a [Gate] from Hold(AfterCommit) stops it.
//  7. A [Step] with At: AfterCommit loses, cuts or replaces the answer.
//     Otherwise the client gets its pair.
//
// If the client hangs up, the exchange goes on all the same and commits, as it does at
// real providers. This kit is here to show that danger.
//
// # What a second presentation does
//
// Config.Profile says it, and the zero profile is the strictest. A token that
// is presented again after it was spent
//
//   - [provider.ReplayRevokesFamily]: is refused, and every token of the grant dies;
//   - [provider.ReplayDead]: is refused, its successor lives;
//   - [provider.ReplayGrace]: brings a sibling pair inside the window, and both pairs
//     live; afterwards it is refused, and every token of the grant dies;
//   - [provider.ReplaySamePair]: brings the same pair until one of that pair's
//     tokens is used; afterwards it is refused, and the pair lives;
//   - [provider.ReplayHarmless]: brings another pair, and all pairs live.
//
// With Config.NoRotation no token is ever spent. Profile.KillsAccessToken,
// RefreshTokenIdle and RefreshTokenLife are obeyed too.
//
// # Consent in a browser
//
// [Server.Grant] is a consent without one. [Server.AuthURL] is the authorization endpoint of the code
// flow (RFC 6749 §4.1) with PKCE (RFC 7636, S256 only): it asks on a page which tenant consents, or
// takes login_hint=acme for acme's consent. The code is redeemed at the token endpoint, once and
// within a minute; redirect_uri and code_verifier must fit. Its redemption is the consent, as
// Grant is; a second one revokes what came of the first.
//
// # Revocation
//
// A POST to [Server.RevokeURL] revokes a token (RFC 7009): a refresh token with all that came of its consent,
// an access token alone. The client authenticates as at the token endpoint. The ledger does not hold these
// requests.
//
// # Control by HTTP
//
// Config.Control lets a person with curl, or a test in another process, call some of the methods:
//
//	POST /control/grant?tenant=acme       Grant: answers the pair, as the token endpoint would
//	POST /control/expire?tenant=acme      ExpireAccessTokens
//	POST /control/revoke?tenant=acme      Revoke
//	POST /control/advance?by=90m          Advance
//	POST /control/fail                    the next exchange is answered 503: Script
//	  ?tenant=acme                        … of this tenant only
//	  &status=429&retry_after=7           … with this status
//	  &error=invalid_grant                … with this OAuth error, 400 if no status is given
//	  &fault=drop                         … not at all: drop, reset or truncate
//	  &at=after                           … after its commit: the pair is lost
//	  &times=3                            … and so are the two after it
//	GET  /control/ledger?tenant=acme      Ledger, as JSON, without tokens
//
// The other POSTs answer 204. A request that makes no sense is answered 400 and what is wrong.
//
// # No sleeping
//
// Tests wait for signals: [Server.AwaitExchange], [Server.AwaitIdle],
// [Gate.Await]; each has a form with a ctx for programs without a *testing.T.
// Access tokens and grace windows end by [Server.Advance].
//
// # What is not simulated
//
// Log-in, more than one client, public clients, scopes, TLS, HTTP/2, rate
// limits (script a 429). The server keeps its state in memory and forgets
// nothing, the ledger included.
package refreshtest
