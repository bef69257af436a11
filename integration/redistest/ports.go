package redistest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Servers have ports below the range from which kernels take ports for outgoing connections: while a killed
// server is down no dial can be given its port, and none can connect to itself.
const (
	firstPort = 20000
	blockSize = 200
	blocks    = 50
)

// ports are those of this process. Who dials a server that was killed must find nobody: so a port is one
// test's for as long as that goes on, and one process's. A process owns a block of ports as long as it
// listens at the first of them, which is until it ends.
var ports struct {
	mu   sync.Mutex // guards what follows
	owns []net.Listener
	free []int // the one that was given back last is taken last
}

// freeAddr returns a loopback address that is the test's until it ends.
func freeAddr(t testing.TB) string {
	t.Helper()
	port := takePort()
	if port == 0 {
		t.Fatalf("redistest: no free port between %d and %d", firstPort, firstPort+blocks*blockSize)
	}
	t.Cleanup(func() {
		ports.mu.Lock()
		defer ports.mu.Unlock()
		ports.free = append(ports.free, port)
	})
	return loopbackAt(port)
}

// takePort returns 0 if there is none.
func takePort() int {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	for tries := len(ports.free); ; tries-- {
		if tries <= 0 {
			if !claimBlock() {
				return 0
			}
			tries = blockSize
		}
		port := ports.free[0]
		ports.free = ports.free[1:]
		if ln, err := net.Listen("tcp", loopbackAt(port)); err == nil {
			_ = ln.Close()
			return port
		}
		ports.free = append(ports.free, port) // another program has it, or a server that is just ending
	}
}

// claimBlock is called with mu held.
func claimBlock() bool {
	from := rand.IntN(blocks)
	for i := range blocks {
		first := firstPort + (from+i)%blocks*blockSize
		ln, err := net.Listen("tcp", loopbackAt(first))
		if err != nil {
			continue
		}
		ports.owns = append(ports.owns, ln)
		fresh := make([]int, 0, blockSize+len(ports.free))
		for port := first + 1; port < first+blockSize; port++ {
			fresh = append(fresh, port)
		}
		ports.free = append(fresh, ports.free...)
		return true
	}
	return false
}

func loopbackAt(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }
