package demo

import (
	"os/exec"
	"syscall"
)

// dieWithParent: the end of stdin ends a worker too, but not one that is stopped.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
