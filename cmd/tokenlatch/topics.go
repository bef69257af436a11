package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/pages"
	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/term"
	"github.com/tokenlatch/tokenlatch/refresh/explain"
)

// topics are pages of help that are about no command.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "states", Short: "what STATE of ls and of apps means", Long: render(section("operations", "states"))},
		{Use: "codes", Short: "the codes of explanations, as TL302", Long: codesTopic()},
		{Use: "words", Short: "grant, claim, lease, generation: what words mean", Long: render(wordsOf("architecture"))},
		{Use: "redis", Short: "how to name a Redis, and give its password", Long: redisTopic},
		{Use: "config", Short: "the file that the commands need which act for an app", Long: configTopic},
		{Use: "exit-codes", Short: "what the exit codes mean", Long: render(section("operations", "exit", "codes"))},
		{Use: "json", Short: "what programs can rely on", Long: jsonTopic + list("  ", pages.Schemas(), 80)},
		{Use: "docs", Short: "the pages of the documentation, and how to print them", Long: docsTopic()},
	}
}

// render shows a part of a page as help does, 80 columns wide.
func render(text string) string { return pages.Render(text, 80) }

// section is a part of a page that has to be there.
func section(page string, words ...string) string {
	p, _ := pages.Find(page)
	return p.Sections(words...)
}

// wordsOf is the table of words that people on call meet; those of our packages are left out.
func wordsOf(page string) string {
	text, _, _ := strings.Cut(section(page, "words"), "\n\nWhat the handles")
	return text
}

// list puts names side by side.
func list(indent string, names []string, width int) string {
	return indent + strings.Join(term.Wrap(strings.Join(names, " "), width-len(indent)), "\n"+indent) + "\n"
}

func codesTopic() string {
	var b strings.Builder
	for _, code := range explain.Codes() {
		text, _ := explain.Page(code)
		title, _, _ := strings.Cut(strings.TrimPrefix(text, "## "), "\n")
		fmt.Fprintf(&b, "  %s\n", title)
	}
	return `TL1xx: all is well. TL2xx: it passes by itself. TL3xx: the tenant acts.
TL4xx: the operator acts. TL5xx: the provider. TL6xx: Redis. TL7xx: another
program. tokenlatch explain CODE says what a code means, how it is known, what
to do, and what it is not.

` + b.String()
}

func docsTopic() string {
	var b strings.Builder
	for _, p := range pages.All() {
		fmt.Fprintf(&b, "  %-12s %s\n", p.Name, p.Title)
	}
	return `tokenlatch help PAGE prints a page, tokenlatch help PAGE WORDS the sections
whose heading has these words: tokenlatch help operations rights. Into a pipe
goes Markdown.

` + b.String()
}

// page prints a page, or sections of it. What is read by a person is broken into lines; a pipe gets Markdown.
func page(w io.Writer, p pages.Page, words []string) error {
	text := p.Text
	if len(words) > 0 {
		text = p.Sections(words...) + "\n"
	}
	if text == "\n" {
		return &cli.Error{
			Exit: cli.ExitUsage, Code: "usage", Err: fmt.Errorf("no section of %s has %q in its heading; there are: %s", p.Name, strings.Join(words, " "), strings.Join(p.Headings()[1:], "; ")),
			Hint: "tokenlatch help " + p.Name + " prints all of it",
		}
	}
	if width := term.Width(w); width > 0 {
		text = pages.Render(text, min(width, 100))
	}
	_, err := io.WriteString(w, text)
	return err
}

const redisTopic = `
--redis, or the environment variable TOKENLATCH_REDIS:

  host:port
  redis://[user@]host:port[/db]              rediss:// with TLS
  unix:///path/to/redis.sock?db=0
  redis-sentinel://host,host:26379/?master=m  port 26379 where none is given;
                                              rediss-sentinel:// with TLS
  redis-cluster://host,host:6379              rediss-cluster:// with TLS

With TLS the query may name PEM files: ca_file, whose certificates are trusted,
and cert_file with key_file, which the client shows:
rediss://host:port/?ca_file=ca.pem&cert_file=me.pem&key_file=me.key

A user and a password are those of the servers, not of the Sentinels. Everybody
on the machine can read a command line, so --redis takes no password. It may be
in TOKENLATCH_REDIS (redis://user:password@host:port), or alone in a file that
--redis-password-file names.

The commands that only look need few rights, and none to a token: tokenlatch
help operations looks has the line for a user who only looks.
`

const configTopic = `
token, refresh, connect, disconnect, import, export and keys act as a worker of
an app does: they need its client and the keyset. --config names the file, or
the environment variable TOKENLATCH_CONFIG:

  keyset: {file: keyset.json}         # or {env: NAME}
  apps:
    zoom:                             # as refresh.Config.App
      provider: zoom                  # a preset; or leave it out, and
      profile:                        #   say what differs from the strictest
        replay: grace                 #   revokes_family dead grace same_pair
        grace: 30s                    #   harmless
      token_url: https://zoom.us/oauth/token
      auth_style: header              # or body
      client_id: abc
      client_secret: {env: ZOOM_SECRET}   # or {file: NAME}
      former_client_secret: {file: old}   # while it is being rotated
      scopes: [meeting:read]
      params: {audience: x}           # sent to the token endpoint as well
      grant: client_credentials       # where there are no refresh tokens
      replicas: 1                     # as the workers have it; so are
      exchange_timeout: 30s           #   these two
      commit_patience: 60s

In profile there may be name, replay, grace, kills_access_token (true, false),
access_token_life, max_access_token_life, refresh_token_idle, refresh_token_life
(30s, 90d), token_urls, token_hosts, revoke_url, codes, code_keys, pair_in,
json_body, send_scopes and budget: as provider.Profile says.

No secret stands in the file. Names of files are relative to it.
`

const jsonTopic = `
--json prints a list as one array, [] when it is empty, and one thing as one
object. --jsonl prints one object a line, as it comes. Data goes to stdout, talk
to stderr.

An error is one object on stdout, {"error": {"code", "message", "hint",
"exit"}}, and the same words on stderr. Where an array has begun already, it is
ended, and the error is on stderr alone: look at the exit code.

Times are RFC 3339 in UTC, by Redis' clock. Names of durations end in _seconds.
What is not known is left out. Fields may be added; none changes its meaning.
tokenlatch help json NAME prints a schema; they are in docs/json/ of the source,
too. The text output is for people, and may change. There are:

`
