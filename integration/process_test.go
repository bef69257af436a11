package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of the parent. It is long because many processes share few
// cores; what is promised to be fast is measured and asserted apart.
const patience = 90 * time.Second

// process is a worker as its parent sees it. A goroutine owns it from start to exit.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	log  lockedBuffer
	gone chan struct{} // closed once it is dead and reaped

	points chan answer // events: started, and the points it is caught at

	mu      sync.Mutex // guards what follows
	last    int
	pending map[int]chan answer
	killed  bool
	quiet   bool // its log is not shown when the test fails
}

// lockedBuffer collects a worker's stderr.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// launch starts a worker process and waits until it takes orders. It is ended with the
// test; a worker that detected a data race fails the test.
func launch(t testing.TB, cfg setup) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{
		t: t, name: cfg.Name, cmd: exec.Command(exe), gone: make(chan struct{}),
		points: make(chan answer, 16), pending: map[int]chan answer{},
	}
	p.cmd.Env = append(os.Environ(), workerEnv+"=1")
	p.cmd.Stderr = &p.log
	dieWithParent(p.cmd)
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go p.own(started, out)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	p.write(cfg)
	p.awaitPoint("started")
	return p
}

// own starts the process, reads what it says and waits for its end. It keeps its thread
// for as long: on Linux the child dies with the thread that started it.
func (p *process) own(started chan<- error, out io.Reader) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.gone)
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.listen(out)
	_ = p.cmd.Wait() // the log and the exit code tell the rest
}

// listen ends with the process.
func (p *process) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var a answer
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			continue // "PASS" and the like of package testing
		}
		if a.At != "" {
			p.points <- a
			continue
		}
		p.mu.Lock()
		reply := p.pending[a.ID]
		delete(p.pending, a.ID)
		p.mu.Unlock()
		if reply != nil {
			reply <- a
		}
	}
}

func (p *process) tryWrite(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	return err
}

func (p *process) write(v any) {
	if err := p.tryWrite(v); err != nil {
		p.t.Fatalf("%s takes no orders: %v\n%s", p.name, err, p.log.String())
	}
}

// send gives an order without waiting for it to be carried out.
func (p *process) send(o order) *sent {
	p.t.Helper()
	p.mu.Lock()
	p.last++
	o.ID = p.last
	reply := make(chan answer, 1)
	p.pending[o.ID] = reply
	p.mu.Unlock()
	p.write(o)
	return &sent{p: p, id: o.ID, reply: reply}
}

// do gives an order and waits until it is carried out.
func (p *process) do(o order) report {
	p.t.Helper()
	return p.send(o).report()
}

// sent is an order under way.
type sent struct {
	p     *process
	id    int
	reply chan answer
}

// report waits for the order's callers.
func (s *sent) report() report {
	s.p.t.Helper()
	select {
	case a := <-s.reply:
		if a.Failed != "" {
			s.p.t.Fatalf("%s: %s", s.p.name, a.Failed)
		}
		return a.Report
	case <-s.p.gone:
		s.p.t.Fatalf("%s has ended:\n%s", s.p.name, s.p.log.String())
	case <-time.After(patience):
		s.p.t.Fatalf("%s: somebody hangs:\n%s", s.p.name, s.p.log.String())
	}
	return report{}
}

func (p *process) token(tenant string, callers int) *sent {
	p.t.Helper()
	return p.send(order{Op: "token", Tenant: tenant, Callers: callers})
}

// arm has the process caught when it next reaches the point.
func (p *process) arm(point string) {
	p.t.Helper()
	p.do(order{Op: "arm", Point: point})
}

// release lets a caught process go on.
func (p *process) release() {
	p.t.Helper()
	p.do(order{Op: "go"})
}

// awaitPoint waits until the process stands at the point.
func (p *process) awaitPoint(point string) {
	p.t.Helper()
	select {
	case a := <-p.points:
		if a.At != point {
			p.t.Fatalf("%s is at %q, not %q", p.name, a.At, point)
		}
	case <-p.gone:
		p.t.Fatalf("%s has ended before %q:\n%s", p.name, point, p.log.String())
	case <-time.After(patience):
		p.t.Fatalf("%s does not come to %q:\n%s", p.name, point, p.log.String())
	}
}

// kill is SIGKILL; it returns when the process is gone.
func (p *process) kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	_ = p.cmd.Process.Kill() // fails only if it is gone already
	<-p.gone
}

// close lets the process drain and end by itself.
func (p *process) close() {
	p.t.Helper()
	p.do(order{Op: "close"})
	select {
	case <-p.gone:
	case <-time.After(patience):
		p.t.Fatalf("%s was closed and does not end:\n%s", p.name, p.log.String())
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("%s ended with %d:\n%s", p.name, code, p.log.String())
	}
}

func (p *process) end() {
	p.kill()
	if log := p.log.String(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") {
		p.t.Errorf("%s:\n%s", p.name, log)
	} else if p.t.Failed() && !p.quiet {
		p.t.Logf("log of %s:\n%s", p.name, log)
	}
}
