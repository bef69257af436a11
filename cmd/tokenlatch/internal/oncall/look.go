package oncall

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/explain"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// The states that people see. They say more than the stored ones: a claim whose holder has gone
// silent, or a pause after a failure.
const (
	Active       = "active"       // there is a token, or a refresh brings one
	Refreshing   = "refreshing"   // a process that has the lease presents the refresh token
	Waiting      = "waiting"      // there is no token now, and there will be one by itself
	Suspect      = "suspect"      // trying has not helped so far
	Reauthorize  = "reauthorize"  // the tenant must consent again
	Disconnected = "disconnected" // a tombstone
	Damaged      = "damaged"      // the record cannot be true
	Newer        = "newer"        // a later version wrote the record
)

// States are all of them.
var States = []string{Active, Refreshing, Waiting, Suspect, Reauthorize, Disconnected, Damaged, Newer}

// Who acts next.
const (
	Nobody       = "nobody"
	Tenant       = "tenant"
	Operator     = "operator"
	Provider     = "provider"
	OtherProgram = "other_program"
)

// Finding is what a record says to people on call.
type Finding struct {
	State   string
	Trouble bool      // somebody should know
	Since   time.Time // when that state began; zero for unknown
	Why     string    // one line; "" if all is well
	Who     string    // who acts next
}

// slowAfter is how long a refresh may take before it counts as trouble.
const slowAfter = time.Minute

// Look says what a row means, in the few words for which a list has room.
func Look(row *inspect.Row) Finding {
	r := &row.Record
	switch {
	case errors.Is(row.Err, grant.ErrNewer):
		return Finding{State: Newer, Trouble: true, Why: "a later version wrote the record: upgrade this command", Who: Operator}
	case row.Err != nil:
		return Finding{State: Damaged, Trouble: true, Why: "the record cannot be true" + detail(row.Err), Who: Operator}
	case r.State == grant.Disconnected:
		return Finding{State: Disconnected, Since: grant.Time(r.Epoch), Why: "disconnected by " + r.By, Who: Nobody}
	case r.State == grant.Reauthorize:
		return dead(r)
	case r.Claim.Unresolved() && (row.Lease.By != "" || !answered(row)):
		return claimed(row)
	}
	return living(row)
}

// CodeOf is the code of a grant's explanation, by what its row says alone. `tokenlatch explain` reads more,
// and may know better.
func CodeOf(row *inspect.Row) string { return explain.Judge(CaseOf(row)).Code }

// Unattended reports whether the operator must act about a claim that nobody takes over, as explain says it.
func Unattended(row *inspect.Row) bool {
	if row.Err != nil || !row.Record.Claim.Unresolved() {
		return false
	}
	e := explain.Judge(CaseOf(row))
	return e.Code == "TL203" && e.Who == explain.Operator
}

// CaseOf returns what a row knows of its grant's case.
func CaseOf(row *inspect.Row) explain.Case {
	c := explain.Case{App: row.App, Tenant: row.Tenant, Damaged: row.Err, Now: row.Now}
	if row.Err == nil {
		c.Record = &row.Record
	}
	c.Trace = journal.Trace{Left: row.Lease.Left, Now: row.Now}
	if row.Lease.By != "" {
		c.Trace.Lease = row.Lease.By + "/" // its value ends with a nonce
	}
	return c
}

// detail returns what stands in brackets at the end of an error.
func detail(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, " ("); i >= 0 && strings.HasSuffix(text, ")") {
		return text[i:]
	}
	return ""
}

// dead is about a grant whose tenant must consent again.
func dead(r *grant.Record) Finding {
	f := Finding{State: Reauthorize, Trouble: true, Since: grant.Time(r.ErrorAt), Who: Tenant}
	if f.Since.IsZero() {
		f.Since = grant.Time(r.Epoch)
	}
	switch r.Reason {
	case "invalid_grant":
		f.Why = "the provider refused or revoked the grant" + answer(r.Error)
	case "lost_response":
		f.Why = "an exchange's answer was lost, and its token is spent" + answer(r.Error)
	case "refresh_token_expired":
		f.Why = "its refresh token had ended"
	case "external_rotation":
		f.Why, f.Who = "another program refreshed the same grant, several times in a row", OtherProgram
	case "refused_for_long":
		f.Why, f.Who = "refused to the end in ways that no rule knows"+answer(r.Error), Operator
	default:
		f.Why = r.Reason
	}
	return f
}

// answered reports whether the exchange under an unresolved claim has ended, without telling whether the
// refresh token is spent, and nobody may present it yet.
func answered(row *inspect.Row) bool {
	r := &row.Record
	return r.Fails > 0 && r.ErrorAt >= r.Claim.At && r.WaitsUntil(row.Now) != 0 && !strings.Contains(r.Error, "/slow_exchange/")
}

// claimed is about a grant whose refresh token is being presented, or was.
func claimed(row *inspect.Row) Finding {
	c := row.Record.Claim
	since := time.Duration(row.Now-c.At) * time.Millisecond
	f := Finding{State: Refreshing, Since: grant.Time(c.At), Who: Nobody}
	if row.Lease.By != "" {
		f.Why = fmt.Sprintf("%s presents generation %d, for %s", c.By, row.Record.Generation, Span(since))
		f.Trouble = since > slowAfter
		return f
	}
	f.State, f.Trouble = Waiting, true
	f.Who = explain.Judge(CaseOf(row)).Who // after a while somebody must act
	f.Why = fmt.Sprintf("%s went silent over generation %d; ", c.By, row.Record.Generation)
	if left := time.Duration(c.Until-row.Now) * time.Millisecond; left > 0 {
		f.Why += "hard deadline in " + Span(left)
	} else {
		f.Why += "hard deadline passed " + Span(-left) + " ago"
	}
	if f.Who == Operator {
		f.Why += ", and nobody takes over"
	}
	return f
}

// living is about an active grant that nobody refreshes just now.
func living(row *inspect.Row) Finding {
	r := &row.Record
	expired := r.ExpiresAt != 0 && r.ExpiresAt <= row.Now
	f := Finding{State: Active, Since: grant.Time(r.IssuedAt), Who: Nobody}
	switch {
	case r.Reason != "":
		f = Finding{State: Suspect, Trouble: true, Since: grant.Time(max(r.ErrorAt, r.IssuedAt)), Why: suspicion(r), Who: Operator}
		if strings.HasPrefix(r.Error, "mass_death/") {
			f.Who = Provider
		}
	case r.Fails > 0:
		f = failing(row)
		if !expired {
			f.State = Active
		}
	case r.Foreign > 0 && r.ForeignGen >= r.Generation-1:
		f.Trouble, f.Who = true, OtherProgram
		f.Why = "external_rotation? " + times(r.Foreign, "first sign", "%d generations in a row died early")
	case r.RefreshTokenExpiresAt != 0 && r.RefreshTokenExpiresAt <= row.Now:
		f.Trouble, f.Who, f.Why = true, Tenant, "its refresh token has ended"
	case r.WarnedAt != 0:
		f.Trouble, f.Who = true, Tenant
		f.Why = "its consent ends in " + Span(time.Duration(r.RefreshTokenExpiresAt-row.Now)*time.Millisecond) + ", whatever is done"
	case expired && !InUse(row):
		f.Why = "idle: the next caller gets a new token"
	case expired:
		f.Why = "no valid token: the next caller gets a new one"
	}
	return f
}

// inUseFor is how long after its token was asked for a grant is in use: the default of
// refresh.Config.IdleAfter.
const inUseFor = 25 * time.Hour

// InUse reports whether somebody has asked for a grant's token lately, so that Run renews it.
func InUse(row *inspect.Row) bool {
	used := row.Record.UsedAt
	return used != 0 && row.Now-used < inUseFor.Milliseconds()
}

func suspicion(r *grant.Record) string {
	switch {
	case r.Reason != Suspect:
		return r.Reason
	case strings.HasPrefix(r.Error, "mass_death/"):
		return "the provider calls many grants dead at once, which is not believed"
	case r.Error != "":
		return "answers that no rule knows" + answer(r.Error)
	}
	return "an API refuses one access token after the other"
}

// failing is about a grant whose last exchange failed.
func failing(row *inspect.Row) Finding {
	r := &row.Record
	class, _, _ := strings.Cut(r.Error, "/")
	f := Finding{State: Waiting, Trouble: true, Since: grant.Time(r.ErrorAt), Who: Provider}
	switch class {
	case "app_refused":
		f.Why, f.Who = "the provider refuses the client", Operator
	case "reauthorize":
		f.Why, f.Who = "the provider refuses the grant", Tenant
	case "throttled":
		f.Why = "the provider wants a pause"
	case "unsent":
		f.Why, f.Who = "the request did not reach the provider", Nobody
	default:
		f.Why = "the exchange failed"
	}
	f.Why += answer(r.Error)
	if left := time.Duration(r.WaitsUntil(row.Now)-row.Now) * time.Millisecond; left > 0 {
		f.Why += "; next try in " + Span(left)
	} else {
		f.Why += "; to be tried again"
	}
	if r.Fails > 1 {
		f.Why += fmt.Sprintf(" (%d in a row)", r.Fails)
	}
	return f
}

// answer returns what the provider answered, from class/code/status.
func answer(text string) string {
	part := strings.Split(text, "/")
	if len(part) != 3 {
		return ""
	}
	var said []string
	if part[1] != "" {
		said = append(said, part[1])
	}
	if part[2] != "" && part[2] != "0" {
		said = append(said, "HTTP "+part[2])
	}
	if len(said) == 0 {
		return ""
	}
	return " (" + strings.Join(said, ", ") + ")"
}

func times(n int64, once, often string) string {
	if n == 1 {
		return once
	}
	return fmt.Sprintf(often, n)
}

// Acts says who acts, to the person on call; "" if there is nothing to do.
func (f Finding) Acts() string {
	if f.Who == Nobody && !f.Trouble {
		return ""
	}
	return Actor(f.Who)
}

// Actor returns what people on call call those who act.
func Actor(who string) string {
	switch who {
	case Operator:
		return "you"
	case OtherProgram:
		return "you: who else?"
	}
	return who
}
