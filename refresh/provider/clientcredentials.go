package provider

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// ClientCredentials is a provider that mints access tokens from the app's own
// credentials (RFC 6749 §4.4). There is no refresh token, and nothing is spent. Its
// Exchanger is a [*TokenEndpoint].
//
// cfg needs ClientID, TokenURL (https, except on the loopback interface) and
// AuthStyle, unless p.AuthStyle is set. Its Scopes are sent. In TokenURL and in the values
// of EndpointParams the text {tenant} stands for the grant's tenant. EndpointParams may
// override grant_type, for providers that call theirs differently:
//
//	EndpointParams: url.Values{
//		"grant_type": {"account_credentials"}, // Zoom
//		"account_id": {"{tenant}"},
//	}
//
// A mint has nothing to replay and no refresh token that could end: the returned
// Profile says ReplayHarmless and neither RefreshTokenIdle nor RefreshTokenLife,
// whatever p says.
func ClientCredentials(cfg *clientcredentials.Config, p Profile, opts ...Option) (Provider, error) {
	if cfg == nil || cfg.ClientID == "" {
		return Provider{}, errors.New("provider: ClientCredentials: ClientID is missing: it names your app to the token endpoint")
	}
	a, err := newAsking(p, opts)
	if a.signs && cfg.ClientSecret == "" {
		err = errNoKey("ClientCredentials")
	}
	if err := errors.Join(p.Validate(), err, checkParams(cfg)); err != nil {
		return Provider{}, err
	}
	sample, err := tokenURLFor(cfg.TokenURL, Profile{TokenHosts: p.TokenHosts}, Grant{Tenant: sampleTenant(p.TokenHosts)})
	if err != nil && cfg.TokenURL != "" {
		return Provider{}, fmt.Errorf("provider: ClientCredentials: TokenURL: %w", err)
	}
	host, err := tokenHost("ClientCredentials: TokenURL", sample)
	if err != nil {
		return Provider{}, err
	}
	style, err := a.style("ClientCredentials: AuthStyle", cfg.ClientSecret, cfg.AuthStyle, p.AuthStyle)
	if err != nil {
		return Provider{}, err
	}
	return minting(host, p, a, askClientCredentials(a, p.TokenHosts, forTenant(cfg, style, tenantMark))), nil
}

// minting is a provider whose exchanges spend nothing.
func minting(host string, p Profile, a asking, ask func(Grant) (request, error)) Provider {
	p = p.clone()
	p.Replay, p.Grace = ReplayHarmless, 0
	p.RefreshTokenIdle, p.RefreshTokenLife = 0, 0
	return Provider{Profile: p, Exchanger: newEndpoint(host, p, a, ask), Mints: true}
}

func askClientCredentials(a asking, hosts []string, own *clientcredentials.Config) func(Grant) (request, error) {
	named := hasTenantMark(own.TokenURL) || slices.ContainsFunc(slices.Collect(paramValues(own.EndpointParams)), hasTenantMark)
	var private []string // what may be a secret
	for name, values := range own.EndpointParams {
		if name != "grant_type" && name != "scope" {
			private = append(private, values...)
		}
	}
	client := credentials{id: own.ClientID, secret: own.ClientSecret, url: own.TokenURL, style: own.AuthStyle}
	own.ClientSecret = a.shownSecret(own.ClientSecret)
	return func(g Grant) (request, error) {
		if named && g.Tenant == "" {
			return request{}, &Error{Class: Unsent, Err: errNoTenant}
		}
		address, err := addressOf(own.TokenURL, hosts, g)
		if err == nil {
			_, err = tokenHost("ClientCredentials: TokenURL", address)
		}
		if err != nil {
			return request{}, notAsked(err)
		}
		client, cfg := client, forTenant(own, own.AuthStyle, g.Tenant)
		client.url, cfg.TokenURL = address, address
		return request{
			source:  cfg.TokenSource,
			secrets: slices.Concat(basicSecrets(client.id, client.secret), private, []string{g.AccessToken}),
			mints:   true,
			client:  client,
		}, nil
	}
}

// forTenant is a deep copy of cfg with that style, and the tenant in its place.
func forTenant(cfg *clientcredentials.Config, style oauth2.AuthStyle, tenant string) *clientcredentials.Config {
	params := make(url.Values, len(cfg.EndpointParams))
	for name, values := range cfg.EndpointParams {
		for _, v := range values {
			params.Add(name, strings.ReplaceAll(v, tenantMark, tenant))
		}
	}
	return &clientcredentials.Config{
		ClientID:       cfg.ClientID,
		ClientSecret:   cfg.ClientSecret,
		TokenURL:       cfg.TokenURL,
		Scopes:         slices.Clone(cfg.Scopes),
		EndpointParams: params,
		AuthStyle:      style,
	}
}

func paramValues(params url.Values) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, values := range params {
			for _, v := range values {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// checkParams refuses parameters that would be sent twice, or be overwritten in
// silence. It quotes no value, since one may be a secret.
func checkParams(cfg *clientcredentials.Config) error {
	const field = "provider: ClientCredentials: EndpointParams"
	grantType, overridden := cfg.EndpointParams["grant_type"]
	switch {
	case cfg.EndpointParams.Has("client_id") || cfg.EndpointParams.Has("client_secret"):
		return errors.New(field + " must not hold client_id or client_secret: write ClientID and ClientSecret")
	case cfg.EndpointParams.Has("scope") && len(cfg.Scopes) > 0:
		return errors.New(field + " must not hold scope, which Scopes sends already")
	case overridden && (len(grantType) != 1 || grantType[0] == ""):
		return errors.New(field + " must hold one grant_type, or none for client_credentials")
	case overridden && grantType[0] == "refresh_token":
		return errors.New(field + ": grant_type refresh_token is what OAuth2 is for")
	}
	return nil
}
