package redistest

import (
	"os/exec"
	"syscall"
)

// dieWithParent leaves no orphan behind when the test process is killed, or
// ends by -timeout before its clean-up.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
