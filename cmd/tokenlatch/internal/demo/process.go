package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

// process is one run of a worker process.
type process struct {
	agent string
	cmd   *exec.Cmd
	done  chan struct{} // closed once it is gone and all it said was heard
	said  *tail

	ours atomic.Bool // its end is our doing

	mu sync.Mutex // guards in
	in *json.Encoder
}

// spawn starts this command again as a worker. hear gets what it says.
func spawn(s setup, hear func(news)) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{agent: s.Agent, cmd: exec.Command(exe, WorkerCommand), done: make(chan struct{}), said: &tail{}}
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, cli.RedisVariable+"=") }) // it is in s
	p.cmd.Stderr = p.said
	p.cmd.WaitDelay = time.Second
	dieWithParent(p.cmd)
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go p.own(out, hear, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("demo: start a worker: %w", err)
	}
	p.in = json.NewEncoder(in)
	return p, p.in.Encode(s)
}

// own starts the process and waits for its end. It keeps its thread for as long: on
// Linux the child dies with the thread that started it.
func (p *process) own(out io.Reader, hear func(news), started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	lines := json.NewDecoder(out)
	for {
		var n news
		if lines.Decode(&n) != nil { // gone, perhaps in mid-line
			break
		}
		hear(n)
	}
	_ = p.cmd.Wait() // killed, mostly
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// tell gives the process an order; one that is gone does not get it.
func (p *process) tell(o order) {
	if o.End {
		p.ours.Store(true)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.in.Encode(o)
}

// kill is SIGKILL: the process learns nothing of it.
func (p *process) kill() {
	p.ours.Store(true)
	_ = p.cmd.Process.Kill() // fails only if it is gone already
	<-p.done
}

// tail keeps the end of what a process wrote to stderr.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-4096):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}
