//go:build unix

package integration

import (
	"syscall"
	"time"
)

// stop is SIGSTOP: the process stands still until cont, and knows nothing of it. The
// signal takes a moment to stop all of its threads, for which stop waits.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Fatalf("stop %s: %v", p.name, err)
	}
	for end := time.Now().Add(patience); !stopped(p.cmd.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("%s does not stop", p.name)
		}
	}
}

func (p *process) cont() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		p.t.Fatalf("continue %s: %v", p.name, err)
	}
}
