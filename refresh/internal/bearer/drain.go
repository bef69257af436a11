package bearer

import (
	"io"
	"net/http"
	"time"
)

// maxDrain is how much of a refused response is read so that its connection can be used
// again, in bytes.
const maxDrain = 64 << 10

// drainPatience is how long that may take.
const drainPatience = 100 * time.Millisecond

// Drain gives a response's connection back, if its body comes to an end soon.
func Drain(body io.ReadCloser) {
	slow := time.AfterFunc(drainPatience, func() { _ = body.Close() })
	defer slow.Stop()
	_, _ = io.CopyN(io.Discard, body, maxDrain)
	_ = body.Close()
}

// CloseBody closes the body of a request that is not sent, as an [http.RoundTripper] must.
func CloseBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}
