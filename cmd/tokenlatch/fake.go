package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

const fakeUsage = `A fake OAuth provider for trying things out: consent in a browser (the code flow
with PKCE), a token endpoint that obeys a real provider's rules about refresh
tokens, and an API behind it. Every tenant exists. A ledger lists every refresh
token that was presented, and what came of it. Requests to /control/ make it
expire, revoke and fail. Any client that reaches it can send these, so leave it
on the loopback interface. It keeps everything in memory. Ctrl-C ends it.

`

const fakeControl = `
Control:
  POST /control/grant?tenant=acme      acme consents without a browser
  POST /control/expire?tenant=acme     its access tokens end now
  POST /control/revoke?tenant=acme     its admin removes the app
  POST /control/advance?by=90m         the provider's clock goes ahead
  POST /control/fail                   the next exchange is answered 503; also
       ?tenant=acme&status=429&retry_after=7&times=3
       ?error=invalid_grant, ?fault=drop (reset, truncate), ?at=after its commit
  GET  /control/ledger?tenant=acme     who presented what, as JSON; no tokens
`

type fakeOptions struct {
	listen  string
	life    time.Duration
	latency time.Duration
	name    string
	profile provider.Profile
}

func newFake() *cobra.Command {
	var opt fakeOptions
	cmd := &cobra.Command{
		Use: "fake [flags]", Short: "a fake OAuth provider to try things out with",
		Long: fakeUsage, Example: `tokenlatch fake
tokenlatch fake --profile google --access-token-life 30s`,
		Annotations: map[string]string{cli.Globals: "", cli.Tail: fakeControl},
		Args:        flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opt.check(); err != nil {
				return cli.Usage(err)
			}
			return fake(cmd.Context(), opt, cmd.OutOrStdout())
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&opt.listen, "listen", "127.0.0.1:9096", "`ADDR` to listen on, host:port; port 0 takes a free one")
	fs.StringVar(&opt.name, "profile", "zoom", "provider whose rules it obeys, by `name`: "+strings.Join(provider.PresetNames(), ", "))
	fs.DurationVar(&opt.life, "access-token-life", time.Hour, "how long access tokens live, at least 1s")
	fs.DurationVar(&opt.latency, "latency", 0, "how long an exchange takes")
	return cmd
}

func (o *fakeOptions) check() (err error) {
	p, known := provider.Preset(o.name)
	o.profile = p
	switch {
	case !known:
		return fmt.Errorf("--profile %q is not known; there are: %s", o.name, strings.Join(provider.PresetNames(), ", "))
	case o.life < time.Second:
		return fmt.Errorf("--access-token-life %s: must be at least 1s", o.life)
	case o.latency < 0:
		return fmt.Errorf("--latency %s: must not be negative", o.latency)
	}
	return nil
}

// fake serves until ctx ends.
func fake(ctx context.Context, opt fakeOptions, stdout io.Writer) error {
	server, err := refreshtest.New(refreshtest.Config{
		Addr: opt.listen, Profile: opt.profile, Control: true, AccessTokenLife: opt.life,
		LatencyBefore: opt.latency * 2 / 3, LatencyAfter: opt.latency - opt.latency*2/3,
	})
	if err != nil {
		return &cli.Error{Exit: cli.ExitFailed, Code: "address", Err: err, Hint: "--listen names another address"}
	}
	introduce(server, opt.profile, stdout)
	<-ctx.Done()
	return server.Close()
}

// introduce prints the endpoints and something to try. The secret in it is worth nothing.
func introduce(s *refreshtest.Server, p provider.Profile, w io.Writer) {
	cfg := s.OAuth2Config()
	style := "Basic header"
	if cfg.Endpoint.AuthStyle == oauth2.AuthStyleInParams {
		style = "body"
	}
	fmt.Fprintf(w, `tokenlatch fake  %s's rules; client %q, secret %q, in the %s
  authorize  %s   login_hint=acme consents as acme, unasked
  token      %s
  API        %s
  control    %s/control/…   see tokenlatch fake -h
try:
  curl -X POST '%s/control/grant?tenant=acme'   # acme consents: its first pair
`, p.Name, cfg.ClientID, cfg.ClientSecret, style, s.AuthURL(), s.TokenURL(), s.APIURL(), s.URL, s.URL)
}
