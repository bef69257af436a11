package redistest

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
)

// The proxy needs to know where a request or a reply ends, and nothing else of
// RESP: values are copied as they came.

// readRequest reads one command: an array of bulk strings, or an inline one,
// which is a line.
func readRequest(in *bufio.Reader) ([]byte, error) { return readValue(in, nil) }

// readReply reads one reply, or one push message.
func readReply(in *bufio.Reader) ([]byte, error) { return readValue(in, nil) }

func isPush(reply []byte) bool { return reply[0] == '>' }

// isSubscribe is true for all six: subscribe, psubscribe, ssubscribe, un….
func isSubscribe(request []byte) bool {
	_, name, _ := bytes.Cut(request, []byte("\r\n$"))
	name, _, _ = bytes.Cut(bytes.TrimLeft(name, "0123456789\r\n"), []byte("\r\n"))
	return bytes.HasSuffix(bytes.ToLower(name), []byte("subscribe"))
}

func readValue(in *bufio.Reader, raw []byte) ([]byte, error) {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	raw = append(raw, line...)
	switch line[0] {
	case '$', '=', '!':
		return readBlob(in, raw, count(line))
	case '*', '~', '>':
		return readValues(in, raw, count(line))
	case '%':
		return readValues(in, raw, 2*count(line))
	case '|': // attributes, then the value that they describe
		return readValues(in, raw, 2*count(line)+1)
	default:
		return raw, nil
	}
}

// count is the length in a header line; -1 is RESP2's null.
func count(line []byte) int {
	n, err := strconv.Atoi(string(bytes.TrimSpace(line[1:])))
	if err != nil || n < 0 {
		return -1
	}
	return n
}

func readValues(in *bufio.Reader, raw []byte, n int) ([]byte, error) {
	var err error
	for ; n > 0 && err == nil; n-- {
		raw, err = readValue(in, raw)
	}
	return raw, err
}

func readBlob(in *bufio.Reader, raw []byte, size int) ([]byte, error) {
	if size < 0 {
		return raw, nil
	}
	blob := make([]byte, size+len("\r\n"))
	_, err := io.ReadFull(in, blob)
	return append(raw, blob...), err
}
