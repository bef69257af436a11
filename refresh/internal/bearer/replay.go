package bearer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// maxReplay is how much of a request body without GetBody is kept for a second
	// attempt, in bytes.
	maxReplay = 1 << 20
	// letGoPatience is how long a refused attempt may go on reading the body.
	letGoPatience = time.Second
)

var (
	errTooLong = fmt.Errorf("its body (over %d MiB and without GetBody) cannot be sent again from here", maxReplay>>20)
	errHeld    = errors.New("its body (without GetBody) is still being read by the refused attempt and cannot be sent again from here")
	errDropped = errors.New("refresh: this attempt's body was closed")
)

// Tee is the body of a first attempt. It keeps what passes through, so that a second one
// can send it again, and the caller's body open behind it.
//
// An inner transport may go on reading after it has returned a response, until it calls
// Close, and even then a Read may be under way: Close is how HTTP/2 stops one. Therefore:
//
//  1. Close does not close the caller's body while a second attempt may want the rest.
//  2. A second attempt begins when the first has called Close and no Read is under way;
//     what that last Read brings is kept too.
//  3. From Close on the first attempt reads nothing.
type Tee struct {
	body      io.ReadCloser
	closeBody func() error // once

	mu       sync.Mutex // guards what follows; not held while the body is read
	kept     bytes.Buffer
	dropped  bool  // more has passed than is kept
	end      error // what the body ended with
	reading  bool
	closed   bool          // by the first attempt
	letGo    chan struct{} // closed when closed and not reading
	released bool          // there will be no second attempt
}

// TeeBody returns the Tee for a request that cannot be sent twice without one, else nil.
func TeeBody(req *http.Request) *Tee {
	if req.Body == nil || req.Body == http.NoBody || req.GetBody != nil {
		return nil
	}
	return newTee(req.Body)
}

func newTee(body io.ReadCloser) *Tee {
	return &Tee{body: body, closeBody: sync.OnceValue(body.Close), letGo: make(chan struct{})}
}

// Read passes on what the body has at once: nothing is read ahead.
func (t *Tee) Read(p []byte) (int, error) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return 0, errDropped
	}
	t.reading = true
	t.mu.Unlock()

	n, err := t.body.Read(p)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading = false
	t.keep(p[:n], err)
	if t.closed {
		close(t.letGo)
	}
	return n, err
}

// keep is called with mu held.
func (t *Tee) keep(p []byte, err error) {
	if t.end == nil {
		t.end = err
	}
	if t.released || t.dropped {
		return
	}
	if t.kept.Len()+len(p) > maxReplay {
		t.dropped, t.kept = true, bytes.Buffer{}
		return
	}
	t.kept.Write(p)
}

// Close ends the first attempt.
func (t *Tee) Close() error {
	if released := t.close(); released {
		return t.closeBody()
	}
	return nil
}

func (t *Tee) close() (released bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.closed = true
		if !t.reading {
			close(t.letGo)
		}
	}
	return t.released
}

// Release says that the first attempt was the last. It may go on reading, for instance
// while its response is read; the caller's body closes when it calls Close.
func (t *Tee) Release() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.released, t.kept = true, bytes.Buffer{}
	closed := t.closed
	t.mu.Unlock()
	if closed {
		_ = t.closeBody()
	}
}

// Abandon is Release after a refusal: nobody needs the rest. A Read under way ends by it.
func (t *Tee) Abandon() {
	if t == nil {
		return
	}
	t.close()
	t.Release()
}

// again is the body for the second attempt, from its beginning. The errors are
// errTooLong, errHeld, or the cause with which ctx ended.
func (t *Tee) again(ctx context.Context) (io.ReadCloser, error) {
	patience := time.NewTimer(letGoPatience)
	defer patience.Stop()
	select {
	case <-t.letGo:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-patience.C:
		return nil, errHeld
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dropped {
		return nil, errTooLong
	}
	rest := io.Reader(t.body)
	if t.end != nil {
		rest = ended{t.end}
	}
	return &replayed{io.MultiReader(bytes.NewReader(t.kept.Bytes()), rest), t.closeBody}, nil
}

// ended is a body of which the first attempt has seen the end.
type ended struct{ err error }

func (e ended) Read([]byte) (int, error) { return 0, e.err }

type replayed struct {
	io.Reader
	close func() error
}

func (r *replayed) Close() error { return r.close() }

// BodyAgain returns the body for a second attempt: none, a copy from GetBody, or what the
// first attempt's Tee has.
func BodyAgain(req *http.Request, first *Tee) (io.ReadCloser, error) {
	switch {
	case first != nil:
		return first.again(req.Context())
	case req.GetBody != nil && req.Body != nil && req.Body != http.NoBody:
		body, err := req.GetBody()
		if err != nil {
			return nil, fmt.Errorf("its body cannot be had again (GetBody: %w)", err)
		}
		return body, nil
	}
	return req.Body, nil
}
