package settings

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// App is one app of a file.
type App struct {
	// Replicas, ExchangeTimeout and CommitPatience are as in refresh.Config: as the workers have them. 0 is
	// the default.
	Replicas                        int
	ExchangeTimeout, CommitPatience time.Duration

	where    string // for errors: file:line: path
	profile  provider.Profile
	client   oauth2.Config
	secret   source
	params   url.Values
	mints    bool // client credentials: no refresh token
	fallback source
}

var authStyles = map[string]oauth2.AuthStyle{"header": oauth2.AuthStyleInHeader, "body": oauth2.AuthStyleInParams}

func readApp(w *walk, dir string, key, n *yaml.Node) *App {
	path := "apps." + printable(key.Value)
	a := &App{where: fmt.Sprintf("%s:%d: %s", w.name, key.Line, path), params: url.Values{}}
	if err := (grant.Key{App: key.Value, Tenant: "-"}).Validate(); err != nil {
		w.fail(key, "%s: %v", path, err)
	}
	var rules *yaml.Node
	w.mapping(path, n, fields{
		"provider":  func(path string, n *yaml.Node) { a.preset(w, path, n) },
		"profile":   func(_ string, n *yaml.Node) { rules = n },
		"token_url": w.text(&a.client.Endpoint.TokenURL), "auth_style": choice(w, &a.client.Endpoint.AuthStyle, authStyles),
		"client_id": w.text(&a.client.ClientID), "client_secret": w.secret(dir, &a.secret), "former_client_secret": w.secret(dir, &a.fallback),
		"scopes": w.texts(&a.client.Scopes), "params": a.readParams(w),
		"grant":    choice(w, &a.mints, map[string]bool{"refresh_token": false, "client_credentials": true}),
		"replicas": w.number(&a.Replicas), "exchange_timeout": w.duration(&a.ExchangeTimeout), "commit_patience": w.duration(&a.CommitPatience),
	})
	if rules != nil {
		readProfile(w, path+".profile", rules, &a.profile) // over those of the preset, wherever that stands
	}
	for name, missing := range map[string]bool{
		"client_id":              a.client.ClientID == "",
		"token_url":              a.client.Endpoint.TokenURL == "" && len(a.profile.TokenURLs) == 0,
		"provider, or a profile": a.profile.Name == "" && rules == nil,
	} {
		if missing {
			w.fail(key, "%s: %s is missing", path, name)
		}
	}
	return a
}

func (a *App) preset(w *walk, path string, n *yaml.Node) {
	p, ok := provider.Preset(n.Value)
	if n.Kind != yaml.ScalarNode || !ok {
		w.fail(n, "%s is not known; there are: %s. Leave it out, and say in profile what the provider does", path, strings.Join(provider.PresetNames(), ", "))
		return
	}
	a.profile = p
}

// readParams reads what is sent to the token endpoint besides.
func (a *App) readParams(w *walk) func(string, *yaml.Node) {
	return func(path string, n *yaml.Node) {
		w.members(path, n, func(key, value *yaml.Node) {
			var text string
			w.text(&text)(below(path, printable(key.Value)), value)
			a.params.Set(key.Value, text)
		})
	}
}

var replays = map[string]provider.Replay{
	"revokes_family": provider.ReplayRevokesFamily, "dead": provider.ReplayDead, "grace": provider.ReplayGrace,
	"same_pair": provider.ReplaySamePair, "harmless": provider.ReplayHarmless,
}

var classes = map[string]provider.Class{
	"ambiguous": provider.Ambiguous, "reauthorize": provider.Reauthorize, "app_refused": provider.AppRefused, "throttled": provider.Throttled,
	"busy": provider.Busy, "refused": provider.Refused,
}

func readProfile(w *walk, path string, n *yaml.Node, p *provider.Profile) {
	w.mapping(path, n, fields{
		"name": w.text(&p.Name), "replay": choice(w, &p.Replay, replays), "grace": w.duration(&p.Grace),
		"kills_access_token": choice(w, &p.KillsAccessToken, map[string]provider.Assumption{"true": provider.Yes, "false": provider.No}),
		"refresh_token_idle": w.duration(&p.RefreshTokenIdle), "refresh_token_life": w.duration(&p.RefreshTokenLife),
		"access_token_life": w.duration(&p.AccessTokenLife), "max_access_token_life": w.duration(&p.MaxAccessTokenLife),
		"token_urls": w.texts(&p.TokenURLs), "token_hosts": w.texts(&p.TokenHosts), "revoke_url": w.text(&p.RevokeURL),
		"pair_in": w.text(&p.PairIn), "code_keys": w.texts(&p.CodeKeys), "json_body": w.yes(&p.Request.JSON), "send_scopes": w.yes(&p.Request.Scopes),
		"codes": func(path string, n *yaml.Node) {
			p.Codes = maps.Clone(p.Codes)
			w.members(path, n, func(key, value *yaml.Node) {
				var class provider.Class
				choice(w, &class, classes)(below(path, printable(key.Value)), value)
				if p.Codes == nil {
					p.Codes = map[string]provider.Class{}
				}
				p.Codes[key.Value] = class
			})
		},
		"budget": func(path string, n *yaml.Node) {
			w.mapping(path, n, fields{"requests": w.number(&p.Budget.Requests), "per": w.duration(&p.Budget.Per), "concurrency": w.number(&p.Budget.Concurrency)})
		},
	})
}

// Profile returns what is known of the app's provider.
func (a *App) Profile() provider.Profile { return a.profile }

// Provider is the app's provider, with its secrets.
func (a *App) Provider() (p provider.Provider, err error) {
	if p, err = a.with(a.secret); err == nil && a.fallback.given() {
		former, failed := a.with(a.fallback)
		p.Fallback, err = former.Exchanger, failed
	}
	return p, err
}

func (a *App) with(secret source) (p provider.Provider, err error) {
	client := a.client
	if secret.given() {
		if client.ClientSecret, err = secret.oneLine(); err != nil {
			return p, err
		}
	}
	switch {
	case a.mints:
		p, err = provider.ClientCredentials(&clientcredentials.Config{
			ClientID: client.ClientID, ClientSecret: client.ClientSecret, TokenURL: client.Endpoint.TokenURL, AuthStyle: client.Endpoint.AuthStyle,
			Scopes: slices.Clone(client.Scopes), EndpointParams: a.params,
		}, a.profile)
	case client.Endpoint.TokenURL == "" || strings.Contains(client.Endpoint.TokenURL, "{"):
		p, err = provider.PerTenant(func(provider.Grant) (*oauth2.Config, error) { own := client; return &own, nil }, a.profile, a.options()...)
	default:
		p, err = provider.OAuth2(&client, a.profile, a.options()...)
	}
	if err != nil {
		return p, fmt.Errorf("%s: %w", a.where, err)
	}
	return p, nil
}

func (a *App) options() []provider.Option {
	if len(a.params) == 0 {
		return nil
	}
	return []provider.Option{provider.Params(a.params)}
}

// Mints reports whether the app needs no consent: its tokens come of the client's own credentials.
func (a *App) Mints() bool { return a.mints }
