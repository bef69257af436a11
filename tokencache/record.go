package tokencache

import (
	"fmt"
	"strconv"
	"strings"
)

// State of a grant.
type State string

// The states of a grant.
const (
	Active       State = "active"       // has a pair
	Reauthorize  State = "reauthorize"  // the tenant must consent again
	Disconnected State = "disconnected" // a tombstone
)

const schema = 1

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

	Rejects     int64 // exchanges in a row that refused access tokens have forced
	RejectAt    int64 // before it no other is
	RejectedGen int64 // generation whose access token forced the last

	Foreign    int64 // generations in a row at which somebody else seems to use the grant too
	ForeignGen int64 // the last of them
}

// Claim is the durable note that somebody presents this generation.
type Claim struct {
	ID, By string
	At     int64 // of the first presentation of this generation
	Until  int64 // hard deadline: after it no answer comes back
	Prior  int64 // hard deadline of an earlier, unresolved claim
	N      int64 // presentations whose outcome is unknown, this one included
}

// Unresolved reports whether somebody is presenting the generation, or died over it.
func (c Claim) Unresolved() bool { return c.ID != "" }

// field binds a record's Redis field to its place in the struct.
type field struct {
	name string
	text func(*Record) *string
	num  func(*Record) *int64
}

var fields = []field{
	{name: "v", num: func(r *Record) *int64 { return &r.Schema }},
	{name: "gen", num: func(r *Record) *int64 { return &r.Generation }},
	{name: "epoch", num: func(r *Record) *int64 { return &r.Epoch }},
	{name: "rev", num: func(r *Record) *int64 { return &r.Rev }},
	{name: "state", text: func(r *Record) *string { return (*string)(&r.State) }},
	{name: "reason", text: func(r *Record) *string { return &r.Reason }},
	{name: "issued_at", num: func(r *Record) *int64 { return &r.IssuedAt }},
	{name: "expires_at", num: func(r *Record) *int64 { return &r.ExpiresAt }},
	{name: "refresh_at", num: func(r *Record) *int64 { return &r.RefreshAt }},
	{name: "rt_expires_at", num: func(r *Record) *int64 { return &r.RefreshTokenExpiresAt }},
	{name: "used_at", num: func(r *Record) *int64 { return &r.UsedAt }},
	{name: "warned_at", num: func(r *Record) *int64 { return &r.WarnedAt }},
	{name: "at_fp", text: func(r *Record) *string { return &r.AccessFP }},
	{name: "rt_fp", text: func(r *Record) *string { return &r.RefreshFP }},
	{name: "by", text: func(r *Record) *string { return &r.By }},
	{name: "commit_id", text: func(r *Record) *string { return &r.CommitID }},
	{name: "claim_id", text: func(r *Record) *string { return &r.Claim.ID }},
	{name: "claim_by", text: func(r *Record) *string { return &r.Claim.By }},
	{name: "claim_at", num: func(r *Record) *int64 { return &r.Claim.At }},
	{name: "claim_until", num: func(r *Record) *int64 { return &r.Claim.Until }},
	{name: "claim_prior", num: func(r *Record) *int64 { return &r.Claim.Prior }},
	{name: "claim_n", num: func(r *Record) *int64 { return &r.Claim.N }},
	{name: "fails", num: func(r *Record) *int64 { return &r.Fails }},
	{name: "retry_at", num: func(r *Record) *int64 { return &r.RetryAt }},
	{name: "error", text: func(r *Record) *string { return &r.Error }},
	{name: "error_at", num: func(r *Record) *int64 { return &r.ErrorAt }},
	{name: "rejects", num: func(r *Record) *int64 { return &r.Rejects }},
	{name: "reject_at", num: func(r *Record) *int64 { return &r.RejectAt }},
	{name: "rejected_gen", num: func(r *Record) *int64 { return &r.RejectedGen }},
	{name: "foreign", num: func(r *Record) *int64 { return &r.Foreign }},
	{name: "foreign_gen", num: func(r *Record) *int64 { return &r.ForeignGen }},
}

// fieldNames are the fields in the order in which read asks for them.
var fieldNames = func() []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}()

var fieldByName = func() map[string]field {
	m := make(map[string]field, len(fields))
	for _, f := range fields {
		m[f.name] = f
	}
	return m
}()

// parse reads a record's text, one line a field.
func (r *Record) parse(text string) error {
	for line := range strings.SplitSeq(text, "\n") {
		name, value, _ := strings.Cut(line, " ")
		if err := r.set(name, value); err != nil {
			return err
		}
	}
	return nil
}

// set stores one field. Unknown ones are ignored: a newer version may add some.
func (r *Record) set(name, value string) error {
	if f, ok := fieldByName[name]; ok {
		return f.set(r, value)
	}
	return nil
}

func (f field) set(r *Record, value string) error {
	switch {
	case f.text != nil:
		*f.text(r) = value
		return nil
	case value == "":
		*f.num(r) = 0
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return fmt.Errorf("tokencache: record field %s=%q is not a whole number", f.name, clip(value))
	}
	*f.num(r) = n
	return nil
}

// flat are the record's fields as names and values.
func (r *Record) flat() []any {
	out := make([]any, 0, 2*len(fields))
	for _, f := range fields {
		if f.text != nil {
			out = append(out, f.name, *f.text(r))
		} else {
			out = append(out, f.name, msText(*f.num(r)))
		}
	}
	return out
}

func (r *Record) check() error {
	if r.Schema > schema {
		return fmt.Errorf("tokencache: the record has schema %d, this program knows %d: upgrade it", r.Schema, schema)
	}
	if r.Generation == 0 && r.Epoch == 0 {
		return fmt.Errorf("tokencache: the record has neither generation nor epoch: it was not written by tokenlatch")
	}
	return nil
}

// compare orders the states of a grant by (epoch, generation, rev).
func (r *Record) compare(o *Record) int {
	switch {
	case r.Epoch != o.Epoch:
		return sign(r.Epoch - o.Epoch)
	case r.Generation != o.Generation:
		return sign(r.Generation - o.Generation)
	default:
		return sign(r.Rev - o.Rev)
	}
}

func sign(n int64) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// msText writes 0 as the empty string, which people read as "none".
func msText(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

const maxValue = 64 // bytes; longer ones would make Redis give up the compact encoding

// clip makes s fit for a record field: one line of at most 64 printable bytes.
func clip(s string) string {
	s = strings.Map(func(c rune) rune {
		if c <= ' ' || c > '~' {
			return '_'
		}
		return c
	}, s)
	return s[:min(len(s), maxValue)]
}
