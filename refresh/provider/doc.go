// Package provider describes an OAuth provider: what it does with a refresh
// token (a [Profile], which is data), how to ask it for a new token pair (an
// [Exchanger], which sends one request), and what its answer means ([Classify],
// a pure function).
//
// Give the result of [OAuth2] to refresh.Config. The smallest program that uses it alone:
//
//	p, err := provider.OAuth2(&oauth2.Config{
//		ClientID:     id,
//		ClientSecret: secret,
//		Endpoint:     oauth2.Endpoint{TokenURL: "https://zoom.us/oauth/token"},
//	}, provider.Zoom())
//	…
//	pair, err := p.Exchanger.Exchange(ctx, provider.Grant{RefreshToken: old})
//
// # An exchange is one request
//
// Redeeming a rotating refresh token cannot be undone, and a second presentation
// may cost the tenant its grant. So one call of Exchange is one POST at most:
//
//  1. The client authenticates in one way, which you state beforehand
//     (oauth2.Config.Endpoint.AuthStyle or Profile.AuthStyle). Finding it out by
//     trial, as x/oauth2 does by default, presents the token twice.
//     A client may show a key instead of a secret ([ClientAssertion], [MutualTLS], [DPoP]).
//  2. Exchange follows no redirect and retries nothing. net/http cannot resend the
//     request when a reused connection turns out to be dead.
//  3. Exchange reads the answer up to 1 MiB, whatever its Content-Type, and leniently: if it
//     cannot read a success, a pair is lost. So it also finds pairs and errors below the top
//     level of the answer, and under other names; see [Classify].
//
// # What an answer means
//
// A pair, or an [*Error] whose [Class] says who acts next:
//
//   - Reauthorize: the provider refuses the refresh token. The tenant acts, once the caller
//     has made sure that no other process has replaced the token meanwhile.
//   - AppRefused: the provider refuses the client, or TokenURL is wrong. The operator acts.
//     Only [Error.ClientRefused] is certainly no tenant's fault.
//   - Throttled, Busy: the provider has not processed the request. Ask later; see RetryAfter.
//   - Unsent: the refresh token never left this process. Present it again.
//   - Refused: a refusal that no rule knows. Try again, ever more rarely.
//   - Ambiguous: the refresh token may be spent and the new pair lost. What is
//     safe now depends on [Profile.Replay]. Every 5xx is Ambiguous, even if it names a time
//     to come back.
//
// Whatever the class, [Error.Throttles] says that the provider wants fewer requests.
//
// Unsent is proved, not guessed: the token travels in the request's body, and
// nobody has read a byte of it. If there is doubt, the class is Ambiguous.
//
// # Profiles
//
// The zero Profile assumes the worst: a replay revokes the whole grant, and a
// refresh kills the old access token. The presets ([Zoom], [GitHub], …; all in
// [Presets]) say more where it is known. Comments beside their fields grade the
// evidence:
//
//	D  the provider's documentation
//	S  the provider's staff, in a forum
//	I  an issue or pull request
//	2  second hand
//	–  seen, but no source was kept
//
// Where sources conflict or are silent, a preset takes the stricter reading.
// Presets leave AuthStyle open unless it is certain. To change one, assign to the
// fields of the copy that the function returns.
//
// A profile also says what the request to the token endpoint looks like ([Request]), where the
// endpoint of each tenant is ([PerTenant]), and how APIs refuse a token without a 401
// ([APIRefusal]).
//
// # What is not promised
//
//   - Exactly once. No transaction spans the provider and anything else, and an Ambiguous
//     exchange stays Ambiguous.
//   - That a [TokenEndpoint.Transport] of your own sends a request once. If it retries, it
//     breaks the rule above.
//   - That an [Exchanger] prevents two workers from presenting the same token. The caller must
//     claim the token before it calls; package refresh does.
//   - That fmt prints no token. It prints a [Grant] or a [Pair] in full if a struct holds one in
//     an unexported field: hold a pointer there.
package provider
