package cli

import (
	"errors"
	"time"
)

// Exit codes of every command.
const (
	ExitOK          = 0
	ExitFailed      = 1   // it ran, and the answer is no
	ExitUsage       = 2   // it was not understood
	ExitTenant      = 3   // the tenant must act
	ExitLater       = 4   // try again, after Error.RetryAfter
	ExitFindings    = 5   // --fail-on or --exit-code found something
	ExitUnconfirmed = 6   // it changes something, and was not confirmed
	ExitInterrupted = 130 // Ctrl-C
)

// Error is how a command ends that does not end well.
type Error struct {
	Exit int
	Code string // for programs
	Err  error  // nil: all is said already
	Hint string // what to do next: a command, as a rule
	// RetryAfter is when trying again makes sense, with ExitLater; 0 for unknown.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Code
	}
	return e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Usage says that a command line was not understood.
func Usage(err error) error { return &Error{Exit: ExitUsage, Code: "usage", Err: err} }

// Ended ends a command that has said all, with an exit code.
func Ended(code int) error {
	if code == ExitOK {
		return nil
	}
	return &Error{Exit: code, Code: "ended"}
}

// AsError is err as an Error: as one that failed unless it says otherwise.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Exit: ExitFailed, Code: "failed", Err: err}
}
