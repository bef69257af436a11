package refresh_test

import (
	"context"
	"fmt"
	"log"
	"net/url"

	"github.com/google/go-github/v75/github"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
)

// A real SDK, google/go-github, takes an http.Client, and [oauth2.NewClient] makes one that keeps each
// token until its Expiry. With ShortLived it asks for each call, and so is never left with a token that
// another process has replaced.
func ExampleCoordinator_TokenSource_sdk() {
	ctx := context.Background()
	server, tokens, stop := exampleApp()
	defer stop()

	call := func(sdk *github.Client) int {
		_, resp, err := sdk.Users.Get(ctx, "")
		if resp == nil {
			log.Fatal(err)
		}
		return resp.StatusCode
	}
	newSDK := func(source oauth2.TokenSource) *github.Client {
		sdk := github.NewClient(oauth2.NewClient(ctx, source))
		sdk.BaseURL, _ = url.Parse(server.APIURL()) // stands for https://api.github.com/
		return sdk
	}
	usual := newSDK(tokens.TokenSource(ctx, "acme"))
	asking := newSDK(tokens.TokenSource(ctx, "acme", refresh.ShortLived))
	fmt.Println("first calls:", call(usual), call(asking))

	if err := tokens.Refresh(ctx, "acme"); err != nil { // anywhere in the fleet; it kills the old token
		log.Fatal(err)
	}
	fmt.Println("after a refresh elsewhere:", call(usual), call(asking))
	// Output:
	// first calls: 200 200
	// after a refresh elsewhere: 401 200
}
