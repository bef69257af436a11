package redistest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// process is one run of redis-server. A goroutine owns it from start to exit.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed once the process is gone and reaped
}

func start(dir string, args, env []string) (*process, error) {
	server, err := binary()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(server, args...), log: filepath.Join(dir, "redis-server.log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, out, out
	dieWithParent(p.cmd)
	started := make(chan error, 1)
	go func() {
		defer out.Close()
		p.own(started)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// own starts the process and waits for its end. It keeps its thread for as long:
// on Linux the child dies with the thread that started it, not with the parent process.
func (p *process) own(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait() // killed, mostly; output tells the rest
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it is gone already
	<-p.done
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
