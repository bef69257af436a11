package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/rs/zerolog"
)

// Rotating spreads mints over n slots, each of which holds one living access
// token of a tenant: the values of a token_index, or duplicates of one app.
//
// The exchange of a grant of generation g mints generation g+1 in slot (g+1) mod n: the
// slot that has been idle for longest. The token in the other slot stays valid meanwhile,
// so a process that still holds it can finish with it. So with two slots or more the
// returned Profile says KillsAccessToken: No. All else is the first slot's, and the slots
// should not differ in it.
//
// Rotating calls slot n times, with 0 to n-1. If n is more than one, its providers must
// mint ([Provider.Mints]), because a refresh token goes with one app. The fallback rotates
// likewise if every slot has one; otherwise there is none.
func Rotating(n int, slot func(slot int) (Provider, error)) (Provider, error) {
	if n < 1 || slot == nil {
		return Provider{}, errors.New("provider: Rotating: needs one slot or more, and the func that makes them")
	}
	slots := make([]Provider, n)
	for i := range slots {
		p, err := slot(i)
		if err == nil {
			err = checkSlot(n, p)
		}
		if err != nil {
			return Provider{}, fmt.Errorf("provider: Rotating: slot %d: %w", i, err)
		}
		slots[i] = p
	}
	return rotate(slots), nil
}

func checkSlot(n int, p Provider) error {
	switch {
	case p.Exchanger == nil:
		return errors.New("its Exchanger is missing")
	case n > 1 && !p.Mints:
		return errors.New("does not mint: a refresh token goes with one app, so it cannot rotate over several")
	}
	return nil
}

func rotate(slots []Provider) Provider {
	whole := slots[0]
	if len(slots) == 1 {
		return whole
	}
	whole.Profile = whole.Profile.clone()
	whole.Profile.KillsAccessToken = No
	var now, other []Exchanger
	for _, p := range slots {
		now, other = append(now, p.Exchanger), append(other, p.Fallback)
	}
	whole.Exchanger, whole.Fallback = newRotation(now), nil
	if !slices.Contains(other, nil) {
		whole.Fallback = newRotation(other)
	}
	return whole
}

// rotation is the exchanger of several slots.
type rotation struct {
	n     int
	slots func() []Exchanger // a func: printers that walk fields find no secret
}

func newRotation(slots []Exchanger) *rotation {
	return &rotation{n: len(slots), slots: func() []Exchanger { return slots }}
}

// Exchange mints the grant's next generation in the slot that is its turn.
func (r *rotation) Exchange(ctx context.Context, g Grant) (Pair, error) {
	return r.slots()[slotOf(g.Generation+1, r.n)].Exchange(ctx, g)
}

// Revoke revokes the grant's access token in the slot that minted it. What the other slots have minted
// before ends by itself.
func (r *rotation) Revoke(ctx context.Context, g Grant) error {
	revoker, ok := r.slots()[slotOf(g.Generation, r.n)].(Revoker)
	if !ok {
		return &Error{Class: AppRefused, Code: "revoke_url", Err: errNoRevoke}
	}
	return revoker.Revoke(ctx, g)
}

// slotOf returns where a generation is minted. A negative one has a slot too.
func slotOf(generation int64, n int) int {
	turn := generation % int64(n)
	if turn < 0 {
		turn += int64(n)
	}
	return int(turn)
}

// CloseIdleConnections reaches every slot that keeps connections.
func (r *rotation) CloseIdleConnections() {
	for _, e := range r.slots() {
		if c, ok := e.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}

func (r rotation) String() string { return fmt.Sprintf("rotation over %d slots [redacted]", r.n) }

// GoString keeps %#v from printing what the slots hold.
func (r rotation) GoString() string { return "provider.rotation{" + r.String() + "}" }

// Format keeps every verb from printing what the slots hold.
func (r rotation) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(r.String())) }

// MarshalJSON keeps what the slots hold out of JSON.
func (r rotation) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// LogValue keeps what the slots hold out of log/slog.
func (r rotation) LogValue() slog.Value { return slog.StringValue(r.String()) }

// MarshalZerologObject keeps what the slots hold out of zerolog.
func (r rotation) MarshalZerologObject(e *zerolog.Event) { e.Int("slots", r.n) }
