package provider

import (
	"errors"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What the tests present. None of it may turn up in any error or print.
const (
	canaryRefresh = "rt-CANARY-presented-7f3a"
	canaryAccess  = "at-CANARY-presented-91bc"
	canarySecret  = "cs-CANARY-client-secret-55"
	canaryNew     = "at-CANARY-fresh-20de"
	canaryNewRT   = "rt-CANARY-fresh-64aa"
)

// asError fails the test unless err is an *Error.
func asError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("not an *Error: %T %v", err, err)
	}
	return e
}
