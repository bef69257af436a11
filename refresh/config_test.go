package refresh_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/lock"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache"
)

func TestConfigurationThatCannotWorkIsRefusedInWords(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}) // never dialed
	defer rdb.Close()
	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: tokencache.Plaintext})
	if err != nil {
		t.Fatal(err)
	}
	endpoint := oauth2.Endpoint{TokenURL: "https://example.com/token", AuthStyle: oauth2.AuthStyleInHeader}
	prov, err := provider.OAuth2(&oauth2.Config{ClientID: "id", ClientSecret: "s", Endpoint: endpoint}, provider.Profile{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		says  string
		alter func(*refresh.Config)
	}{
		{"App", func(cfg *refresh.Config) { cfg.App = "" }},
		{"App", func(cfg *refresh.Config) { cfg.App = strings.Repeat("x", 257) }},
		{"Cache", func(cfg *refresh.Config) { cfg.Cache = nil }},
		{"Exchanger", func(cfg *refresh.Config) { cfg.Provider.Exchanger = nil }},
		{"Grace", func(cfg *refresh.Config) { cfg.Provider.Profile.Replay = provider.ReplayGrace }},
		{"ClaimTimeout", func(cfg *refresh.Config) { cfg.ClaimTimeout = cfg.ExchangeTimeout }},
		{"ClaimTimeout", func(cfg *refresh.Config) { cfg.ExchangeTimeout, cfg.ClaimTimeout = 10*time.Second, 9*time.Second }},
		{"ExchangeTimeout", func(cfg *refresh.Config) { cfg.ExchangeTimeout = -time.Second }},
		{"CommitPatience", func(cfg *refresh.Config) { cfg.CommitPatience = -time.Second }},
		{"TTL", func(cfg *refresh.Config) { cfg.Locker = lock.New(lock.Config{TTL: time.Millisecond}, rdb) }},
	} {
		cfg := refresh.Config{App: "zoom", Cache: cache, Provider: prov, ExchangeTimeout: time.Second, ClaimTimeout: 2 * time.Second}
		c.alter(&cfg)
		if _, err := refresh.New(cfg); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("got %v, want an error that names %s", err, c.says)
		}
	}
	if _, err := tokencache.New(rdb, tokencache.Config{}); err == nil || !strings.Contains(err.Error(), "AEAD") {
		t.Errorf("a missing AEAD: %v", err)
	}
	endpoint.AuthStyle = oauth2.AuthStyleAutoDetect
	if _, err := provider.OAuth2(&oauth2.Config{ClientID: "id", Endpoint: endpoint}, provider.Profile{}); err == nil || !strings.Contains(err.Error(), "AuthStyle") {
		t.Errorf("an auto-detected AuthStyle: %v", err)
	}
}
