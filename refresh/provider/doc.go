// Package provider says what an OAuth provider is: what it does with a refresh
// token (a [Profile], which is data), how to ask it for a new pair (an
// [Exchanger], which sends one request), and what its answer means ([Classify],
// which is pure).
//
// The smallest program:
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
//  1. The client authenticates in one way that is stated beforehand
//     (oauth2.Config.Endpoint.AuthStyle or Profile.AuthStyle). Finding it out by
//     trial, as x/oauth2 does by default, presents the token twice.
//     A client may show a key instead ([ClientAssertion], [MutualTLS], [DPoP]).
//  2. No redirect is followed and nothing is retried. net/http cannot resend the
//     request when a reused connection turns out to be dead.
//  3. The answer is read up to 1 MiB, whatever its Content-Type, and leniently:
//     a success that cannot be read is a pair that is lost. So pairs and errors are also
//     found below the top, and under other names; see [Classify].
//
// # What an answer means
//
// A pair, or an [*Error] whose [Class] says who acts next:
//
//   - Reauthorize: the refresh token is refused. The tenant acts, once the caller
//     has made sure that no other process has replaced it meanwhile.
//   - AppRefused: the client is refused, or TokenURL is wrong. The operator acts.
//     Only [Error.ClientRefused] is certainly no tenant's fault.
//   - Throttled, Busy: not processed, ask later; see RetryAfter.
//   - Unsent: the refresh token never left this process. Present it again.
//   - Refused: a refusal that no rule knows. Try again, ever more rarely.
//   - Ambiguous: the refresh token may be spent and the new pair lost. What is
//     safe now depends on [Profile.Replay]. Every 5xx is, also one that names a time
//     to come back.
//
// Whatever the class, [Error.Throttles] says that the provider wants fewer requests.
//
// Unsent is proved, not guessed: the token travels in the request's body, and
// nobody has read a byte of it. Where there is doubt, it is Ambiguous.
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
// A profile also says what is asked of the token endpoint ([Request]), where that is per tenant
// ([PerTenant]), and how APIs refuse a token without a 401 ([APIRefusal]).
//
// # What is not promised
//
// Exactly once: no transaction spans the provider and anything else, and an
// Ambiguous exchange stays so. That a [TokenEndpoint.Transport] of your own sends
// once: one that retries breaks the rule above. That an [Exchanger] prevents two
// workers from presenting the same token: that is the caller's claim to make
// before it calls. And no printer is safe from a struct's unexported fields:
// fmt prints a [Grant] or [Pair] held in one in full, so hold pointers there.
package provider
