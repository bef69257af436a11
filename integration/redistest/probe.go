package redistest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

const loopback = "127.0.0.1"

// await asks until the answer is yes, and fails the test at the deadline.
func await(t testing.TB, what string, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ready(); {
		if time.Now().After(deadline) {
			t.Fatalf("redistest: waited %v for %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// probe asks a server for INFO, on a connection of its own: a pooled client
// would back off and redial in the background while the server is down.
func probe(addr string) (map[string]string, error) {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(conn, "INFO\r\n"); err != nil {
		return nil, err
	}
	return readInfo(bufio.NewReader(conn))
}

func readInfo(r *bufio.Reader) (map[string]string, error) {
	head, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	size, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "$")))
	if err != nil {
		return nil, fmt.Errorf("INFO answered %q", head)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return infoFields(string(body)), nil
}

// infoFields reads the name:value lines of INFO and CLUSTER INFO.
func infoFields(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

func split(addr string) (host string, port int) {
	host, text, _ := net.SplitHostPort(addr)
	port, _ = strconv.Atoi(text)
	return host, port
}
