package demo

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

// fleet is the worker processes and what they have told.
type fleet struct {
	setup setup // what all of them have in common
	feed  *feed
	fail  func(error) // ends the demo

	mu      sync.Mutex // guards what follows
	places  []*place
	ended   bool
	told    told
	crashes int

	restarts sync.WaitGroup
}

// told is what the fleet has reported so far.
type told struct {
	calls, surfaced int            // webhooks; of these, whose API call ended with 401
	failures        map[string]int // that got no token, or no answer of the API: why
	waits           histogram
}

// place is one worker's: its process is replaced when it was killed.
type place struct {
	number  int // from 1
	runs    int
	process *process // nil while it is down
	waiting map[string]int
}

// restartAfter is how long a killed worker is missing.
const restartAfter = 400 * time.Millisecond

// maxCrashes of workers that nobody killed end the demo.
const maxCrashes = 3

func startFleet(s setup, n int, f *feed, fail func(error)) (*fleet, error) {
	fl := &fleet{setup: s, feed: f, fail: fail, told: told{failures: map[string]int{}}}
	for i := range n {
		pl := &place{number: i + 1}
		fl.places = append(fl.places, pl)
		if err := fl.start(pl); err != nil {
			fl.killAll()
			return nil, err
		}
	}
	return fl, nil
}

// start fills a place with a new process.
func (f *fleet) start(pl *place) error {
	s := f.setup
	f.mu.Lock()
	pl.runs++
	s.Worker, s.Agent = pl.number, fmt.Sprintf("tokenlatch-demo/%d.%d", pl.number, pl.runs)
	run := pl.runs
	f.mu.Unlock()
	p, err := spawn(s, func(n news) { f.hear(pl, run, n) })
	if err != nil {
		return err
	}
	f.mu.Lock()
	pl.process = p
	ended := f.ended
	f.mu.Unlock()
	if ended {
		p.tell(order{End: true})
	}
	f.restarts.Go(func() { f.mind(pl, p) })
	return nil
}

// mind waits for a process's end and starts the next one in its place.
func (f *fleet) mind(pl *place, p *process) {
	<-p.done
	f.mu.Lock()
	pl.process, pl.waiting = nil, nil
	f.mu.Unlock()
	if !p.ours.Load() && !f.mayCrash(p) {
		return
	}
	if f.over() {
		return
	}
	time.Sleep(restartAfter)
	if f.over() {
		return
	}
	if err := f.start(pl); err != nil {
		f.fail(err)
	}
}

func (f *fleet) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

// mayCrash notes an end that nobody wanted, and reports whether to go on.
func (f *fleet) mayCrash(p *process) bool {
	f.mu.Lock()
	f.crashes++
	n := f.crashes
	f.mu.Unlock()
	f.feed.add(cli.Alarm, "worker %d ended by itself: %s", p.pid(), p.cmd.ProcessState)
	if n < maxCrashes {
		return true
	}
	f.fail(fmt.Errorf("demo: workers keep ending by themselves (%s): %s", p.cmd.ProcessState, p.said))
	return false
}

// hear takes in what a process tells.
func (f *fleet) hear(pl *place, run int, n news) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told.calls += n.Calls
	f.told.surfaced += n.Surfaced
	for why, count := range n.Errors {
		f.told.failures[why] += count
	}
	for _, ms := range n.WaitMS {
		f.told.waits.add(ms)
	}
	if run == pl.runs {
		pl.waiting = n.Waiting
	}
}

// live are the processes that run.
func (f *fleet) live() []*process {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*process
	for _, pl := range f.places {
		if pl.process != nil {
			all = append(all, pl.process)
		}
	}
	return all
}

// byAgent is the process of that name; nil if it is gone.
func (f *fleet) byAgent(agent string) *process {
	for _, p := range f.live() {
		if p.agent == agent {
			return p
		}
	}
	return nil
}

// waiting returns how many webhooks wait for a token, by tenant.
func (f *fleet) waiting() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := map[string]int{}
	for _, pl := range f.places {
		for tenant, n := range pl.waiting {
			sum[tenant] += n
		}
	}
	return sum
}

// soFar is a copy of what was told.
func (f *fleet) soFar() told {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.told
	t.failures = maps.Clone(t.failures)
	return t
}

// end lets every worker finish its webhooks and exit, and kills those that have not by
// the end of ctx.
func (f *fleet) end(ctx context.Context) {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	for _, p := range f.live() {
		go p.tell(order{End: true}) // a pipe that nobody reads would block
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		f.restarts.Wait()
	}()
	select {
	case <-gone:
		return
	case <-ctx.Done():
		f.killAll()
		<-gone
	}
}

func (f *fleet) killAll() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	for _, p := range f.live() {
		p.kill()
	}
}
