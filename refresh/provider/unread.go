package provider

// maxUnread is how much of an answer that could not be read is kept, in bytes.
const maxUnread = 64 << 10

// unread is a body that may hold the only living pair. A func: printers that walk fields find nothing.
type unread struct{ body func() []byte }

// keepUnread keeps what a success said in which no pair could be found.
func (e *Error) keepUnread(body []byte) {
	if e.Class == Ambiguous && e.Status/100 == 2 && len(body) > 0 {
		kept := append([]byte(nil), body[:min(len(body), maxUnread)]...)
		e.unread = &unread{func() []byte { return kept }}
	}
}

// TakeUnread returns the body of a success in which no pair could be found, up to 64 KiB of it, and
// forgets it; nil for none. It may hold the only living pair: to be kept sealed, and shown to nobody.
// No printer shows it, nor JSON or gob.
func (e *Error) TakeUnread() []byte {
	if e.unread == nil {
		return nil
	}
	body := e.unread.body()
	e.unread = nil
	return body
}
