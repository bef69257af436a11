package refreshtest

import (
	"context"
	"time"
)

// awaitPatience is how long the Await functions that take a TB wait before they
// fail the test.
const awaitPatience = 30 * time.Second

// TB is the part of testing.TB that this package needs. With it programs that
// use the server need not link package testing.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}
