package provider

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"encoding/json"
	"io"
	"unicode/utf16"
)

// maxBody bounds what is read of an answer, also when it is unpacked.
const maxBody = 1 << 20

// plainText returns a body as UTF-8 text, whatever its headers say: proxies deliver gzip without a word.
// cut says that its end is missing.
func plainText(body []byte, cut bool) ([]byte, bool) {
	body, cut = unpacked(body, cut)
	if order := orderOf(body); order != nil {
		body = fromUTF16(body, order)
	}
	return bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))), cut
}

// unpacked returns as much of a packed body as can be unpacked, by its magic bytes, or the body where that
// is nothing.
func unpacked(body []byte, cut bool) ([]byte, bool) {
	var r io.Reader
	var err error
	switch in := bytes.NewReader(body); {
	case bytes.HasPrefix(body, []byte("\x1f\x8b")):
		r, err = gzip.NewReader(in)
	case bytes.HasPrefix(body, []byte("x\x01")), bytes.HasPrefix(body, []byte("x\x9c")), bytes.HasPrefix(body, []byte("x\xda")):
		r, err = zlib.NewReader(in)
	default:
		return body, cut
	}
	if err != nil {
		return body, cut
	}
	text, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	switch {
	case len(text) == 0:
		return body, cut
	case len(text) > maxBody:
		return text[:maxBody], true
	}
	return text, cut || err != nil
}

// orderOf is the byte order of UTF-16, by its mark or by how an object begins; nil for other texts.
func orderOf(body []byte) binary.ByteOrder {
	switch {
	case bytes.HasPrefix(body, []byte("\xff\xfe")), bytes.HasPrefix(body, []byte("{\x00\"\x00")):
		return binary.LittleEndian
	case bytes.HasPrefix(body, []byte("\xfe\xff")), bytes.HasPrefix(body, []byte("\x00{\x00\"")):
		return binary.BigEndian
	}
	return nil
}

func fromUTF16(body []byte, order binary.ByteOrder) []byte {
	units := make([]uint16, len(body)/2)
	for i := range units {
		units[i] = order.Uint16(body[2*i:])
	}
	return bytes.TrimPrefix([]byte(string(utf16.Decode(units))), []byte("\ufeff"))
}

// jsonString returns what a JSON text that is nothing but a string holds.
func jsonString(body []byte) (inner []byte, ok bool) {
	var s string
	if json.NewDecoder(bytes.NewReader(body)).Decode(&s) != nil {
		return nil, false
	}
	return []byte(s), true
}

// afterRubbish returns a body from its first "{" on, where what is before is no form: the )]}' that is to keep
// browsers from running it, a callback's name, a warning.
func afterRubbish(body []byte) []byte {
	before, _, found := bytes.Cut(body, []byte("{"))
	if !found || bytes.IndexByte(before, '=') >= 0 {
		return nil
	}
	return body[len(before):]
}
