//go:build !linux

package integration

import (
	"os/exec"
	"strconv"
	"strings"
)

// dieWithParent needs nothing here: a worker ends with its stdin.
func dieWithParent(*exec.Cmd) {}

// stopped reports whether the process has stopped.
func stopped(pid int) bool {
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(state)), "T")
}
