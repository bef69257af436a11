// Package policy decides: may this access token be served, is this grant due, may its refresh token be
// presented, who is at fault, when is it tried again. It holds every duration and every reason of those
// decisions.
//
// All of it is pure. A decision is a function of a [View] of the grant, or of an [App] view of the app's
// state, and of a random number where processes must not act together. Nothing here reads a clock, waits,
// or talks to Redis or to the provider.
//
//   - [Decide]: what a flight does next about a grant.
//   - [Rules.Plan]: what the renewals in the background do about it.
//   - [Rules.AfterFailure] and what it leads to: what a failed exchange makes of it.
//   - [Gate]: whether the app's state lets one more exchange through.
//
// Where somebody else must act, a decision carries a [Trouble]: who acts, and why. Times are Redis' clock,
// unix ms; 0 is none.
package policy
