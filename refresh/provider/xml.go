package provider

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
)

// xmlDepth is how deep elements are read.
const xmlDepth = 50

// readXML reads the elements below the root as members: texts, or objects of further elements. A page in
// HTML is none, since it may hold anything.
func readXML(body []byte) (m members, whole bool) {
	dec := xml.NewDecoder(bytes.NewReader(body))
	dec.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // tokens are ASCII, whatever is declared
	for {
		t, err := dec.Token()
		if err != nil {
			return nil, false
		}
		if root, ok := t.(xml.StartElement); ok {
			if strings.EqualFold(root.Name.Local, "html") {
				return nil, false
			}
			break
		}
	}
	v, err := readElement(dec, xmlDepth)
	object, _ := v.(map[string]any)
	return membersOf(object), err == nil
}

// readElement reads up to the end of an element whose start was read. Of one that breaks off, the whole
// elements below it are returned.
func readElement(dec *xml.Decoder, depth int) (any, error) {
	var below map[string]any
	var text strings.Builder
	for {
		t, err := dec.Token()
		switch {
		case err != nil && below != nil:
			return below, err
		case err != nil:
			return nil, err
		case depth == 0:
			return nil, errNesting
		}
		switch t := t.(type) {
		case xml.CharData:
			text.Write(t)
		case xml.StartElement:
			v, err := readElement(dec, depth-1)
			if below == nil {
				below = make(map[string]any)
			}
			if v != nil {
				below[t.Name.Local] = v
			}
			if err != nil {
				return below, err
			}
		case xml.EndElement:
			if below != nil {
				return below, nil
			}
			return strings.TrimSpace(text.String()), nil
		}
	}
}
