package refreshtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// Presentation is one arrival of a refresh token at the token endpoint, or of a request to
// mint an access token without one. Times
// are of the server's clock, see Advance. It prints without the token.
type Presentation struct {
	N           int    // 1 for the first arrival
	Tenant      string // empty for a token the server never issued
	Consent     int    // which Grant of the tenant the token comes from, from 1
	Generation  int64  // the token's place in that family: 1 for the pair of the consent
	Fingerprint string // of the refresh token; see Fingerprint. Empty for a mint
	Slot        string // of a mint: its token_index, "0" where none was sent
	UserAgent   string // lets a test tell its workers apart
	Remote      string // address of the client

	Outcome Outcome
	Code    string // error code answered (RFC 6749 §5.2); empty for a pair or a scripted answer
	// SpentAt is when the token had first been redeemed, as of Decided. Zero: it
	// was unspent until then.
	SpentAt time.Time

	Fault  Fault // what the server did to the connection
	Status int   // HTTP status sent; 0 if none was
	// Gone: the connection was seen to have ended before the answer. A client that
	// is not Gone may still have missed it.
	Gone bool

	Arrived  time.Time
	Decided  time.Time // zero while Outcome is Pending
	Answered time.Time // zero while in flight

	mint *mint
	raw  func() string // a func, since nothing that prints or dumps values looks into one
}

// RefreshToken is the token itself.
func (p Presentation) RefreshToken() string {
	if p.raw == nil {
		return ""
	}
	return p.raw()
}

// String is one line for people, without the token.
func (p Presentation) String() string {
	var b strings.Builder
	if p.Slot != "" {
		fmt.Fprintf(&b, "#%d %s slot %s: %s", p.N, p.Tenant, p.Slot, p.Outcome)
	} else {
		fmt.Fprintf(&b, "#%d %s generation %d (%s): %s", p.N, p.Tenant, p.Generation, p.Fingerprint, p.Outcome)
	}
	if p.Status != 0 {
		fmt.Fprintf(&b, ", answered %d", p.Status)
	}
	if p.Fault != NoFault {
		fmt.Fprintf(&b, ", answer lost by %s", p.Fault)
	}
	if p.Gone {
		b.WriteString(", client gone")
	}
	return b.String()
}

// Ledger is every presentation of every refresh token, and every mint, in order of arrival.
type Ledger []Presentation

// Presentations returns those of one tenant.
func (l Ledger) Presentations(tenant string) Ledger {
	return l.where(func(p Presentation) bool { return p.Tenant == tenant })
}

// Outcome returns the presentations that ended in one of the outcomes.
func (l Ledger) Outcome(outcomes ...Outcome) Ledger {
	return l.where(func(p Presentation) bool { return slices.Contains(outcomes, p.Outcome) })
}

// Exchanges counts the requests that presented a refresh token or asked to mint, whatever came
// of them.
func (l Ledger) Exchanges() int { return len(l) }

// Pairs counts the presentations that brought a pair, delivered or not.
func (l Ledger) Pairs() int {
	return len(l.where(func(p Presentation) bool { return p.Outcome.Committed() }))
}

// PerToken counts the presentations of each refresh token, by fingerprint. Mints present none.
func (l Ledger) PerToken() map[string]int {
	n := make(map[string]int)
	for _, p := range l {
		if p.mint == nil {
			n[p.Fingerprint]++
		}
	}
	return n
}

// Violations returns the presentations of a refresh token that was already spent,
// where the profile does not permit that. ReplayHarmless and ReplaySamePair always
// permit it, ReplayGrace inside its window, the others never.
//
// Of two presentations at the same time, the one that was decided later is a violation.
// A last attempt to recover after a lost answer is one, too: a test of such an attempt
// expects exactly that one.
func (l Ledger) Violations(p provider.Profile) Ledger {
	return l.where(func(pres Presentation) bool { return pres.violates(p) })
}

func (p Presentation) violates(profile provider.Profile) bool {
	if p.SpentAt.IsZero() {
		return false
	}
	switch profile.Replay {
	case provider.ReplayHarmless, provider.ReplaySamePair:
		return false
	case provider.ReplayGrace:
		return p.Decided.Sub(p.SpentAt) > profile.Grace
	default:
		return true
	}
}

// String is one line per presentation.
func (l Ledger) String() string {
	var b strings.Builder
	for _, p := range l {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

func (l Ledger) where(keep func(Presentation) bool) Ledger {
	var kept Ledger
	for _, p := range l {
		if keep(p) {
			kept = append(kept, p)
		}
	}
	return kept
}

// Peak is the largest number of exchanges that arrived within any stretch of that length.
func (l Ledger) Peak(stretch time.Duration) int {
	peak, from := 0, 0
	for i, p := range l { // in the order of arrival
		for p.Arrived.Sub(l[from].Arrived) >= stretch {
			from++
		}
		peak = max(peak, i-from+1)
	}
	return peak
}

// InFlight is the largest number of exchanges that were under way at once.
func (l Ledger) InFlight() int {
	peak := 0
	for _, at := range l {
		n := 0
		for _, p := range l {
			if !p.Arrived.After(at.Arrived) && (p.Answered.IsZero() || p.Answered.After(at.Arrived)) {
				n++
			}
		}
		peak = max(peak, n)
	}
	return peak
}
