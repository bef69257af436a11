package metrics_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/metrics"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

// A worker registers its Metrics once, and gives them to all its coordinators.
func Example() {
	server, err := refreshtest.New(refreshtest.Config{}) // in place of a real provider
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	mini, err := miniredis.Run() // in place of a real Redis
	if err != nil {
		log.Fatal(err)
	}
	defer mini.Close()
	rdb := redis.NewClient(&redis.Options{Addr: mini.Addr()})
	defer rdb.Close()
	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: tokencache.Plaintext})
	if err != nil {
		log.Fatal(err)
	}
	zoom, err := provider.OAuth2(server.OAuth2Config(), provider.Profile{})
	if err != nil {
		log.Fatal(err)
	}

	m := metrics.New()
	registry := prometheus.NewRegistry() // or prometheus.MustRegister(m), and promhttp.Handler()
	registry.MustRegister(m)
	tokens, err := refresh.New(refresh.Config{App: "zoom", Cache: cache, Provider: zoom, Observer: m})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	defer tokens.Close(ctx)

	tok := server.Grant("acme")
	tok.Expiry = time.Now().Add(-time.Second) // so that it must be refreshed
	if err := tokens.Connect(ctx, "acme", tok); err != nil {
		log.Fatal(err)
	}
	if _, err := tokens.Token(ctx, "acme"); err != nil {
		log.Fatal(err)
	}

	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, family := range families {
		for _, one := range family.GetMetric() {
			if family.GetName() == "tokenlatch_exchanges_total" && one.GetCounter().GetValue() > 0 {
				fmt.Println(family.GetName(), one.GetLabel()[0].GetValue(), one.GetLabel()[1].GetValue(), one.GetCounter().GetValue())
			}
		}
	}
	// Output: tokenlatch_exchanges_total zoom refreshed 1
}
