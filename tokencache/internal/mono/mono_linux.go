package mono

import (
	"time"

	"golang.org/x/sys/unix"
)

var bootTime = func() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
