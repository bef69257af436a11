package bearer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// counted is a caller's body that knows how often it was closed.
type counted struct {
	io.Reader
	closes int
}

func (c *counted) Close() error { c.closes++; return nil }

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReplayBeginsWithWhatTheFirstAttemptReadAndGoesOnWithTheRest(t *testing.T) {
	for _, read := range []int64{0, 1, 5, 10, 99} {
		body := &counted{Reader: strings.NewReader("0123456789")}
		first := newTee(body)
		_, _ = io.CopyN(io.Discard, first, read)
		first.Close()
		second, err := first.again(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, second); got != "0123456789" {
			t.Errorf("after %d bytes: %q", read, got)
		}
		if body.closes != 0 {
			t.Error("the first attempt closed the caller's body")
		}
		second.Close()
		second.Close()
		first.Close()
		if body.closes != 1 {
			t.Errorf("closed %d times", body.closes)
		}
	}
}

func TestReplayKeepsAMebibyteAndNotAByteMore(t *testing.T) {
	for _, c := range []struct {
		size int
		err  error
	}{{maxReplay, nil}, {maxReplay + 1, errTooLong}} {
		first := newTee(&counted{Reader: bytes.NewReader(make([]byte, c.size))})
		_, _ = io.Copy(io.Discard, first)
		first.Close()
		if c.err != nil && first.kept.Cap() != 0 {
			t.Error("what cannot be used is still kept")
		}
		if _, err := first.again(t.Context()); !errors.Is(err, c.err) {
			t.Errorf("%d bytes: %v, want %v", c.size, err, c.err)
		}
	}
}

// once is a body that must not be read again after its end.
type once struct {
	err   error
	ended bool
}

func (o *once) Read(p []byte) (int, error) {
	if o.ended {
		return copy(p, "again"), nil
	}
	o.ended = true
	return copy(p, "all"), o.err
}

func TestReplayDoesNotReadBeyondTheEndThatTheFirstAttemptSaw(t *testing.T) {
	broken := errors.New("broken")
	for _, end := range []error{io.EOF, broken} {
		first := newTee(&counted{Reader: &once{err: end}})
		_, _ = io.ReadAll(first)
		first.Close()
		second, err := first.again(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(second)
		if string(got) != "all" || (end == broken) != errors.Is(err, broken) {
			t.Errorf("%q, %v, want all and %v", got, err, end)
		}
	}
}

func TestReplayWaitsForAReadThatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, caller := io.Pipe()
		first := newTee(source)
		go func() { _, _ = io.ReadAll(first) }()
		_, _ = caller.Write([]byte("one "))
		synctest.Wait() // the first attempt reads on
		first.Close()
		done := make(chan string)
		go func() {
			second, err := first.again(t.Context())
			if err != nil {
				t.Error(err)
				close(done)
				return
			}
			done <- readAll(t, second)
		}()
		time.Sleep(letGoPatience / 2)
		_, _ = caller.Write([]byte("two "))
		_, _ = caller.Write([]byte("three"))
		caller.Close()
		if got := <-done; got != "one two three" {
			t.Errorf("sent again: %q", got)
		}
	})
}

func TestReplayGivesUpWhenTheFirstAttemptDoesNotLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, caller := io.Pipe()
		first := newTee(source)
		ended := make(chan struct{})
		go func() {
			_, _ = io.ReadAll(first)
			close(ended)
		}()
		synctest.Wait()
		begin := time.Now()
		if _, err := first.again(t.Context()); !errors.Is(err, errHeld) || time.Since(begin) != letGoPatience {
			t.Errorf("not closed: %v after %s", err, time.Since(begin))
		}
		first.Close()
		if _, err := first.again(t.Context()); !errors.Is(err, errHeld) {
			t.Errorf("a read is under way: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		left := errors.New("left")
		cancel(left)
		if _, err := first.again(ctx); !errors.Is(err, left) {
			t.Errorf("the caller left: %v", err)
		}
		first.Abandon()
		<-ended // it has closed the pipe
		if _, err := caller.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the caller's body is open: %v", err)
		}
	})
}

func TestReplayThatIsAbandonedClosesTheBodyAndEndsTheFirstAttempt(t *testing.T) {
	body := &counted{Reader: strings.NewReader("0123456789")}
	first := newTee(body)
	first.Abandon()
	if n, err := first.Read(make([]byte, 1)); n != 0 || err == nil || body.closes != 1 {
		t.Errorf("read %d, %v, closed %d times", n, err, body.closes)
	}
}

func TestReplayLeavesTheBodyToAnAttemptThatIsTheLast(t *testing.T) {
	for _, closed := range []bool{false, true} {
		body := &counted{Reader: strings.NewReader("0123456789")}
		first := newTee(body)
		_, _ = io.CopyN(io.Discard, first, 4)
		if closed {
			first.Close()
		}
		first.Release()
		if (body.closes == 1) != closed {
			t.Errorf("closed early or never: %d", body.closes)
		}
		if !closed { // a response can come while the request is still being sent
			if got := readAll(t, first); got != "456789" {
				t.Errorf("the rest: %q", got)
			}
			if first.kept.Cap() != 0 {
				t.Error("still keeps what nobody will send again")
			}
			first.Close()
		}
		first.Release()
		if body.closes != 1 {
			t.Errorf("closed %d times", body.closes)
		}
		if _, err := first.Read(make([]byte, 1)); err == nil {
			t.Error("reads on after Close")
		}
	}
}

func TestReplayNeedsNoTeeWithGetBodyOrWithoutABody(t *testing.T) {
	for name, body := range map[string]io.Reader{"GetBody": strings.NewReader("x"), "none": nil, "NoBody": http.NoBody} {
		req, err := http.NewRequest("POST", "http://localhost/", body)
		if err != nil {
			t.Fatal(err)
		}
		if TeeBody(req) != nil {
			t.Errorf("%s: teed", name)
		}
		again, err := BodyAgain(req, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body == nil && again != nil || name == "GetBody" && readAll(t, again) != "x" {
			t.Errorf("%s: not the same body again", name)
		}
	}
}
