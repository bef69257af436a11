package provider

import (
	"errors"
	"fmt"

	"golang.org/x/oauth2"
)

// PerTenant is [OAuth2] where the token endpoint, or the client, depends on the tenant. cfg makes the
// configuration of one grant, from its tenant or from what an answer said of it ([Grant.Extra]); it
// is asked at each exchange, so it must be quick, and nothing is sent if it fails.
//
//	provider.PerTenant(func(g provider.Grant) (*oauth2.Config, error) {
//		return &oauth2.Config{ClientID: id, ClientSecret: secret}, nil
//	}, provider.Zendesk())
//
// Where Endpoint.TokenURL is empty, the first of [Profile.TokenURLs] is taken all of whose marks the
// grant can fill in. A TokenURL may hold marks, too: {tenant}, or in braces the name of a member of
// the answers. What a tenant says can lead to hosts that the text beside the mark, and
// [Profile.TokenHosts], allow, and to no other. A configuration that cannot be used is that tenant's
// [AppRefused]: the operator acts.
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

// tokenURLFor is where a grant's refresh token is redeemed: written says, else the profile.
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
