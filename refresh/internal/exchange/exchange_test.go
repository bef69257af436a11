package exchange

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

func TestAnExchangeIsListenedToForLongerOnlyOnceItHasLeftInTime(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits Limits
		says   []time.Duration // when the Exchanger says that it sends
		may    []bool
		ends   time.Duration
	}{
		{"never sent", Limits{Send: time.Second, Listen: time.Minute}, nil, nil, time.Second},
		{"sent in time", Limits{Send: time.Second, Listen: time.Minute}, []time.Duration{900 * time.Millisecond}, []bool{true}, time.Minute},
		{"sent late", Limits{Send: time.Second, Listen: time.Minute}, []time.Duration{1100 * time.Millisecond}, []bool{false}, 1100 * time.Millisecond},
		{"sent again late", Limits{Send: time.Second, Listen: time.Minute}, []time.Duration{0, 2 * time.Second}, []bool{true, false}, time.Minute},
		{"harmless", Limits{Send: time.Second}, []time.Duration{0}, []bool{true}, time.Second},
		{"harmless for now", Limits{Send: time.Second, Listen: time.Minute, HangUp: func() bool { return true }}, []time.Duration{0}, []bool{true}, time.Second},
		{"harmless no more", Limits{Send: time.Second, Listen: time.Minute, HangUp: func() bool { return false }}, []time.Duration{0}, []bool{true}, time.Minute},
		{"late by another clock", Limits{Send: time.Second, Listen: time.Minute, Late: func() bool { return true }}, []time.Duration{0}, []bool{false}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newLifetime(c.limits)
				for i, at := range c.says {
					time.Sleep(time.Until(x.start.Add(at)))
					if err := provider.Sending(x); (err == nil) != c.may[i] {
						t.Errorf("after %v: %v", at, err)
					}
				}
				<-x.Done()
				if took := time.Since(x.start); took != c.ends || !errors.Is(x.Err(), context.DeadlineExceeded) {
					t.Errorf("ended after %v with %v, want %v", took, x.Err(), c.ends)
				}
				if provider.Sending(x) == nil {
					t.Error("may still send")
				}
			})
		})
	}
}

func TestChildrenOfAnExchangesCtxEndWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newLifetime(Limits{Send: time.Second, Listen: time.Minute})
		child, cancel := context.WithTimeout(context.WithValue(x, key{}, 1), time.Hour)
		defer cancel()
		if err := provider.Sending(child); err != nil {
			t.Fatal(err)
		}
		<-child.Done()
		if took := time.Since(x.start); took != time.Minute {
			t.Errorf("ended after %v", took)
		}
	})
}

type key struct{}
