package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// A webhook handler calls the provider's API for the tenant that the webhook is about. The
// provider has killed the access token long before its expires_in: the API answers 401, the
// token is refreshed once for the whole fleet, and the call is sent again.
func ExampleCoordinator_Client() {
	server, tokens, stop := exampleApp()
	defer stop()
	server.ExpireAccessTokens("acme")

	webhook := func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), "GET", server.APIURL()+"meetings/1", nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		resp, err := tokens.Client(r.FormValue("tenant")).Do(req)
		var e *refresh.Error
		switch {
		case err == nil:
			resp.Body.Close()
			fmt.Fprintln(w, "the API answered", resp.StatusCode)
		case errors.Is(err, refresh.ErrReauthorize), errors.Is(err, refresh.ErrNotConnected):
			fmt.Fprintln(w, "ask the customer to connect again") // 200: the sender need not come back
		case errors.Is(err, refresh.ErrUnavailable) && errors.As(err, &e):
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
			http.Error(w, "try again later", http.StatusServiceUnavailable)
		default: // refresh.ErrClientConfig: page somebody
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}

	deliver := func(tenant string) {
		w := httptest.NewRecorder()
		webhook(w, httptest.NewRequest("POST", "/webhook?tenant="+tenant, nil))
		fmt.Printf("%d %s (says when: %v)\n", w.Code, strings.TrimSpace(w.Body.String()), w.Header().Get("Retry-After") != "")
	}
	deliver("acme")
	fmt.Println("exchanges:", server.Ledger().Exchanges())

	server.ExpireAccessTokens("acme") // and the provider is throttling
	server.Script(refreshtest.Step{Status: 429, Header: http.Header{"Retry-After": {"7"}}})
	deliver("acme")
	deliver("a-customer-who-never-connected")
	// Output:
	// 200 the API answered 200 (says when: false)
	// exchanges: 1
	// 503 try again later (says when: true)
	// 200 ask the customer to connect again (says when: false)
}

// A queue's worker must not wait: a job that comes while its tenant's token is being
// refreshed goes back into the queue, and the worker takes the next one.
func ExampleCoordinator_TryToken() {
	ctx := context.Background()
	server, tokens, stop := exampleApp()
	defer stop()
	expired := server.Grant("slow")
	expired.Expiry = expired.Expiry.AddDate(0, 0, -1)
	if err := tokens.Connect(ctx, "slow", expired); err != nil {
		log.Fatal(err)
	}
	gate := server.Hold(refreshtest.BeforeCommit, "slow") // its provider takes its time

	work := func(tenant string) (done bool) {
		_, err := tokens.TryToken(ctx, tenant)
		var e *refresh.Error
		if errors.Is(err, refresh.ErrPending) && errors.As(err, &e) {
			fmt.Printf("%s: run again later: %v\n", tenant, e.RetryAfter > 0)
			return false
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: done\n", tenant)
		return true
	}

	var later []string
	for _, tenant := range []string{"slow", "acme"} {
		if !work(tenant) {
			later = append(later, tenant) // in real use: with a delay of e.RetryAfter
		}
	}

	gate.Release()
	if _, err := tokens.Token(ctx, "slow"); err != nil { // stands for the delay
		log.Fatal(err)
	}
	for _, tenant := range later {
		work(tenant)
	}
	fmt.Println("exchanges:", server.Ledger().Exchanges())
	// Output:
	// slow: run again later: true
	// acme: done
	// slow: done
	// exchanges: 1
}

// An SDK that wants an oauth2.TokenSource gets one. It must ask it for every call: a token
// that is kept until its Expiry may have been replaced long before.
func ExampleCoordinator_TokenSource() {
	ctx := context.Background()
	server, tokens, stop := exampleApp()
	defer stop()

	sdk := struct{ auth oauth2.TokenSource }{tokens.TokenSource(ctx, "acme")}

	first, err := sdk.auth.Token()
	if err != nil {
		log.Fatal(err)
	}
	if err := tokens.Refresh(ctx, "acme"); err != nil { // anywhere in the fleet
		log.Fatal(err)
	}
	second, err := sdk.auth.Token()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the source has moved on:", first.AccessToken != second.AccessToken)
	fmt.Println("living:", server.AccessAlive(second.AccessToken))
	// Output:
	// the source has moved on: true
	// living: true
}

// A client of one's own (gRPC, a websocket, an SDK that takes a string) reports the token
// that was refused, and tries once more with the one that Token returns then.
func ExampleCoordinator_Reject() {
	ctx := context.Background()
	server, tokens, stop := exampleApp()
	defer stop()
	server.ExpireAccessTokens("acme") // the provider's doing

	call := func(tok *oauth2.Token) (unauthorized bool) { return !server.AccessAlive(tok.AccessToken) }

	for range 2 {
		tok, err := tokens.Token(ctx, "acme")
		if err != nil {
			log.Fatal(err)
		}
		if !call(tok) {
			fmt.Println("accepted")
			break
		}
		fmt.Println("401")
		if err := tokens.Reject(ctx, "acme", tok.AccessToken); err != nil {
			log.Fatal(err) // says who acts next, as Token's errors do
		}
	}
	fmt.Println("exchanges:", server.Ledger().Exchanges())
	// Output:
	// 401
	// accepted
	// exchanges: 1
}

// exampleApp is a coordinator with one tenant, acme, as ExampleCoordinator_Token sets it up.
func exampleApp() (*refreshtest.Server, *refresh.Coordinator, func()) {
	server, err := refreshtest.New(refreshtest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	rdb, stopRedis := embeddedRedis()
	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: tokencache.Plaintext})
	if err != nil {
		log.Fatal(err)
	}
	zoom, err := provider.OAuth2(server.OAuth2Config(), provider.Zoom())
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := refresh.New(refresh.Config{App: "zoom", Cache: cache, Provider: zoom})
	if err != nil {
		log.Fatal(err)
	}
	if err := tokens.Connect(context.Background(), "acme", server.Grant("acme")); err != nil {
		log.Fatal(err)
	}
	return server, tokens, func() {
		_ = tokens.Close(context.Background())
		stopRedis()
		_ = server.Close()
	}
}
