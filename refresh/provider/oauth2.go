package provider

import (
	"context"
	"errors"
	"net/url"

	"golang.org/x/oauth2"
)

var errNoRefreshToken = errors.New("the grant has no refresh token: ask for one at consent (often the scope offline_access)")

// OAuth2 is a provider of the refresh_token grant (RFC 6749 §6). Its Exchanger
// is a [*TokenEndpoint].
//
// cfg needs ClientID, Endpoint.TokenURL (https, except on the loopback interface)
// and Endpoint.AuthStyle, for which p.AuthStyle stands in. Its other fields are
// not looked at: the scope is not sent again, so the grant keeps the one it has.
func OAuth2(cfg *oauth2.Config, p Profile) (Provider, error) {
	if cfg == nil || cfg.ClientID == "" {
		return Provider{}, errors.New("provider: OAuth2: ClientID is missing: it names your app to the token endpoint")
	}
	if err := p.Validate(); err != nil {
		return Provider{}, err
	}
	host, err := tokenHost("OAuth2: Endpoint.TokenURL", cfg.Endpoint.TokenURL)
	if err != nil {
		return Provider{}, err
	}
	style, err := authStyle("OAuth2: Endpoint.AuthStyle", cfg.Endpoint.AuthStyle, p.AuthStyle)
	if err != nil {
		return Provider{}, err
	}
	own := oauth2.Config{
		ClientID:     cfg.ClientID,
		ClientSecret: cfg.ClientSecret,
		Endpoint:     oauth2.Endpoint{TokenURL: cfg.Endpoint.TokenURL, AuthStyle: style},
	}
	ask := func(g Grant) (request, error) {
		if g.RefreshToken == "" {
			return request{}, &Error{Class: Reauthorize, Err: errNoRefreshToken}
		}
		return request{
			source: func(ctx context.Context) oauth2.TokenSource {
				return own.TokenSource(ctx, &oauth2.Token{RefreshToken: g.RefreshToken})
			},
			secrets: append(basicSecrets(own.ClientID, own.ClientSecret), g.RefreshToken, g.AccessToken),
		}, nil
	}
	return Provider{Profile: p.clone(), Exchanger: newEndpoint(host, p, ask)}, nil
}

// authStyle refuses auto-detection, which asks a second time after any error of
// the first.
func authStyle(field string, styles ...oauth2.AuthStyle) (oauth2.AuthStyle, error) {
	for _, s := range styles {
		if explicit(s) {
			return s, nil
		}
		if s != oauth2.AuthStyleAutoDetect {
			break
		}
	}
	return 0, errors.New("provider: " + field + " must be explicit, auto-detection asks a second time after an error and may present a refresh token twice: " +
		"write oauth2.AuthStyleInHeader (client_secret_basic) or oauth2.AuthStyleInParams (client_secret_post), as your provider's documentation says")
}

func explicit(s oauth2.AuthStyle) bool {
	return s == oauth2.AuthStyleInHeader || s == oauth2.AuthStyleInParams
}

// tokenHost checks the address that secrets are sent to. Its errors do not quote
// it, since it may hold some.
func tokenHost(field, raw string) (string, error) {
	if raw == "" {
		return "", errors.New("provider: " + field + " is missing")
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "":
		return "", errors.New("provider: " + field + " is not an absolute URL")
	case u.User != nil:
		return "", errors.New("provider: " + field + " must not hold a user or password: write ClientID and ClientSecret")
	case u.Fragment != "":
		return "", errors.New("provider: " + field + " must not have a fragment (RFC 6749 §3.2)")
	case u.Scheme == "https", u.Scheme == "http" && Loopback(u.Hostname()):
		return u.Host, nil
	default:
		return "", errors.New("provider: " + field + " must be https: it is sent secrets; " +
			"http is for the loopback interface only, written as localhost, 127.0.0.1 or [::1]")
	}
}
