package hub

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// hubAlone is a hub whose connection is the test.
func hubAlone(channels ...string) (*Hub, func(channel string) bool) {
	h := New(Config{Log: zerolog.Nop(), Deliver: func(string, string) {}})
	h.running = true
	for _, channel := range channels {
		h.Add(channel)
	}
	return h, func(channel string) bool { return h.SessionOf(channel) != 0 }
}

// open begins a connection whose heartbeat has come back.
func (h *Hub) open() {
	h.begin(newHeartbeat("heartbeat", ""))
	h.believe()
}

// pretendToSend is what flush does with the collected commands.
func (h *Hub) pretendToSend() { h.commands = nil }

// What was published between UNSUBSCRIBE and SUBSCRIBE was not heard, though the channel was confirmed before.
func TestAChannelThatIsWantedAgainIsNotConfirmedByWhatWasSentBefore(t *testing.T) {
	h, live := hubAlone("other")
	h.open()
	h.Add("a")
	h.pretendToSend()
	h.Remove("a")
	h.Add("a") // not sent yet
	if !h.confirm("a") || live("a") {
		t.Error("live by the confirmation of the SUBSCRIBE before")
	}
	h.pretendToSend()
	if !h.confirm("a") || !live("a") {
		t.Error("not live by its own")
	}
}

func TestConfirmationAfterTheEndCountsForNothing(t *testing.T) {
	h, live := hubAlone("a", "b")
	h.open()
	h.confirm("a")
	h.endSession() // by the watch, while a confirmation is on its way
	if h.confirm("b") || live("a") || live("b") {
		t.Error("confirmed on a connection that has ended")
	}
	h.endSession()
	h.open()
	if !h.confirm("b") || !live("b") || live("a") {
		t.Error("the next connection does not confirm")
	}
}

func TestUnexpectedConfirmationEndsTheConnection(t *testing.T) {
	h, _ := hubAlone("a")
	h.open()
	if !h.confirm("a") || h.confirm("a") {
		t.Error("go-redis has reconnected by itself, and nobody noticed")
	}
}

func TestOnlyTheLastSubscribeConfirms(t *testing.T) {
	h, live := hubAlone("a")
	h.open()
	h.Remove("a")
	h.Add("a")
	h.pretendToSend()
	if !h.confirm("a") || live("a") {
		t.Error("confirmed before UNSUBSCRIBE and SUBSCRIBE were executed")
	}
	if !h.confirm("a") || !live("a") {
		t.Error("not confirmed")
	}
}

// Redis comes back while a connection is being made that began when it was away: that one
// fails, and says nothing about the next.
func TestWaitingForASubscriptionOutlastsAnAttemptThatBeganBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := hubAlone("a")
		h.open()
		result := make(chan error, 1)
		wait := func() {
			go func() {
				_, err := h.Confirm(t.Context(), "a")
				result <- err
			}()
			synctest.Wait()
		}
		wait()
		h.endSession() // the attempt from before fails
		synctest.Wait()
		if len(result) > 0 {
			t.Fatalf("gave up: %v", <-result)
		}
		h.open()
		h.confirm("a")
		if err := <-result; err != nil {
			t.Error(err)
		}

		h.endSession()
		wait()
		h.open()
		h.endSession() // an attempt that began afterwards fails
		if err := <-result; !errors.Is(err, ErrSubscriber) {
			t.Errorf("got %v, want errSubscriber", err)
		}
	})
}

// Whoever may publish can send to the channel, but nobody can guess what is on its way.
func TestAForeignHeartbeatProvesNothing(t *testing.T) {
	t.Parallel()
	b := newHeartbeat("tl:heartbeat:x", "")
	b.open()
	nonce := b.next()
	if b.heard("forged") || b.proven() != 0 || b.until() > mono.Now()+firstBeat {
		t.Error("a forged heartbeat is believed")
	}
	if !b.heard(nonce) || b.proven() == 0 {
		t.Error("the own one is not")
	}
	at := b.proven()
	if b.heard(nonce) || b.proven() != at {
		t.Error("a repeated one is believed again")
	}
	older, newer := b.next(), b.next()
	b.heard(newer)
	at = b.proven()
	if b.heard(older); b.proven() != at || b.lacks(older) {
		t.Error("what was overtaken still counts")
	}
}
