package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// A worker asks for the token with every webhook. The one here has expired, so the first
// call refreshes it and the others are served from memory.
func ExampleCoordinator_Token() {
	ctx := context.Background()
	server, err := refreshtest.New(refreshtest.Config{}) // stands for the provider
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	rdb, stop := embeddedRedis()
	defer stop()

	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: tokencache.Plaintext}) // a keyset in real use
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
	defer tokens.Close(ctx)

	consent := server.Grant("acme") // what oauth2.Config.Exchange returns after consent
	consent.Expiry = time.Now()     // and an hour later …
	if err := tokens.Connect(ctx, "acme", consent); err != nil {
		log.Fatal(err)
	}
	for range 3 {
		tok, err := tokens.Token(ctx, "acme")
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("valid:", server.AccessAlive(tok.AccessToken), "refresh token handed out:", tok.RefreshToken != "")
	}
	fmt.Println("exchanges:", server.Ledger().Exchanges())
	// Output:
	// valid: true refresh token handed out: false
	// valid: true refresh token handed out: false
	// valid: true refresh token handed out: false
	// exchanges: 1
}

// Errors say who acts next.
func ExampleError() {
	err := error(&refresh.Error{
		App: "zoom", Tenant: "acme", Kind: refresh.ErrUnavailable,
		Code: "slow_down", Status: 429, RetryAfter: 2 * time.Second,
	})
	var e *refresh.Error
	switch {
	case errors.Is(err, refresh.ErrReauthorize):
		fmt.Println("ask the tenant to connect again")
	case errors.Is(err, refresh.ErrClientConfig):
		fmt.Println("page the operator")
	case errors.Is(err, refresh.ErrUnavailable) && errors.As(err, &e):
		fmt.Println("try again in", e.RetryAfter)
	}
	fmt.Println(err)
	// Output:
	// try again in 2s
	// refresh: zoom:acme: unavailable for now, try again later (slow_down, HTTP 429), retry in 2s
}

// embeddedRedis is a Redis inside this process, for examples.
func embeddedRedis() (*redis.Client, func()) {
	mini, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: mini.Addr()})
	return rdb, func() {
		_ = rdb.Close()
		mini.Close()
	}
}
