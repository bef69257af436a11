package redistest

import (
	_ "embed"
	byteorder "encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

//go:embed testdata/clock.c
var clockShim []byte

// Clock is the wall clock of one server, which a test can set.
type Clock struct{ file string }

// Clocked makes the server's clock one that the test can set. The test is skipped where a library cannot be put in
// front of a program's own: that takes Linux, a C compiler, and a server that is linked dynamically.
func Clocked(t testing.TB, c *Clock) Option {
	t.Helper()
	dir := t.TempDir()
	shim, source := filepath.Join(dir, "clock.so"), filepath.Join(dir, "clock.c")
	c.file = filepath.Join(dir, "ahead")
	for name, text := range map[string][]byte{source: clockShim, c.file: make([]byte, 8)} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("redistest: to set a server's clock takes a C compiler")
	}
	if said, err := exec.Command(cc, "-O1", "-shared", "-fPIC", "-o", shim, source, "-ldl").CombinedOutput(); err != nil {
		t.Skipf("redistest: to set a server's clock takes a library that does not build here: %v\n%s", err, said)
	}
	return func(s *Server) { s.env = append(s.env, "LD_PRELOAD="+shim, "CLOCK_FILE="+c.file) }
}

// Set sets the clock: from now on it is ahead of this machine's by d. The server's commands say so.
func (c *Clock) Set(t testing.TB, s *Server, d time.Duration) {
	t.Helper()
	file, err := os.OpenFile(c.file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ahead := make([]byte, 8)
	byteorder.NativeEndian.PutUint64(ahead, uint64(d.Milliseconds()))
	if _, err := file.WriteAt(ahead, 0); err != nil { // in one write: it is mapped
		t.Fatal(err)
	}
	rdb := s.Client(t)
	await(t, "the server's clock to be set", func() bool {
		now, err := rdb.Time(t.Context()).Result()
		return err == nil && time.Until(now)-d < time.Second && d-time.Until(now) < time.Second
	})
}
