package provider

import (
	"errors"
	"fmt"

	"golang.org/x/oauth2"
)

// PerTenant is [OAuth2] for providers where the token endpoint, or the client, depends on the tenant.
// cfg makes the configuration of one grant, from its tenant or from what an answer said of it
// ([Grant.Extra]). Each exchange calls cfg, so it must be quick. If cfg fails, nothing is sent.
//
//	provider.PerTenant(func(g provider.Grant) (*oauth2.Config, error) {
//		return &oauth2.Config{ClientID: id, ClientSecret: secret,
//			Endpoint: oauth2.Endpoint{AuthStyle: oauth2.AuthStyleInParams}}, nil
//	}, provider.Zendesk())
//
// If cfg leaves Endpoint.TokenURL empty, PerTenant takes the first of [Profile.TokenURLs] whose marks
// the grant can all fill in. A mark is {tenant}, or in braces the name of a member of the answers. The
// TokenURL of cfg may hold marks, too. A mark leads only to hosts that the text beside it, and
// [Profile.TokenHosts], allow, whatever a tenant says. If a configuration cannot be used, the exchange
// is [AppRefused] for that tenant alone: the operator acts.
func PerTenant(cfg func(Grant) (*oauth2.Config, error), p Profile, opts ...Option) (Provider, error) {
	if cfg == nil {
		return Provider{}, errors.New("provider: PerTenant: the function that makes a tenant's configuration is missing")
	}
	a, err := newAsking(p, opts)
	if err := errors.Join(p.Validate(), err); err != nil {
		return Provider{}, err
	}
	p = p.clone()
	ask := func(g Grant) (request, error) {
		c, err := a.clientFor(cfg, p, g)
		if err != nil {
			return request{}, err
		}
		return redeem(a, c, g)
	}
	t := newEndpoint("a host per tenant", p, a, ask)
	t.hosts = hostsOf(p.TokenURLs...)
	t.where = func(g Grant) string {
		c, _ := a.clientFor(cfg, p, g)
		return c.url
	}
	return Provider{Profile: p, Exchanger: t}, nil
}

// clientFor are the credentials for one grant. Its errors are an [*Error]: nothing was sent.
func (a asking) clientFor(cfg func(Grant) (*oauth2.Config, error), p Profile, g Grant) (credentials, error) {
	made, err := cfg(g)
	var own *Error
	switch {
	case errors.As(err, &own):
		return credentials{}, own
	case err != nil: // its text may quote the grant
		return credentials{}, &Error{Class: Unsent, Err: &cause{
			text: fmt.Sprintf("the function given to PerTenant failed (%T)", innermost(err)),
			is:   func(target error) bool { return errors.Is(err, target) },
		}}
	case made == nil:
		return credentials{}, notAsked(errors.New("the function given to PerTenant returned no configuration"))
	}
	filled := *made
	if filled.Endpoint.TokenURL, err = tokenURLFor(made.Endpoint.TokenURL, p, g); err != nil {
		return credentials{}, notAsked(err)
	}
	c, err := a.clientOf("PerTenant", &filled, p)
	if err != nil {
		return credentials{}, notAsked(err)
	}
	return c, nil
}

// notAsked is the failure of an exchange that cannot be asked for, as the app is configured.
func notAsked(why error) *Error {
	return &Error{Class: AppRefused, Code: "token_url", Err: why, unasked: true}
}

// tokenURLFor returns where a grant's refresh token is redeemed: written says, else the profile.
func tokenURLFor(written string, p Profile, g Grant) (string, error) {
	patterns := p.TokenURLs
	if written != "" {
		patterns = []string{written}
	}
	err := error(&errAddress{text: "Endpoint.TokenURL is missing: write it, or give the profile TokenURLs"})
	for _, pattern := range patterns {
		if len(p.TokenHosts) == 0 && openHost(pattern) {
			return "", &errAddress{text: "the host of the address is up to the grant: say in Profile.TokenHosts which may be sent secrets"}
		}
		var address string
		if address, err = addressOf(pattern, p.TokenHosts, g); err == nil {
			return address, nil
		}
		var why *errAddress
		if !errors.As(err, &why) || !why.missing {
			break
		}
	}
	return "", err
}
