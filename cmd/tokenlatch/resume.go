package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// resumed writes down beside a file how far its import is.
type resumed struct {
	name string // of what it writes
	sum  string // of the whole file
	from int    // up to that line all is done
	at   int    // the last line that was read
}

// progressFile is what it writes.
type progressFile struct {
	SHA256 string `json:"sha256"`
	Lines  int    `json:"lines"`
}

// resume looks how far the import of a file is, if wished. It reads the file, and returns it from its begin.
func resume(f *os.File, name string, wanted bool) (io.Reader, *resumed, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return nil, nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, nil, fmt.Errorf("%s: it cannot be read twice: give - and pipe it: %w", name, err)
	}
	r := &resumed{name: name + ".progress", sum: hex.EncodeToString(sum.Sum(nil))}
	if !wanted {
		return f, r, nil
	}
	text, err := os.ReadFile(r.name)
	if errors.Is(err, os.ErrNotExist) {
		return f, r, nil // nothing was done, or all
	}
	if err != nil {
		return nil, nil, err
	}
	var was progressFile
	switch err := json.Unmarshal(text, &was); {
	case err != nil || was.Lines < 0:
		return nil, nil, fmt.Errorf("%s does not say how far it was", r.name)
	case was.SHA256 != r.sum:
		return nil, nil, fmt.Errorf("%s has changed since: its lines are others", name)
	}
	r.from = was.Lines
	return f, r, nil
}

// note writes down that all lines read so far are done.
func (r *resumed) note() error {
	if r == nil {
		return nil
	}
	text, err := json.Marshal(progressFile{r.sum, r.at})
	if err != nil {
		return err
	}
	next := r.name + ".new"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, r.name) // whole, or as it was
}

// done removes it: all is done.
func (r *resumed) done() error {
	if r == nil {
		return nil
	}
	if err := os.Remove(r.name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
