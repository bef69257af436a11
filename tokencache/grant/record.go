package grant

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// as scripts have it

// ClockTolerance is by how much, in ms, clocks may differ before one of them counts as set.
const ClockTolerance = 2000

// RestoreQuiet is for how long nobody presents a restored generation: a worker that
// remembers a newer one needs a moment to say so.
const RestoreQuiet = time.Second

// State of a grant.
type State string

// The states of a grant.
const (
	Active       State = "active"       // has a pair
	Reauthorize  State = "reauthorize"  // the tenant must consent again
	Disconnected State = "disconnected" // a tombstone
)

// Schema is the version of record, sealed pair and message. A process leaves a newer one alone.
const Schema = 2

// Record is a grant's plain state as it stands in Redis, without any token.
// Times are Redis' clock, unix ms; 0 means none.
type Record struct {
	Schema     int64
	Generation int64
	Epoch      int64
	Rev        int64 // counts the state changes
	State      State
	Reason     string

	IssuedAt, ExpiresAt, RefreshAt, RefreshTokenExpiresAt int64
	AccessFP, RefreshFP                                   string
	By, CommitID                                          string // of the last state change

	UsedAt   int64 // coarse: somebody asked for the access token
	WarnedAt int64 // it was said that the refresh token ends at a fixed date

	Claim Claim

	Fails   int64
	RetryAt int64
	Error   string // class/code/status
	ErrorAt int64

	RefusedAt int64 // since when, with no pair in between, it is refused in ways that no rule knows
	Revivals  int64 // how often it was presented again since it died

	Rejects     int64 // exchanges in a row that refused access tokens have forced
	RejectAt    int64 // before it no other is
	RejectedGen int64 // generation whose access token forced the last

	ConsentID  string // of the call that began this epoch: Connect or Disconnect
	ConsentFP  string // the pair that it brought: fingerprints of refresh and access token
	Past       string // the calls that began the epochs before: what a Connect brought, the id of a Disconnect
	Spent      string // the last few refresh tokens that were redeemed: fingerprints, newest first
	SpareEpoch int64  // of the consent whose pair lies spare; 0 for none, or a sibling's

	Foreign    int64 // generations in a row at which somebody else seems to use the grant too
	ForeignGen int64 // the last of them

	// Lived is the age in seconds at which access tokens have died before their time: "3600x2" for two
	// generations in a row; "3420" for the life that they are taken to have since.
	Lived string
}

// Claim is the durable note that somebody presents this generation.
type Claim struct {
	ID, By string
	At     int64 // of the first presentation of this generation
	Until  int64 // hard deadline: after it no answer comes back
	Prior  int64 // hard deadline of an earlier, unresolved claim
	N      int64 // presentations whose outcome is unknown, this one included
}

// Refused reports whether an API has refused the current access token, and this was let count
// (see [Grant.Reject]).
func (r *Record) Refused() bool { return r.RejectedGen != 0 && r.RejectedGen == r.Generation }

// WaitsUntil returns until when, by Redis' clock, nobody presents this generation; 0 for no wait. A wait
// that began in the future says that Redis' clock has been set back since: nobody knows how much of
// it is left, and it would stand for as long as the clock was set back. So does one without a
// failure, as a restored grant has, that is longer than such waits are.
func (r *Record) WaitsUntil(now int64) int64 {
	switch {
	case r.RetryAt <= now, r.ErrorAt > now+ClockTolerance, r.Error == "" && r.Fails == 0 && r.RetryAt > now+2*RestoreQuiet.Milliseconds():
		return 0
	}
	return r.RetryAt
}

// Unresolved reports whether somebody is presenting the generation, or died over it.
func (c Claim) Unresolved() bool { return c.ID != "" }

// field binds a record's Redis field to its place in the struct.
type field struct {
	Name    string
	text    func(*Record) *string
	num     func(*Record) *int64
	counter bool // num is no time
}

// Fields are the fields of a record, in the order in which they are read.
var Fields = []field{
	{Name: "v", counter: true, num: func(r *Record) *int64 { return &r.Schema }},
	{Name: "gen", counter: true, num: func(r *Record) *int64 { return &r.Generation }},
	{Name: "epoch", num: func(r *Record) *int64 { return &r.Epoch }},
	{Name: "rev", counter: true, num: func(r *Record) *int64 { return &r.Rev }},
	{Name: "state", text: func(r *Record) *string { return (*string)(&r.State) }},
	{Name: "reason", text: func(r *Record) *string { return &r.Reason }},
	{Name: "issued_at", num: func(r *Record) *int64 { return &r.IssuedAt }},
	{Name: "expires_at", num: func(r *Record) *int64 { return &r.ExpiresAt }},
	{Name: "refresh_at", num: func(r *Record) *int64 { return &r.RefreshAt }},
	{Name: "rt_expires_at", num: func(r *Record) *int64 { return &r.RefreshTokenExpiresAt }},
	{Name: "used_at", num: func(r *Record) *int64 { return &r.UsedAt }},
	{Name: "warned_at", num: func(r *Record) *int64 { return &r.WarnedAt }},
	{Name: "at_fp", text: func(r *Record) *string { return &r.AccessFP }},
	{Name: "rt_fp", text: func(r *Record) *string { return &r.RefreshFP }},
	{Name: "by", text: func(r *Record) *string { return &r.By }},
	{Name: "commit_id", text: func(r *Record) *string { return &r.CommitID }},
	{Name: "claim_id", text: func(r *Record) *string { return &r.Claim.ID }},
	{Name: "claim_by", text: func(r *Record) *string { return &r.Claim.By }},
	{Name: "claim_at", num: func(r *Record) *int64 { return &r.Claim.At }},
	{Name: "claim_until", num: func(r *Record) *int64 { return &r.Claim.Until }},
	{Name: "claim_prior", num: func(r *Record) *int64 { return &r.Claim.Prior }},
	{Name: "claim_n", counter: true, num: func(r *Record) *int64 { return &r.Claim.N }},
	{Name: "fails", counter: true, num: func(r *Record) *int64 { return &r.Fails }},
	{Name: "retry_at", num: func(r *Record) *int64 { return &r.RetryAt }},
	{Name: "error", text: func(r *Record) *string { return &r.Error }},
	{Name: "error_at", num: func(r *Record) *int64 { return &r.ErrorAt }},
	{Name: "refused_at", num: func(r *Record) *int64 { return &r.RefusedAt }},
	{Name: "revivals", counter: true, num: func(r *Record) *int64 { return &r.Revivals }},
	{Name: "rejects", counter: true, num: func(r *Record) *int64 { return &r.Rejects }},
	{Name: "reject_at", num: func(r *Record) *int64 { return &r.RejectAt }},
	{Name: "rejected_gen", counter: true, num: func(r *Record) *int64 { return &r.RejectedGen }},
	{Name: "foreign", counter: true, num: func(r *Record) *int64 { return &r.Foreign }},
	{Name: "foreign_gen", counter: true, num: func(r *Record) *int64 { return &r.ForeignGen }},
	{Name: "lived", text: func(r *Record) *string { return &r.Lived }},
	{Name: "consent_id", text: func(r *Record) *string { return &r.ConsentID }},
	{Name: "consent_fp", text: func(r *Record) *string { return &r.ConsentFP }},
	{Name: "past", text: func(r *Record) *string { return &r.Past }},
	{Name: "spent", text: func(r *Record) *string { return &r.Spent }},
	{Name: "spare_epoch", num: func(r *Record) *int64 { return &r.SpareEpoch }},
}

// FieldNames are the fields in the order in which read asks for them.
var FieldNames = func() []string {
	names := make([]string, len(Fields))
	for i, f := range Fields {
		names[i] = f.Name
	}
	return names
}()

var fieldByName = func() map[string]field {
	m := make(map[string]field, len(Fields))
	for _, f := range Fields {
		m[f.Name] = f
	}
	return m
}()

// Parse reads a record's text, one line a field.
func (r *Record) Parse(text string) error {
	for line := range strings.SplitSeq(text, "\n") {
		name, value, _ := strings.Cut(line, " ")
		if err := r.Set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// Set stores one field. Unknown ones are ignored: a newer version may add some.
func (r *Record) Set(name, value string) error {
	if f, ok := fieldByName[name]; ok {
		return f.Set(r, value)
	}
	return nil
}

func (f field) Set(r *Record, value string) error {
	switch {
	case f.text != nil:
		if len(value) > MaxValue || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
			return fmt.Errorf("%w (%s is no line of %d bytes at most)", ErrDamaged, f.Name, MaxValue)
		}
		*f.text(r) = value
		return nil
	case value == "":
		*f.num(r) = 0
		return nil
	}
	n, err := ParseNumber(value, MaxCounter)
	if err != nil {
		return fmt.Errorf("%w (%s=%q %w)", ErrDamaged, f.Name, Clip(value), err)
	}
	*f.num(r) = n
	return nil
}

// Flat are the record's fields as names and values.
func (r *Record) Flat() []any {
	out := make([]any, 0, 2*len(Fields))
	for _, f := range Fields {
		if f.text != nil {
			out = append(out, f.Name, *f.text(r))
		} else {
			out = append(out, f.Name, Millis(*f.num(r)))
		}
	}
	return out
}

// MaxCounter is below 2^53: scripts count in doubles.
const MaxCounter = 9e15

// century is how far from now a time can lie, in ms.
const century = 100 * 31_557_600_000

// ErrDamaged is in the chain of the error about a record that cannot be true: somebody else has
// written to it. A process that remembers the grant puts it right; else a new consent begins anew.
var ErrDamaged = errors.New("tokencache: the record in Redis is damaged; a new consent begins it anew")

// ErrNewer is in the chain of the error about a record that a later version of this program wrote.
var ErrNewer = errors.New("tokencache: a later version of this program wrote the record: upgrade this process; others go on")

// ParseNumber reads a number that a record or a message holds: a whole one, not negative, at most `most`.
func ParseNumber(text string, most int64) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || text[0] < '0' || len(text) > MaxValue: // a sign; many zeros
		return 0, errors.New("is no whole number")
	case n < 0 || n > most:
		return 0, errors.New("is out of all bounds")
	}
	return n, nil
}

// Check reports what cannot be true of a record, as the function ill (common.lua) does. A record
// comes from anybody who may write to Redis, and what is believed here becomes a deadline, or a lock-out.
func (r *Record) Check(now int64) error {
	if r.Schema > Schema && r.Schema < 1000 {
		return ErrNewer
	}
	for _, f := range Fields {
		if f.num != nil && !f.counter && *f.num(r) > now+century {
			return fmt.Errorf("%w (%s is more than a hundred years ahead)", ErrDamaged, f.Name)
		}
	}
	switch {
	case r.State != Active && r.State != Reauthorize && r.State != Disconnected:
		return fmt.Errorf("%w (unknown state %q)", ErrDamaged, Clip(string(r.State)))
	case r.Epoch == 0:
		return fmt.Errorf("%w (no epoch)", ErrDamaged)
	}
	return nil
}

// Compare orders the states of a grant by (epoch, generation, rev).
func (r *Record) Compare(o *Record) int {
	return cmp.Or(cmp.Compare(r.Epoch, o.Epoch), cmp.Compare(r.Generation, o.Generation), cmp.Compare(r.Rev, o.Rev))
}

// Millis writes 0 as the empty string, which people read as "none".
func Millis(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// MaxValue bounds the text of a field, in bytes.
const MaxValue = 64 // longer ones would make Redis give up the compact encoding

// Clip makes s fit for a record field: one line of at most 64 printable bytes.
func Clip(s string) string {
	s = strings.Map(func(c rune) rune {
		if c <= ' ' || c > '~' {
			return '_'
		}
		return c
	}, s)
	return s[:min(len(s), MaxValue)]
}

// Spend lists the redeemed refresh tokens once the successor is stored, as the function spend in
// common.lua does: fingerprints, newest first.
func (r *Record) Spend(successor string) string {
	if r.RefreshFP == "" || r.RefreshFP == successor {
		return r.Spent
	}
	list := append([]string{r.RefreshFP[:min(8, len(r.RefreshFP))]}, strings.Fields(r.Spent)...)
	return strings.Join(list[:min(len(list), 7)], " ")
}

// WrittenAt returns when a grant's pair, or what happened to that since, was written.
func (r *Record) WrittenAt() int64 { return max(r.IssuedAt, r.Claim.At, r.ErrorAt) }

// ChangedAt returns when a grant's state changed last, by Redis' clock: a consent, a commit, a claim
// or a failure.
func (r *Record) ChangedAt() int64 { return max(r.Epoch, r.IssuedAt, r.Claim.At, r.ErrorAt) }
