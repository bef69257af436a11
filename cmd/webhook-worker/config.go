package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/metrics"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/seal"
)

// config holds what differs between a laptop and production.
type config struct {
	listen, url string
	drain       time.Duration
	redis       *redis.Options
	aead        tokencache.AEAD
	profile     provider.Profile
	oauth       *oauth2.Config
	api         string // what a webhook calls; its answer names the tenant
	tenantField string
	fake        *refreshtest.Server // nil: the provider is a real one
	metrics     *metrics.Metrics    // what the worker does, for Prometheus
	out         io.Writer           // says what to try
	stop        []func()
}

// close ends the stand-ins.
func (cfg config) close() {
	for _, stop := range cfg.stop {
		stop()
	}
}

// configure reads flags and environment. No secret is a flag: every user of the machine can read those.
func configure(args []string) (cfg config, err error) {
	cfg.out, cfg.metrics = os.Stdout, metrics.New()
	oauth := &oauth2.Config{ClientSecret: os.Getenv("CLIENT_SECRET")}
	var keyset, name, style, scopes string
	fs := flag.NewFlagSet("webhook-worker", flag.ExitOnError)
	fs.StringVar(&cfg.listen, "listen", "127.0.0.1:8080", "`address` to listen on")
	fs.StringVar(&cfg.url, "url", "", "`URL` of this app as browsers see it (default http:// and the address)")
	fs.DurationVar(&cfg.drain, "drain", 0, "how long /healthz says 503 before the end: until the load balancer has noticed")
	fs.StringVar(&keyset, "keyset", "", "`file` of the keyset that seals the tokens; goes with $REDIS_URL")
	fs.StringVar(&name, "provider", "zoom", "whose rules, by `name`: "+strings.Join(provider.PresetNames(), ", "))
	fs.StringVar(&oauth.Endpoint.AuthURL, "auth-url", "", "authorization endpoint of a real provider; the secret is in $CLIENT_SECRET")
	fs.StringVar(&oauth.Endpoint.TokenURL, "token-url", "", "its token endpoint")
	fs.StringVar(&style, "client-in", "header", "where it wants client id and secret: header or body")
	fs.StringVar(&oauth.ClientID, "client-id", "", "your app there")
	fs.StringVar(&scopes, "scopes", "", "what to ask for, separated by blanks")
	fs.StringVar(&cfg.api, "api", "", "`URL` that each webhook calls")
	fs.StringVar(&cfg.tenantField, "tenant-field", "tenant", "the member of the API's answer that names the tenant")
	_ = fs.Parse(args)
	oauth.Scopes = strings.Fields(scopes)
	oauth.Endpoint.AuthStyle = map[string]oauth2.AuthStyle{"header": oauth2.AuthStyleInHeader, "body": oauth2.AuthStyleInParams}[style]
	var known bool
	cfg.oauth = oauth
	if cfg.profile, known = provider.Preset(name); !known || oauth.Endpoint.AuthStyle == 0 || fs.NArg() > 0 {
		return cfg, errors.New("-provider or -client-in is not known, or there is an argument that is no flag; see -h")
	}
	if err := errors.Join(cfg.chooseProvider(), cfg.chooseRedis(os.Getenv("REDIS_URL"), keyset)); err != nil {
		cfg.close()
		return cfg, err
	}
	return cfg, nil
}

// chooseProvider takes the real provider if its addresses are given, else a fake one.
func (cfg *config) chooseProvider() error {
	if e := cfg.oauth.Endpoint; e.TokenURL != "" || e.AuthURL != "" || cfg.api != "" || cfg.oauth.ClientID != "" {
		if e.TokenURL == "" || e.AuthURL == "" || cfg.api == "" || cfg.oauth.ClientID == "" || cfg.oauth.ClientSecret == "" {
			return errors.New("a real provider needs -auth-url, -token-url, -client-id, -api and $CLIENT_SECRET")
		}
		return nil
	}
	fake, err := refreshtest.New(refreshtest.Config{Profile: cfg.profile, Control: true})
	if err != nil {
		return err
	}
	cfg.fake, cfg.oauth, cfg.api = fake, fake.OAuth2Config(), fake.APIURL()+"users/me"
	cfg.stop = append(cfg.stop, func() { _ = fake.Close() })
	return nil
}

// chooseRedis takes the real Redis if there is an address, else one in this process. Tokens in the real
// one are sealed.
func (cfg *config) chooseRedis(address, keyset string) (err error) {
	switch {
	case address == "" && keyset != "":
		return errors.New("-keyset goes with $REDIS_URL")
	case address == "" && cfg.fake == nil:
		return errors.New("a real provider's tokens need a Redis that outlives this process: set $REDIS_URL")
	case address == "":
		return cfg.embedRedis()
	case keyset == "":
		return errors.New("$REDIS_URL needs -keyset, so that tokens are sealed; `tokenlatch keys generate` makes one")
	}
	if cfg.aead, err = seal.FromFile(keyset); err != nil {
		return err
	}
	if cfg.redis, err = redis.ParseURL(address); err != nil {
		return errors.New("$REDIS_URL is not of the form redis://user:password@host:port/db")
	}
	cfg.redis.ContextTimeoutEnabled = true // a caller's deadline reaches the socket
	return nil
}

// embedRedis starts a Redis in this process. Its tokens are not sealed: they end with the process.
func (cfg *config) embedRedis() error {
	mini := miniredis.NewMiniRedis()
	if err := mini.Start(); err != nil {
		return err
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		const tick = 50 * time.Millisecond
		for {
			select {
			case <-time.After(tick):
				mini.FastForward(tick) // left alone, no TTL ever ends
			case <-stop:
				return
			}
		}
	}()
	cfg.redis, cfg.aead = &redis.Options{Addr: mini.Addr(), ContextTimeoutEnabled: true}, tokencache.Plaintext
	cfg.stop = append(cfg.stop, func() { close(stop); <-stopped; mini.Close() })
	return nil
}

// scraped serves the metrics. They name apps, and no tenant; a worker that the world can reach serves them on another port.
func (cfg *config) scraped() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(cfg.metrics)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// introduce completes the URLs, now that the address is known, and prints requests to try.
func (cfg *config) introduce(addr net.Addr) {
	if cfg.url == "" {
		cfg.url = "http://" + addr.String()
	}
	cfg.oauth.RedirectURL = cfg.url + "/callback"
	fmt.Fprintf(cfg.out, "connect  %s/connect   in a browser\n", cfg.url)
	fmt.Fprintf(cfg.out, "webhook  curl -d '{\"tenant\":\"acme\"}' %s/webhook\n", cfg.url)
	if cfg.fake != nil {
		fmt.Fprintf(cfg.out, "expire   curl -X POST '%s/control/expire?tenant=acme'   its access tokens, at the fake provider\n", cfg.fake.URL)
		fmt.Fprintf(cfg.out, "ledger   curl %s/control/ledger   every refresh that the fake provider has seen\n", cfg.fake.URL)
	}
}
