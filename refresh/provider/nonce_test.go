package provider

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParallelExchangesAllHearTheNonce(t *testing.T) {
	p, err := OAuth2(app("https://token.example"), Profile{}, DPoP(ecKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	ep := p.Exchanger.(*TokenEndpoint)
	both := make(chan struct{}, 2)
	ep.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, r.Body)
		both <- struct{}{}
		for len(both) < 2 {
			time.Sleep(time.Millisecond)
		}
		return &http.Response{StatusCode: 400, Header: http.Header{"Dpop-Nonce": {"n1"}}, Body: io.NopCloser(strings.NewReader(`{"error":"use_dpop_nonce"}`))}, nil
	})
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := ep.Exchange(t.Context(), Grant{RefreshToken: canaryRefresh})
			errs <- err
		}()
	}
	for range 2 {
		var e *Error
		if err := <-errs; !errors.As(err, &e) || !e.AskAgain() {
			t.Errorf("%v", err)
		}
	}
}

func TestA5xxThatWantsANonceIsNoProof(t *testing.T) {
	p, err := OAuth2(app("https://token.example"), Profile{}, DPoP(ecKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	ep := p.Exchanger.(*TokenEndpoint)
	ep.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, r.Body)
		return &http.Response{StatusCode: 502, Header: http.Header{"Dpop-Nonce": {"n1"}}, Body: io.NopCloser(strings.NewReader(`{"error":"use_dpop_nonce"}`))}, nil
	})
	_, err = ep.Exchange(t.Context(), Grant{RefreshToken: canaryRefresh})
	if e := asError(t, err); e.AskAgain() || e.Class != Ambiguous {
		t.Errorf("%v", e)
	}
}
