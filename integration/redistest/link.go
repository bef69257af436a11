package redistest

import (
	"bufio"
	"io"
	"net"
	"sync"
)

// link is one client's connection through a proxy, and its own one to the server.
type link struct {
	proxy  *Proxy
	client net.Conn
	cut    chan struct{} // closed by close
	once   sync.Once

	mu       sync.Mutex // guards everything below
	server   net.Conn   // nil until dialed
	asked    int        // requests forwarded
	answered int        // replies read
	eating   *Eaten     // the order that one request matched
	eatAt    int        // asked, counting that request
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.cut)
		_ = l.client.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.server != nil {
			_ = l.server.Close()
		}
	})
}

func (l *link) run() {
	defer l.proxy.remove(l)
	defer l.close()
	server := l.dial()
	if server == nil {
		return
	}
	l.proxy.all.Go(func() { l.requests(server) })
	l.replies(server)
}

// dial returns nil if the server is away or the link was cut.
func (l *link) dial() net.Conn {
	if !l.pass() {
		return nil
	}
	server, err := net.Dial("tcp", l.proxy.leadsTo())
	if err != nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.server = server
	select {
	case <-l.cut: // close came before it could see server
		_ = server.Close()
		return nil
	default:
		return server
	}
}

// pass waits while the proxy is frozen; false means that the link was cut.
func (l *link) pass() bool {
	select {
	case <-l.cut:
		return false
	case <-l.proxy.gate():
		return true
	}
}

// requests forwards whole requests, as many at a time as have arrived, so
// that a pipeline reaches the server even if the reply to a part of it is eaten.
func (l *link) requests(server io.Writer) {
	defer l.close()
	in := bufio.NewReaderSize(l.client, 64<<10)
	for {
		var batch []byte
		for more := true; more; more = in.Buffered() > 0 {
			request, err := readRequest(in)
			if err != nil {
				l.pass() // while frozen the other side learns of no close
				return
			}
			batch = append(batch, request...)
			l.ask(request)
		}
		if !l.pass() {
			return
		}
		if _, err := server.Write(batch); err != nil {
			return
		}
	}
}

// ask counts a request before it is sent, so that its reply finds the count.
func (l *link) ask(request []byte) {
	if isSubscribe(request) {
		return // answered by push messages, which nobody counts
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if l.eating == nil {
		l.eating, l.eatAt = l.proxy.order(request), l.asked
	}
}

// replies forwards whole replies until one is to be eaten.
func (l *link) replies(server io.Reader) {
	in := bufio.NewReaderSize(server, 64<<10)
	for {
		reply, err := readReply(in)
		if !l.pass() || err != nil {
			return
		}
		lost, last := l.answer(isPush(reply))
		if lost == nil {
			if _, err := l.client.Write(reply); err != nil {
				return
			}
		}
		if last {
			l.close() // before done: who waits for done finds it closed
			close(lost.done)
			return
		}
	}
}

// answer counts a reply. lost is the order that swallows it; last says that
// nothing which the server was asked is open any more.
func (l *link) answer(push bool) (lost *Eaten, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !push {
		l.answered++
	}
	if l.eating == nil || l.answered < l.eatAt {
		return nil, false
	}
	return l.eating, l.answered >= l.asked
}
