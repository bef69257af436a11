//go:build !linux

package mono

import "time"

// bootTime is a clock that runs on while the machine is suspended. Here Go's own does, or nothing does.
var bootTime func() time.Duration
