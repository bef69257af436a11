package main

import "github.com/spf13/cobra"

// topics are pages of help that are about no command.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "redis", Short: "how to name a Redis, and give its password", Long: redisTopic},
		{Use: "config", Short: "the file that the commands need which act for an app", Long: configTopic},
		{Use: "exit-codes", Short: "what the exit codes mean", Long: exitTopic},
		{Use: "json", Short: "what programs can rely on", Long: jsonTopic},
	}
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

The commands that only look need few rights, and none to a token:
docs/operations.md has the line for a user who only looks.
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

const exitTopic = `
  0    done
  1    failed: it ran, and the answer is no. Redis did not answer, or there is
       no such grant
  2    usage: the command line was not understood
  3    the tenant must act
  4    later: retry_after_seconds in the JSON says when
  5    findings: only with --fail-on or --exit-code
  6    not confirmed: nothing was changed
  130  interrupted

3 and 4 come only from token, refresh and wait: a script may send the customer
to consent at 3, and try again at 4.
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
The schemas are in docs/json/. The text output is for people, and may change.
`
