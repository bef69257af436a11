package provider

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/oauth2"
)

var errNoRefreshToken = errors.New("the grant has no refresh token: ask for one at consent (often the scope offline_access)")

// OAuth2 is a provider of the refresh_token grant (RFC 6749 §6). Its Exchanger
// is a [*TokenEndpoint].
//
// cfg needs ClientID, Endpoint.TokenURL (https, except on the loopback interface)
// and Endpoint.AuthStyle, unless p.AuthStyle is set. OAuth2 sends its Scopes only if
// [Request.Scopes] says so; otherwise the grant keeps the scope it has. It does not look
// at the other fields. If the address or the client depends on the tenant, see [PerTenant].
func OAuth2(cfg *oauth2.Config, p Profile, opts ...Option) (Provider, error) {
	a, err := newAsking(p, opts)
	if err := errors.Join(p.Validate(), err); err != nil {
		return Provider{}, err
	}
	client, err := a.clientOf("OAuth2", cfg, p)
	if err != nil {
		return Provider{}, err
	}
	ask := func(g Grant) (request, error) { return redeem(a, client, g) }
	return Provider{Profile: p.clone(), Exchanger: newEndpoint(hostOf(client.url), p, a, ask)}, nil
}

// clientOf are the credentials in cfg, if they can be shown.
func (a asking) clientOf(call string, cfg *oauth2.Config, p Profile) (credentials, error) {
	if cfg == nil || cfg.ClientID == "" {
		return credentials{}, errors.New("provider: " + call + ": ClientID is missing: it names your app to the token endpoint")
	}
	if a.signs && cfg.ClientSecret == "" {
		return credentials{}, errNoKey(call)
	}
	if hasTenantMark(cfg.ClientID) {
		return credentials{}, errors.New("provider: " + call + ": ClientID holds {tenant}, which means nothing there: PerTenant takes a function that makes the configuration of each tenant")
	}
	if _, err := tokenHost(call+": Endpoint.TokenURL", cfg.Endpoint.TokenURL); err != nil {
		return credentials{}, err
	}
	style, err := a.style(call+": Endpoint.AuthStyle", cfg.ClientSecret, cfg.Endpoint.AuthStyle, p.AuthStyle)
	if err != nil {
		return credentials{}, err
	}
	return credentials{id: cfg.ClientID, secret: cfg.ClientSecret, url: cfg.Endpoint.TokenURL, style: style, scopes: slices.Clone(cfg.Scopes)}, nil
}

// redeem is the request that presents a grant's refresh token.
func redeem(a asking, c credentials, g Grant) (request, error) {
	if g.RefreshToken == "" {
		return request{}, &Error{Class: Reauthorize, Err: errNoRefreshToken}
	}
	own := oauth2.Config{
		ClientID:     c.id,
		ClientSecret: a.shownSecret(c.secret),
		Endpoint:     oauth2.Endpoint{TokenURL: c.url, AuthStyle: c.style},
	}
	return request{
		source: func(ctx context.Context) oauth2.TokenSource {
			return own.TokenSource(ctx, &oauth2.Token{RefreshToken: g.RefreshToken})
		},
		secrets: append(basicSecrets(c.id, c.secret), g.RefreshToken, g.AccessToken),
		client:  c,
	}, nil
}
