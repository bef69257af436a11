package provider_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// A token endpoint that rotates: each refresh token works once.
func rotatingServer() *httptest.Server {
	living := "first"
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.PostFormValue("refresh_token") != living {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"reason":"Invalid Token!","error":"invalid_grant"}`)
			return
		}
		living = "second"
		fmt.Fprintf(w, `{"access_token":"fresh","refresh_token":%q,"expires_in":3600}`, living)
	}))
}

func ExampleOAuth2() {
	server := rotatingServer()
	defer server.Close()

	zoom, err := provider.OAuth2(&oauth2.Config{
		ClientID:     "id",
		ClientSecret: "secret",
		Endpoint:     oauth2.Endpoint{TokenURL: server.URL},
	}, provider.Zoom())
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	pair, err := zoom.Exchanger.Exchange(ctx, provider.Grant{RefreshToken: "first"})
	fmt.Println(pair.RefreshToken, pair.ExpiresIn, err)

	// Presented again, the old one is refused. The tenant is at fault only if no
	// other worker has stored a newer pair meanwhile.
	_, err = zoom.Exchanger.Exchange(ctx, provider.Grant{RefreshToken: "first"})
	var refused *provider.Error
	if errors.As(err, &refused) {
		fmt.Println(refused.Class, refused.Code, refused.Status)
	}
	// Secrets have no road out.
	fmt.Printf("%+v\n", pair)

	// Output:
	// second 1h0m0s <nil>
	// reauthorize invalid_grant 400
	// pair expires_in=1h0m0s [redacted]
}

func ExamplePreset() {
	p, ok := provider.Preset("atlassian")
	fmt.Println(ok, p.Replay, p.Grace, p.RefreshAfter(p.Lifetime(0)))

	// The copy is yours to change.
	p.RefreshAhead = 0.5
	fmt.Println(p.Validate(), p.RefreshAfter(p.Lifetime(0)))

	// Output:
	// true grace 10m0s 54m0s
	// <nil> 30m0s
}

func ExampleClassify() {
	_, err := provider.Classify(provider.Slack(), provider.Answer{
		Status: 200,
		Body:   []byte(`{"ok":false,"error":"invalid_refresh_token"}`),
	})
	fmt.Println(err)

	// Output:
	// provider: reauthorize invalid_refresh_token (HTTP 200)
}
