package exchange

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// A server's new nonce costs a second request, not an error for callers; one that never has enough costs two.
func TestAnExchangeAsksOnceMoreWhenItHasLearnedWhatWasMissing(t *testing.T) {
	for _, enough := range []bool{true, false} {
		requests := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests++
			if requests == 1 || !enough {
				w.Header().Set("DPoP-Nonce", rand.Text())
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"error":"use_dpop_nonce"}`)
				return
			}
			_, _ = io.WriteString(w, `{"access_token":"a"}`)
		}))
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		p, err := provider.OAuth2(&oauth2.Config{ClientID: "id", Endpoint: oauth2.Endpoint{TokenURL: s.URL, AuthStyle: oauth2.AuthStyleInParams}},
			provider.Profile{}, provider.DPoP(key))
		if err != nil {
			t.Fatal(err)
		}
		m := &Maker{Provider: p}
		x, run := m.Prepare(Limits{Send: 10 * time.Second}, provider.Grant{RefreshToken: "r"})
		run()
		if ok := x.Failure == nil && x.Pair.AccessToken == "a"; ok != enough || requests != 2 {
			t.Errorf("enough=%v: %d requests, %v", enough, requests, x.Failure)
		}
		p.Exchanger.(*provider.TokenEndpoint).CloseIdleConnections()
		s.Close()
	}
}
