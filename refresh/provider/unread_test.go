package provider

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func TestASuccessInWhichNoPairIsFoundKeepsItsBody(t *testing.T) {
	const hidden = "canary-of-the-body"
	for _, c := range []struct {
		name   string
		answer Answer
		kept   bool
	}{
		{"two pairs", Answer{Status: 200, Body: []byte(`{"app":{"access_token":"` + hidden + `"},"user":{"access_token":"b"}}`)}, true},
		{"a list", Answer{Status: 201, Body: []byte(`[{"access_token":"` + hidden + `"}]`)}, true},
		{"no text", Answer{Status: 200, Body: []byte("\x1f\x8b" + hidden)}, true},
		{"torn", Answer{Status: 200, Body: []byte(`{"refresh_token":"` + hidden), Err: errors.New("cut")}, true},
		{"an empty one", Answer{Status: 200}, false},
		{"a refusal", Answer{Status: 400, Body: []byte(hidden)}, false},
		{"a server's trouble", Answer{Status: 502, Body: []byte(hidden)}, false},
		{"a refusal in a success", Answer{Status: 200, Body: []byte(`{"error":"invalid_grant","x":"` + hidden + `"}`)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Classify(Profile{}, c.answer)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			if text := everyWay(e); strings.Contains(text, hidden) {
				t.Errorf("the error shows it: %s", text)
			}
			got := e.TakeUnread()
			if want := string(c.answer.Body); c.kept && string(got) != want || !c.kept && got != nil {
				t.Errorf("kept %q of %q", got, want)
			}
			if e.TakeUnread() != nil {
				t.Error("it is still there")
			}
		})
	}
	_, err := Classify(Profile{}, Answer{Status: 200, Body: make([]byte, maxBody)})
	var e *Error
	if !errors.As(err, &e) || len(e.TakeUnread()) != maxUnread {
		t.Error("a long one is not cut")
	}
}

// everyWay is an error as it may be written, also by value in somebody's struct.
func everyWay(e *Error) string {
	var g, z bytes.Buffer
	_ = gob.NewEncoder(&g).Encode(e)
	j, _ := json.Marshal(e)
	log := zerolog.New(&z)
	log.Error().Err(e).Interface("it", e).Msg("")
	mine := struct{ e Error }{*e}
	return fmt.Sprintf("%v %+v %#v %s %v %+v %#v %+v", e, e, e, e, mine, mine, mine, *e) + string(j) + g.String() + z.String()
}

func TestSendingLooksAtTheClock(t *testing.T) {
	if err := Sending(t.Context()); err != nil {
		t.Errorf("without a deadline: %v", err)
	}
	past := deadlineOnly{t.Context()}
	if err := Sending(past); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after a deadline whose timer has not fired: %v", err)
	}
	for _, may := range []bool{true, false} {
		ctx := WithSending(past, func() bool { return may })
		if err := Sending(ctx); (err == nil) != may {
			t.Errorf("told %v: %v", may, err)
		}
	}
}

// deadlineOnly is a ctx whose deadline has passed, and that has not ended.
type deadlineOnly struct{ context.Context }

func (deadlineOnly) Deadline() (time.Time, bool) { return time.Now().Add(-time.Second), true }
