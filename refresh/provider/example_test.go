package provider_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
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
	fmt.Println(ok, p.Replay, p.Grace)

	// The copy is yours to change.
	p.RefreshAhead = 0.5
	fmt.Println(p.Validate())

	// Output:
	// true grace 10m0s
	// <nil>
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

// Zoom's server-to-server OAuth: each account's token is minted from the app's own
// credentials, with two keys in turn.
func ExampleRotating() {
	server, err := refreshtest.New(refreshtest.Config{Profile: provider.ZoomServerToServer()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	app := server.OAuth2Config()

	zoom, err := provider.Rotating(2, func(slot int) (provider.Provider, error) {
		return provider.ClientCredentials(&clientcredentials.Config{
			ClientID: app.ClientID, ClientSecret: app.ClientSecret, TokenURL: server.TokenURL(),
			EndpointParams: url.Values{
				"grant_type":  {"account_credentials"},
				"account_id":  {"{tenant}"},
				"token_index": {strconv.Itoa(slot)},
			},
		}, provider.ZoomServerToServer())
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	first, _ := zoom.Exchanger.Exchange(ctx, provider.Grant{Tenant: "acme", Generation: 0})
	second, _ := zoom.Exchanger.Exchange(ctx, provider.Grant{Tenant: "acme", Generation: 1})
	fmt.Println("the old key lives:", server.AccessAlive(first.AccessToken))
	_, _ = zoom.Exchanger.Exchange(ctx, provider.Grant{Tenant: "acme", Generation: 2}) // in the first's slot
	fmt.Println("and until its slot is used again:", server.AccessAlive(first.AccessToken), server.AccessAlive(second.AccessToken))
	// Output:
	// the old key lives: true
	// and until its slot is used again: false true
}
