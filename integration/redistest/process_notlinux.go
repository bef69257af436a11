//go:build !linux

package redistest

import "os/exec"

// dieWithParent can do nothing here: a test process that is killed leaves
// its redis-server behind, on loopback and without persistence.
func dieWithParent(*exec.Cmd) {}
