package redistest

import (
	"bytes"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy on loopback between clients and one Redis. It loses what
// a network can lose, at the moment a test chooses.
type Proxy struct {
	ln   net.Listener
	done chan struct{}  // closed by close
	all  sync.WaitGroup // every goroutine of the proxy

	mu      sync.Mutex // guards everything below
	target  string
	links   map[*link]bool
	orders  []*Eaten      // not yet matched, oldest first
	thawed  chan struct{} // closed while data flows
	refuses bool
}

// NewProxy returns a proxy to the Redis at target, closed when the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatalf("redistest: listen for the proxy: %v", err)
	}
	p := &Proxy{target: target, ln: ln, done: make(chan struct{}), links: map[*link]bool{}, thawed: make(chan struct{})}
	close(p.thawed)
	p.all.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is the host:port for clients.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

func (p *Proxy) close() {
	close(p.done)
	_ = p.ln.Close()
	p.Cut()
	p.all.Wait()
}

func (p *Proxy) accept() {
	for {
		conn, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		l := &link{proxy: p, client: conn, cut: make(chan struct{})}
		if !p.add(l) {
			_ = conn.Close()
			continue
		}
		p.all.Go(l.run)
	}
}

// add reports false for a connection that is to be refused. It looks at done under
// mu, so that a connection is either added before close cuts all, or not at all.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return false
	default:
	}
	if !p.refuses {
		p.links[l] = true
	}
	return !p.refuses
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// Move leads new connections to another Redis, as an endpoint does whose name or balancer has been
// changed. Those that are open stay where they are.
func (p *Proxy) Move(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

func (p *Proxy) leadsTo() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

// Freeze makes all connections half-open: they stay up, and nothing that
// arrives after Freeze returned flows either way, not even a close. New ones are accepted, and
// silent too.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flowing() {
		p.thawed = make(chan struct{})
	}
}

// Thaw ends [Proxy.Freeze]. What was held back arrives now, as after a
// retransmission.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.flowing() {
		close(p.thawed)
	}
}

// flowing is called with mu held.
func (p *Proxy) flowing() bool {
	select {
	case <-p.thawed:
		return true
	default:
		return false
	}
}

func (p *Proxy) gate() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.thawed
}

// Cut closes all connections now, frozen ones too. New ones are accepted.
func (p *Proxy) Cut() {
	for _, l := range p.open() {
		l.close()
	}
}

func (p *Proxy) open() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.links))
}

// Refuse closes every new connection at once; existing ones stay.
func (p *Proxy) Refuse() { p.refuse(true) }

// Accept ends [Proxy.Refuse].
func (p *Proxy) Accept() { p.refuse(false) }

func (p *Proxy) refuse(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = yes
}

// Eaten is an order to lose one reply.
type Eaten struct {
	match []byte
	done  chan struct{}
}

// EatReply loses exactly one reply: the next request which holds the bytes match in
// one of its arguments, in any case of letters, is executed, but its reply is
// swallowed and its connection closed. Replies before it on that connection
// arrive; those to the rest of the same pipeline are lost with it. A retry of the
// client goes through.
//
// SUBSCRIBE and its kin have no reply in this sense and never match: use
// [Proxy.Freeze] or [Proxy.Cut].
func (p *Proxy) EatReply(match string) *Eaten {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &Eaten{match: bytes.ToLower([]byte(match)), done: make(chan struct{})}
	p.orders = append(p.orders, e)
	return e
}

// order takes the oldest order that the request matches, or nil.
func (p *Proxy) order(request []byte) *Eaten {
	p.mu.Lock()
	defer p.mu.Unlock()
	request = bytes.ToLower(request)
	i := slices.IndexFunc(p.orders, func(e *Eaten) bool { return bytes.Contains(request, e.match) })
	if i < 0 {
		return nil
	}
	e := p.orders[i]
	p.orders = slices.Delete(p.orders, i, i+1)
	return e
}

// Done is closed once the reply is lost: the server has executed the request and
// the client's connection is closed.
func (e *Eaten) Done() <-chan struct{} { return e.done }

// Await waits for [Eaten.Done] and fails the test if it does not come.
func (e *Eaten) Await(t testing.TB) {
	t.Helper()
	select {
	case <-e.done:
	case <-time.After(patience):
		t.Fatalf("redistest: no reply to a request with %q was lost in %v", e.match, patience)
	}
}
