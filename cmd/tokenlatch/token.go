package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// tokenFormats are how token prints one.
var tokenFormats = []string{"text", "json", "header", "env", "kubectl"}

// fetching are the flags of token.
type fetching struct {
	acting
	format string
	show   bool
}

func newToken(g *globals) *cobra.Command {
	f := &fetching{acting: acting{globals: g}}
	cmd := &cobra.Command{
		Use: "token APP TENANT [flags]", Short: "print a valid access token, refreshed if need be",
		Long: `Print a valid access token of a grant, as a worker would get it: from Redis, or
by a refresh that the whole fleet makes once. The refresh token is not printed.
To a terminal the token goes only with --show.

Exit code 3: the tenant must connect again. Exit code 4: later.`,
		Example: `tokenlatch token zoom acme --format header | curl -H @- $API
tokenlatch token zoom acme --json | jq -r .access_token
eval "$(tokenlatch token zoom acme --format env)"   # $ACCESS_TOKEN
tokenlatch token zoom acme --show`,
		Args: named("APP", "TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return f.token(cmd, grant.Key{App: args[0], Tenant: args[1]})
		},
	}
	addConfig(cmd, &f.config)
	cmd.Flags().StringVar(&f.format, "format", "text", "`FORMAT`: text is the token alone, json says when it ends, header is a line for curl -H @-, env for a shell's eval, kubectl an ExecCredential")
	cmd.Flags().BoolVar(&f.show, "show", false, "print it to a terminal, too")
	f.addWait(cmd)
	return cmd
}

func (f *fetching) check() error {
	switch {
	case !slices.Contains(tokenFormats, f.format):
		return cli.Usage(fmt.Errorf("--format %q is not known; there are: %s", f.format, strings.Join(tokenFormats, ", ")))
	case !f.show && term.IsTerminal(f.stdout):
		return &cli.Error{Exit: cli.ExitUsage, Code: "terminal", Err: errors.New("a token is not printed to a terminal, where it stays to be read"), Hint: "pipe it where it is needed, or give --show"}
	}
	return nil
}

func (f *fetching) token(cmd *cobra.Command, k grant.Key) error {
	w, _, err := f.open(cmd, k)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.wait)
	defer cancel()
	tok, err := w.tokens.Token(ctx, k.Tenant)
	if err != nil {
		return w.left(f.globals, f.refused(w, k, err))
	}
	return w.left(f.globals, f.print(k, tok))
}

// credential is a token in JSON: docs/json/token.schema.json. Times are this machine's: the reader's.
type credential struct {
	App         string    `json:"app"`
	Tenant      string    `json:"tenant"`
	AccessToken string    `json:"access_token"`
	TokenType   string    `json:"token_type"`
	ExpiresAt   time.Time `json:"expires_at,omitzero"`
	ExpiresIn   float64   `json:"expires_in_seconds,omitempty"`
}

// execCredential is what kubectl expects of a credential plugin.
type execCredential struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Status     execStatus `json:"status"`
}

type execStatus struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expirationTimestamp,omitzero"`
}

func (f *fetching) print(k grant.Key, tok *oauth2.Token) error {
	expires := tok.Expiry.UTC().Truncate(time.Second)
	switch {
	case f.format == "kubectl":
		text, err := json.Marshal(execCredential{"client.authentication.k8s.io/v1", "ExecCredential", execStatus{tok.AccessToken, expires}})
		if err != nil {
			return err
		}
		return f.text(string(text) + "\n")
	case f.format == "json" || f.asJSON():
		c := credential{App: k.App, Tenant: k.Tenant, AccessToken: tok.AccessToken, TokenType: tok.Type(), ExpiresAt: expires}
		if !expires.IsZero() {
			c.ExpiresIn = max(0, time.Until(tok.Expiry).Truncate(time.Second).Seconds())
		}
		return f.object(c)
	case f.format == "header":
		return f.text("Authorization: " + tok.Type() + " " + tok.AccessToken + "\n")
	case f.format == "env":
		return f.text("export ACCESS_TOKEN=" + quoted(tok.AccessToken) + "\n")
	}
	return f.text(tok.AccessToken + "\n")
}

// quoted is a text as a POSIX shell reads it back.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
