package refresh_test

import (
	"context"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// When a customer must authorize the app again, its admin gets one mail: every worker hears
// of it, and the event's ID decides who sends.
func ExampleConfig_onEvent() {
	ctx := context.Background()
	server, err := refreshtest.New(refreshtest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	rdb, stopRedis := embeddedRedis()
	defer stopRedis()
	var outbox []string
	var mu sync.Mutex

	mailTheAdmin := func(e refresh.Event) {
		if e.Kind != refresh.EventReauthorize && e.Kind != refresh.EventReauthDue {
			return
		}
		// Ours for a minute: who dies over the mail leaves it to the next that hears of it.
		first, err := rdb.SetNX(ctx, "mailed:"+e.ID, "sending", time.Minute).Result()
		if err != nil || !first {
			return
		}
		mu.Lock()
		outbox = append(outbox, fmt.Sprintf("to the admin of %s: please connect again (%s)", e.Tenant, e.Reason))
		mu.Unlock()
		rdb.Set(ctx, "mailed:"+e.ID, "sent", 90*24*time.Hour)
	}

	one, two := eventfulWorker(server, rdb, mailTheAdmin), eventfulWorker(server, rdb, mailTheAdmin)
	if err := one.Connect(ctx, "acme", server.Grant("acme")); err != nil {
		log.Fatal(err)
	}
	for _, w := range []*refresh.Coordinator{one, two} {
		if _, err := w.Token(ctx, "acme"); err != nil {
			log.Fatal(err)
		}
	}
	server.Revoke("acme")
	fmt.Println(one.Refresh(ctx, "acme"))
	_ = one.Close(ctx) // tells all that has happened before it returns
	_ = two.Close(ctx)
	for _, mail := range outbox {
		fmt.Println(mail)
	}
	// Output:
	// refresh: zoom:acme: the tenant must authorize the app again (invalid_grant, HTTP 400)
	// to the admin of acme: please connect again (invalid_grant)
}

func eventfulWorker(server *refreshtest.Server, rdb redis.UniversalClient, onEvent func(refresh.Event)) *refresh.Coordinator {
	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: tokencache.Plaintext})
	if err != nil {
		log.Fatal(err)
	}
	zoom, err := provider.OAuth2(server.OAuth2Config(), provider.Zoom())
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := refresh.New(refresh.Config{App: "zoom", Cache: cache, Provider: zoom, OnEvent: onEvent})
	if err != nil {
		log.Fatal(err)
	}
	return tokens
}
