package refreshtest

import (
	"net/http"
)

// Point is a place in an exchange where something can happen to it.
type Point uint8

const (
	// BeforeCommit: the request has arrived, nothing is spent.
	BeforeCommit Point = iota
	// AfterCommit: the server has decided. Unless it refused, the token is spent
	// and the new pair exists, and the client does not know it.
	AfterCommit
)

// Fault is what the server does to the connection instead of answering well.
type Fault string

const (
	// NoFault: the answer is sent.
	NoFault Fault = ""
	// Drop closes the connection (FIN) without a byte of an answer.
	Drop Fault = "drop"
	// Reset aborts the connection (RST) without a byte of an answer.
	Reset Fault = "reset"
	// Truncate announces the whole answer, sends half of its body and closes.
	Truncate Fault = "truncate"
)

// Step is what happens to one exchange. The zero Step lets it pass, so that a
// script can reach the second one.
//
//	server.Script(refreshtest.Step{At: refreshtest.AfterCommit, Fault: refreshtest.Drop})
//	server.Script(refreshtest.Step{Status: 429, Header: http.Header{"Retry-After": {"7"}}})
type Step struct {
	// Tenant restricts the step to exchanges of one tenant. Empty: any.
	Tenant string
	// Times is how many exchanges take the step. Default 1; negative: all, until
	// ClearScript.
	Times int
	// At is where Fault and Status act. The default, BeforeCommit, leaves the
	// refresh token unspent; AfterCommit loses a living pair.
	At Point
	// Fault is done to the connection.
	Fault Fault
	// Status, if not 0, is answered with Header and Body in place of the genuine
	// answer. Content-Type defaults to application/json.
	Status int
	Header http.Header
	Body   string
	// Edit, if not nil, changes the members of a genuine answer that holds a pair,
	// e.g. deletes "expires_in". It runs after the commit, whatever At says.
	Edit func(answer map[string]any)
}

// endsBeforeCommit reports whether the exchange gets no further than the step.
func (st Step) endsBeforeCommit() bool {
	return st.At == BeforeCommit && (st.Fault != NoFault || st.Status != 0)
}

// replace returns the scripted answer, or else the genuine one.
func (st Step) replace(genuine reply) reply {
	if st.Status == 0 {
		return genuine
	}
	header := st.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
	}
	return reply{status: st.Status, header: header, body: []byte(st.Body)}
}
