package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

// entry is a line of a file that is imported; err says what is wrong with it, and quotes nothing.
type entry struct {
	moved
	line int
	err  error
}

// lines read a file of grants.
type lines struct {
	in      *bufio.Reader
	csv     *csv.Reader // nil: JSON, an object a line
	columns []string
	line    int
	skip    int // up to that line all is done
	seen    *resumed
}

// longestLine bounds a line, in bytes.
const longestLine = 16 << 20

// readLines finds out what kind of file it is.
func readLines(in io.Reader, r *resumed) (*lines, error) {
	l := &lines{in: bufio.NewReaderSize(in, 64<<10), seen: r}
	if r != nil {
		l.skip = r.from
	}
	head, _ := l.in.Peek(4 << 10)
	if head = bytes.TrimLeft(head, "\ufeff \t\r\n"); len(head) == 0 || head[0] == '{' {
		return l, nil
	}
	if head[0] == '[' {
		return nil, errors.New("a JSON array: an object a line is expected (jq -c '.[]')")
	}
	l.csv = csv.NewReader(l.in)
	l.csv.ReuseRecord = true
	names, err := l.csv.Read()
	if err != nil {
		return nil, errors.New("no CSV: its first line has the names of the columns")
	}
	l.columns = slices.Clone(names)
	l.columns[0] = string(bytes.TrimPrefix([]byte(l.columns[0]), []byte("\ufeff")))
	for _, name := range l.columns {
		if !slices.Contains(movedColumns, name) {
			return nil, fmt.Errorf("an unknown column; there are: %v", movedColumns)
		}
	}
	if !slices.Contains(l.columns, "tenant") {
		return nil, errors.New("no column tenant")
	}
	return l, nil
}

// page returns the next lines. The error is io.EOF after the last.
func (l *lines) page(n int) (page []entry, err error) {
	for len(page) < n {
		e, err := l.next()
		if err != nil {
			return page, err
		}
		if e != nil && e.line > l.skip {
			page = append(page, *e)
		}
		if l.seen != nil {
			l.seen.at = l.line
		}
	}
	return page, nil
}

// next returns a line; nil for an empty one.
func (l *lines) next() (*entry, error) {
	if l.csv != nil {
		return l.nextCSV()
	}
	text, err := readLine(l.in)
	if err != nil {
		return nil, err
	}
	l.line++
	if text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff"))); len(text) == 0 {
		return nil, nil
	}
	e := &entry{line: l.line}
	var members map[string]any
	if json.Unmarshal(text, &members) != nil || members == nil {
		e.err = errors.New("no JSON object")
		return e, nil
	}
	e.err = e.read(members)
	return e, nil
}

func readLine(in *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		part, err := in.ReadSlice('\n')
		text = append(text, part...)
		switch {
		case len(text) > longestLine:
			return nil, fmt.Errorf("a line is longer than %d bytes", longestLine)
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(text) > 0:
			return text, nil
		default:
			return text, err
		}
	}
}

func (l *lines) nextCSV() (*entry, error) {
	record, err := l.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, err
	}
	if bad, ok := errors.AsType[*csv.ParseError](err); ok {
		l.line = bad.StartLine
		return &entry{line: l.line, err: fmt.Errorf("no line of a CSV: %w", bad.Err)}, nil
	}
	if err != nil {
		return nil, err
	}
	l.line, _ = l.csv.FieldPos(0)
	members := map[string]any{}
	for i, text := range record {
		if text != "" {
			members[l.columns[i]] = text
		}
	}
	e := &entry{line: l.line}
	e.err = e.read(members)
	return e, nil
}

// read fills in what a line says.
func (e *entry) read(members map[string]any) error {
	var odd error
	for name, to := range map[string]*string{
		"app": &e.App, "tenant": &e.Tenant, "access_token": &e.AccessToken, "refresh_token": &e.RefreshToken, "token_type": &e.TokenType,
		"scope": &e.Scope, "prefix": &e.Prefix, "sealed": &e.Sealed,
	} {
		switch v := members[name].(type) {
		case nil:
		case string:
			*to = v
		default:
			odd = fmt.Errorf("%s is no text", name)
		}
	}
	if odd != nil {
		return odd
	}
	if e.Tenant == "" {
		return errors.New("no tenant")
	}
	for name, to := range map[string]*time.Time{"expires_at": &e.ExpiresAt, "expiry": &e.ExpiresAt, "refresh_token_expires_at": &e.RefreshExpires} {
		if v, ok := members[name]; ok {
			at, err := timeOf(v)
			if err != nil {
				return fmt.Errorf("%s %w", name, err)
			}
			*to = at
		}
	}
	switch v := members["extra"].(type) {
	case nil:
	case map[string]any:
		e.Extra = v
	case string:
		if json.Unmarshal([]byte(v), &e.Extra) != nil {
			return errors.New("extra is no JSON object")
		}
	default:
		return errors.New("extra is no JSON object")
	}
	return nil
}

var errNoTime = errors.New("is no time: RFC 3339, or seconds since 1970")

// timeOf reads a time: a text of RFC 3339, or seconds since 1970.
func timeOf(v any) (time.Time, error) {
	switch v := v.(type) {
	case nil:
		return time.Time{}, nil
	case float64:
		if v < 0 || v > 1e11 {
			return time.Time{}, errNoTime
		}
		return time.Unix(int64(v), 0), nil
	case string:
		if t, err := time.Parse(time.RFC3339, v); err == nil {
			return t, nil
		}
		if n, err := strconv.ParseInt(v, 10, 64); err == nil && n >= 0 && n < 1e11 {
			return time.Unix(n, 0), nil
		}
	}
	return time.Time{}, errNoTime
}
