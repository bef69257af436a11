package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// connecting are the flags of connect.
type connecting struct {
	acting
	confirm string
	stdin   io.Reader
}

func newConnect(g *globals) *cobra.Command {
	c := &connecting{acting: acting{globals: g}}
	cmd := &cobra.Command{
		Use: "connect APP TENANT [flags]", Short: "store the pair of a new consent, from stdin",
		Long: `Store a token pair that a consent has brought: the token endpoint's answer as it
came, on stdin, as JSON. The fleet has it at once. expires_in counts from now;
expiry or expires_at say when the access token ends. Where none is given, the
provider's profile says how long it lives.

A grant that is active is replaced only with --confirm: its pair is given up.
Where no consent is needed (client_credentials), stdin is not read, and the
first token is fetched.`,
		Example: `tokenlatch connect zoom acme < answer.json
curl -s -d … https://zoom.us/oauth/token | tokenlatch connect zoom acme`,
		Args: named("APP", "TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.stdin = cmd.InOrStdin()
			return c.connect(cmd, grant.Key{App: args[0], Tenant: args[1]})
		},
	}
	addConfig(cmd, &c.config)
	cmd.Flags().StringVar(&c.confirm, "confirm", "", "the `TENANT` once more, if its active grant is to be replaced")
	return cmd
}

func (c *connecting) connect(cmd *cobra.Command, k grant.Key) error {
	w, row, err := c.open(cmd, k)
	if err != nil {
		return err
	}
	return w.left(c.globals, c.store(cmd.Context(), w, row, k))
}

func (c *connecting) store(ctx context.Context, w *worker, row *inspect.Row, k grant.Key) error {
	if row != nil && row.Err == nil && row.Record.State == grant.Active && c.confirm != k.Tenant {
		return unconfirmed("connect", k, "%s is connected (generation %d): its pair would be given up for the one on stdin", oncall.ID(k.Tenant), row.Record.Generation)
	}
	var tok *oauth2.Token
	if !w.app.Mints() {
		if f, ok := c.stdin.(*os.File); ok && term.IsTerminal(f) {
			c.talk("the token endpoint's answer, as JSON; Ctrl-D ends it")
		}
		text, err := io.ReadAll(io.LimitReader(c.stdin, longestAnswer+1))
		if err == nil {
			tok, err = tokenOf(text, time.Now())
		}
		if err != nil {
			return &cli.Error{Exit: cli.ExitUsage, Code: "token", Err: fmt.Errorf("stdin: %w", err), Hint: `{"access_token": …, "refresh_token": …, "expires_in": 3600} is expected`}
		}
	}
	err := w.tokens.Connect(ctx, k.Tenant, tok)
	switch {
	case errors.Is(err, tokencache.ErrSpent):
		return &cli.Error{Exit: cli.ExitFailed, Code: "spent", Err: err, Hint: "the tenant must consent anew"}
	case err != nil:
		return c.refused(w, k, err)
	}
	return c.after(ctx, w, k, "connected")
}

// longestAnswer bounds a token endpoint's answer, in bytes.
const longestAnswer = 1 << 20

// tokenOf reads a token endpoint's answer, or a token as x/oauth2 stores it. No error quotes it.
func tokenOf(text []byte, now time.Time) (*oauth2.Token, error) {
	var members map[string]any
	if len(text) > longestAnswer {
		return nil, fmt.Errorf("longer than %d bytes", longestAnswer)
	}
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return nil, errors.New("no JSON object")
	}
	return tokenFrom(members, now)
}

// tokenFrom makes a token of the members of an answer.
func tokenFrom(members map[string]any, now time.Time) (*oauth2.Token, error) {
	tok := &oauth2.Token{}
	for name, to := range map[string]*string{"access_token": &tok.AccessToken, "refresh_token": &tok.RefreshToken, "token_type": &tok.TokenType} {
		switch v := members[name].(type) {
		case nil:
		case string:
			*to = v
		default:
			return nil, fmt.Errorf("%s is no text", name)
		}
	}
	if tok.AccessToken == "" {
		return nil, errors.New("no access_token")
	}
	var err error
	if tok.Expiry, err = expiryOf(members, now); err != nil {
		return nil, err
	}
	return tok.WithExtra(members), nil
}

// expiryOf returns when an access token ends; zero for unsaid.
func expiryOf(members map[string]any, now time.Time) (time.Time, error) {
	for _, name := range []string{"expiry", "expires_at"} {
		switch v := members[name].(type) {
		case nil:
		case float64:
			return time.Unix(int64(v), 0), nil
		case string:
			t, err := time.Parse(time.RFC3339, v)
			if err != nil {
				return t, fmt.Errorf("%s is no time of RFC 3339", name)
			}
			return t, nil
		default:
			return time.Time{}, fmt.Errorf("%s is no time", name)
		}
	}
	if seconds, ok := members["expires_in"].(float64); ok && seconds > 0 && seconds < 1e9 {
		return now.Add(time.Duration(seconds * float64(time.Second))), nil
	}
	return time.Time{}, nil
}

// disconnecting are the flags of disconnect.
type disconnecting struct {
	acting
	confirm string
	revoke  bool
}

func newDisconnect(g *globals) *cobra.Command {
	d := &disconnecting{acting: acting{globals: g}}
	cmd := &cobra.Command{
		Use: "disconnect APP TENANT --confirm TENANT [flags]", Short: "end a grant, as when the customer uninstalls the app",
		Long: `End a grant. What an exchange under way still brings is refused. The tenant must
consent again to come back. With --revoke the token is revoked at the provider,
too, where the profile says how.`,
		Example: `tokenlatch disconnect zoom acme --confirm acme
tokenlatch disconnect zoom acme --confirm acme --revoke`,
		Args: named("APP", "TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.disconnect(cmd, grant.Key{App: args[0], Tenant: args[1]})
		},
	}
	addConfig(cmd, &d.config)
	cmd.Flags().StringVar(&d.confirm, "confirm", "", "the `TENANT` once more")
	cmd.Flags().BoolVar(&d.revoke, "revoke", false, "revoke the token at the provider, too")
	return cmd
}

func (d *disconnecting) disconnect(cmd *cobra.Command, k grant.Key) error {
	w, row, err := d.open(cmd, k)
	if err != nil {
		return err
	}
	return w.left(d.globals, d.end(cmd.Context(), w, row, k))
}

func (d *disconnecting) end(ctx context.Context, w *worker, row *inspect.Row, k grant.Key) error {
	switch {
	case row == nil:
		return d.noGrant(ctx, w.session, k)
	case d.confirm != k.Tenant:
		return unconfirmed("disconnect", k, "%s is %s; it would have to consent again", oncall.ID(k.Tenant), oncall.Look(row).State)
	}
	var opts []refresh.DisconnectOption
	if d.revoke {
		opts = append(opts, refresh.Revoke)
	}
	if err := w.tokens.Disconnect(ctx, k.Tenant, opts...); err != nil {
		return d.ended(w, k, err)
	}
	return d.after(ctx, w, k, "disconnected")
}

// ended dresses an error of Disconnect. One that is only about the provider is no reason to try again here.
func (d *disconnecting) ended(w *worker, k grant.Key, err error) error {
	if e, ok := errors.AsType[*refresh.Error](err); ok && e.Code == "not_revoked" {
		return &cli.Error{Exit: cli.ExitFailed, Code: e.Code, Err: err, Hint: "revoke the token at the provider by hand; here the grant is ended"}
	}
	return d.refused(w, k, err)
}
