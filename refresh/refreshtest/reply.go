package refreshtest

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
)

// reply is an answer before it is on the wire.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// jsonReply is an answer of the token endpoint; none may be stored (RFC 6749 §5.1).
func jsonReply(status int, members map[string]any) reply {
	body, err := json.Marshal(members)
	if err != nil { // only a Step.Edit can do that
		panic("refreshtest: Step.Edit left a value that JSON cannot hold: " + err.Error())
	}
	return reply{status, http.Header{
		"Content-Type":  {"application/json;charset=UTF-8"},
		"Cache-Control": {"no-store"},
		"Pragma":        {"no-cache"},
	}, body}
}

// reply is the error as RFC 6749 §5.2 wants it.
func (no *refusal) reply(r *http.Request) reply {
	rep := jsonReply(no.status, map[string]any{"error": no.code, "error_description": no.why})
	if _, _, basic := r.BasicAuth(); basic && no.status == http.StatusUnauthorized {
		rep.header.Set("WWW-Authenticate", `Basic realm="refreshtest"`)
	}
	if no.status == http.StatusMethodNotAllowed {
		rep.header.Set("Allow", http.MethodPost)
	}
	return rep
}

// send puts the reply on the wire, or does the fault to it.
func (rep reply) send(w http.ResponseWriter, fault Fault) {
	switch fault {
	case Drop, Reset:
		hangUp(w, fault)
	case Truncate:
		rep.write(w, rep.body[:len(rep.body)/2], len(rep.body)+1)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // net/http's way to close in mid-answer
	default:
		rep.write(w, rep.body, len(rep.body))
	}
}

func (rep reply) write(w http.ResponseWriter, body []byte, announced int) {
	for name, values := range rep.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(announced))
	w.WriteHeader(rep.status)
	_, _ = w.Write(body)
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter, fault Fault) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok && fault == Reset {
		_ = tcp.SetLinger(0) // what is unsent is thrown away and the peer gets RST
	}
	_ = conn.Close()
}
