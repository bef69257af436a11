package provider

import (
	"net/http"
	"testing"
	"time"
)

func TestAWishForFewerRequestsIsHeardWhateverBecameOfTheToken(t *testing.T) {
	for _, tt := range []struct {
		e    Error
		want bool
	}{
		{Error{Class: Throttled, Status: http.StatusTooManyRequests}, true},
		{Error{Class: Throttled, Code: "Access_Denied", Status: http.StatusBadRequest}, true},
		{Error{Class: Ambiguous, Status: http.StatusServiceUnavailable, RetryAfter: time.Second}, true},
		{Error{Class: Ambiguous, Code: "slow_down", Status: http.StatusServiceUnavailable}, true},
		{Error{Class: Ambiguous, Status: http.StatusServiceUnavailable}, false},
		{Error{Class: Ambiguous, Status: http.StatusBadGateway, RetryAfter: time.Second}, false},
		{Error{Class: Busy, Status: http.StatusConflict}, false},
		{Error{Class: Refused, Status: http.StatusForbidden, RetryAfter: time.Second}, false},
	} {
		if got := tt.e.Throttles(); got != tt.want {
			t.Errorf("%v: %t", &tt.e, got)
		}
	}
}

func TestOnlyTheCodeInvalidClientIsCertainlyAboutTheClient(t *testing.T) {
	for _, tt := range []struct {
		e    Error
		want bool
	}{
		{Error{Class: AppRefused, Code: "invalid_client", Status: 401}, true},
		{Error{Class: AppRefused, Code: "INVALID_CLIENT", Status: 200}, true},
		{Error{Class: AppRefused, Code: "unauthorized_client", Status: 400}, false},
		{Error{Class: AppRefused, Status: 401}, false},
		{Error{Class: AppRefused, Status: 302}, false},
		{Error{Class: Reauthorize, Code: "invalid_client", Status: 401}, false}, // a phrase knows better
		{Error{Class: Ambiguous, Code: "invalid_client", Status: 500}, false},
	} {
		if got := tt.e.ClientRefused(); got != tt.want {
			t.Errorf("%v: %t", &tt.e, got)
		}
	}
}
