package provider

import (
	"maps"
	"slices"
	"time"

	"golang.org/x/oauth2"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// presets by name. The functions build a new profile with each call, so that no
// caller can change another's.
var presets = map[string]func() Profile{
	"atlassian":  Atlassian,
	"auth0":      Auth0,
	"box":        Box,
	"cognito":    Cognito,
	"github":     GitHub,
	"gitlab":     GitLab,
	"google":     Google,
	"hubspot":    HubSpot,
	"linkedin":   LinkedIn,
	"meta":       Meta,
	"microsoft":  Microsoft,
	"okta":       Okta,
	"quickbooks": QuickBooks,
	"salesforce": Salesforce,
	"shopify":    Shopify,
	"slack":      Slack,
	"x":          X,
	"xero":       Xero,
	"zendesk":    Zendesk,
	"zoho":       Zoho,
	"zoom":       Zoom,
}

// Presets returns the known providers by name. The map and what is in it belong
// to the caller.
func Presets() map[string]Profile {
	all := make(map[string]Profile, len(presets))
	for name, preset := range presets {
		all[name] = preset()
	}
	return all
}

// Preset returns the known provider of that name, e.g. "zoom".
func Preset(name string) (Profile, bool) {
	preset, ok := presets[name]
	if !ok {
		return Profile{}, false
	}
	return preset(), true
}

// PresetNames returns the names of the known providers, sorted.
func PresetNames() []string { return slices.Sorted(maps.Keys(presets)) }

// Zoom is the user OAuth of zoom.us. Rotates with every refresh (D).
func Zoom() Profile {
	return Profile{
		Name:             "zoom",
		Replay:           ReplayRevokesFamily,      // refused (–); that the successor lives on is not known: the stricter
		KillsAccessToken: Yes,                      // S, 2022; newer token versions not known
		RefreshTokenIdle: 90 * day,                 // sources conflict, 90 days unused or 15 years: the stricter
		AccessTokenLife:  time.Hour,                // D
		AuthStyle:        oauth2.AuthStyleInHeader, // D
		// Says invalid_grant with 400, formerly with 401 (–): the standard rules do.
	}
}

// ZoomServerToServer is the server-to-server OAuth of zoom.us, for
// [ClientCredentials] with the grant type account_credentials. It is not among
// the [Presets], which are profiles of refresh tokens: here there is none.
func ZoomServerToServer() Profile {
	return Profile{
		Name:             "zoom_server_to_server",
		Replay:           ReplayHarmless,           // a mint spends nothing
		KillsAccessToken: Yes,                      // S: formerly a mint killed the token of the same token_index; the stricter
		AccessTokenLife:  time.Hour,                // D
		AuthStyle:        oauth2.AuthStyleInHeader, // D
	}
}

// Salesforce rotates as an option (D). It sends no expires_in (I): the session
// policy of the tenant's org decides, so set AccessTokenLife to the shortest.
func Salesforce() Profile {
	return Profile{
		Name:             "salesforce",
		Replay:           ReplayRevokesFamily, // D
		KillsAccessToken: Yes,                 // known of a replay only: the stricter
		RefreshTokenIdle: 30 * day,            // –, a policy
		KeepExtra:        []string{"id"},      // D; instance_url is kept anyway
		// The login host may redirect to the tenant's own (I), which each answer names (D).
		TokenURLs:  []string{"{instance_url}/services/oauth2/token", "https://login.salesforce.com/services/oauth2/token"},
		TokenHosts: []string{".salesforce.com"},
		RevokeURL:  "/services/oauth2/revoke", // D: at the same host, a sandbox's or a tenant's
		Phrases: []Phrase{
			// Of parallel exchanges the others are told so, as invalid_grant (–).
			{Code: "invalid_grant", Contains: "token request is already being processed", Class: Busy},
		},
	}
}

// Shopify is for apps with expiring offline tokens. Tenants are shops: acme, or acme.myshopify.com.
func Shopify() Profile {
	return Profile{
		Name:             "shopify",
		Replay:           ReplaySamePair,                                                      // D, August 2026: the old one works until its successor is used
		KillsAccessToken: Yes,                                                                 // not known: the stricter
		RefreshTokenIdle: 90 * day,                                                            // 2
		AccessTokenLife:  time.Hour,                                                           // D, December 2025
		TokenURLs:        []string{"https://{tenant}.myshopify.com/admin/oauth/access_token"}, // D: a host per shop
		AuthStyle:        oauth2.AuthStyleInParams,                                            // D
		Phrases: []Phrase{
			// Of a dead refresh token, with 401 (S).
			{Code: "invalid_request", Contains: "active refresh_token", Class: Reauthorize},
		},
	}
}

// Slack is for apps with token rotation on. It says no with HTTP 200. Where an app asks for a bot's and
// a user's token at once, each is a grant of its own: of a consent's answer, the user's is in authed_user (D).
func Slack() Profile {
	return Profile{
		Name:             "slack",
		Replay:           ReplayRevokesFamily,                                            // revoked after a grace of unknown length (D): none is claimed
		KillsAccessToken: No,                                                             // –; at most two live ones
		AccessTokenLife:  12 * time.Hour,                                                 // D
		TokenTypes:       map[string]string{"bot": "Bearer", "user": "Bearer"},           // I: the API wants Bearer of both
		KeepExtra:        []string{"enterprise", "authed_user", "bot_user_id", "app_id"}, // D
		// An unused refresh token does not age (I).
		APIRefusals: []APIRefusal{
			{Status: 200, Member: "error", Value: "token_expired"}, // D
			{Status: 200, Member: "error", Value: "token_revoked"}, // D
		},
		Codes: map[string]Class{
			"invalid_refresh_token": Reauthorize, // D
			"invalid_client_id":     AppRefused,  // D
			"bad_client_secret":     AppRefused,  // D
		},
	}
}

// Atlassian is 3LO of Jira and Confluence Cloud. Rotates with every refresh.
func Atlassian() Profile {
	return Profile{
		Name:             "atlassian",
		Replay:           ReplayGrace, // S; then it revokes
		Grace:            10 * time.Minute,
		KillsAccessToken: Yes,       // S: after the grace, though before its own end: the stricter
		RefreshTokenIdle: 90 * day,  // 2
		AccessTokenLife:  time.Hour, // D
		Codes: map[string]Class{
			"access_denied": AppRefused, // 2: a wrong secret
		},
		Phrases: []Phrase{
			// A dead refresh token can also look like a refused client (I).
			{Code: "unauthorized_client", Contains: "refresh_token is invalid", Class: Reauthorize},
		},
	}
}

// Xero rotates with every refresh.
func Xero() Profile {
	return Profile{
		Name:             "xero",
		Replay:           ReplayGrace, // S
		Grace:            30 * time.Minute,
		KillsAccessToken: Yes,                                            // second hand only: the stricter
		RefreshTokenIdle: 30 * day,                                       // S; 60 is said too: the stricter
		AccessTokenLife:  30 * time.Minute,                               // D
		RevokeURL:        "https://identity.xero.com/connect/revocation", // D
	}
}

// QuickBooks changes the refresh token's value about daily.
func QuickBooks() Profile {
	return Profile{
		Name:             "quickbooks",
		Replay:           ReplayRevokesFamily, // 24 h of grace (older D) or refused (D); the successor's fate unsaid: the strictest
		KillsAccessToken: Yes,                 // no evidence: the stricter
		RefreshTokenIdle: 100 * day,           // D
		RefreshTokenLife: 5 * year,            // D
		AccessTokenLife:  time.Hour,           // D
		// The lifetime comes as x_refresh_token_expires_in (–): among the defaults.
	}
}

// Google does not rotate. The 101st refresh token of an account and client
// silently ends the oldest (D); an app in testing has 7 days (D).
func Google() Profile {
	return Profile{
		Name:             "google",
		Replay:           ReplayHarmless,                                          // –
		KillsAccessToken: No,                                                      // –
		RefreshTokenIdle: 180 * day,                                               // D: six months
		AccessTokenLife:  time.Hour,                                               // D
		AuthStyle:        oauth2.AuthStyleInParams,                                // as in x/oauth2's google.Endpoint
		RevokeURL:        "https://oauth2.googleapis.com/revoke",                  // D
		APIRefusals:      []APIRefusal{{Status: 403, Challenge: "invalid_token"}}, // I: some of its APIs
	}
}

// Microsoft is Entra ID. It sends a new refresh token each time and leaves the
// old one alive (D).
func Microsoft() Profile {
	return Profile{
		Name:             "microsoft",
		Replay:           ReplayHarmless, // D
		KillsAccessToken: No,             // –
		RefreshTokenIdle: 90 * day,       // D; single-page apps have 24 h that nothing extends
		AccessTokenLife:  time.Hour,      // D: 60 to 90 minutes
		// An app's own API is refused without a scope (I).
		Request: Request{Scopes: true},
		// The tenant is the directory's id or name.
		TokenURLs: []string{"https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"}, // D
		Codes: map[string]Class{
			"interaction_required": Reauthorize, // D
		},
		Phrases: []Phrase{
			// The loop block stops a client that asks too often, under whatever code.
			// Staff call it throttling (S): it passes by itself, no consent helps.
			{Contains: "AADSTS50196", Class: Throttled},
			// The customer's admin has removed the app from their directory, or disabled it
			// there (D, I). The code is unauthorized_client or invalid_client, yet other
			// directories are served: this customer must act. A wrong client id is answered
			// like a removed app, though then in every directory.
			{Contains: "AADSTS700016", Class: Reauthorize},
			{Contains: "AADSTS7000112", Class: Reauthorize},
		},
	}
}

// Meta is the Graph API of Facebook, Instagram and Threads. It has no refresh tokens as RFC 6749 knows
// them: this is for apps behind an endpoint, or an [Exchanger], that has.
func Meta() Profile {
	return Profile{
		Name:             "meta",
		Replay:           ReplayRevokesFamily, // not known: the strictest
		KillsAccessToken: Yes,                 // not known: the stricter
		AccessTokenLife:  60 * day,            // D: of a long-lived token
		APIRefusals: []APIRefusal{
			{Status: 400, Member: "error.code", Value: "190"}, // D: the token has expired or is invalid
			{Status: 401, Member: "error.code", Value: "190"}, // D
		},
	}
}

// HubSpot does not rotate (D). Its codes stand in the member "status".
func HubSpot() Profile {
	return Profile{
		Name:             "hubspot",
		Replay:           ReplayHarmless,   // D
		KillsAccessToken: No,               // –
		AccessTokenLife:  30 * time.Minute, // D
		CodeKeys:         []string{"status"},
		Codes: map[string]Class{
			"BAD_REFRESH_TOKEN": Reauthorize, // I
		},
	}
}

// Auth0 is for applications with rotation on. Where the tenant's overlap window
// is known, set ReplayGrace and Grace.
func Auth0() Profile {
	return Profile{
		Name:             "auth0",
		Replay:           ReplayRevokesFamily, // D; in the overlap window the direct predecessor works, but it may be 0
		KillsAccessToken: Yes,                 // with the family
		// The issuer is the member iss of an ID token: keep it as "issuer" (WithExtra). Custom domains go
		// into TokenHosts.
		TokenURLs:  []string{"{issuer}/oauth/token"}, // D
		TokenHosts: []string{".auth0.com"},
		RevokeURL:  "/oauth/revoke", // D
	}
}

// Okta is for applications with rotation on. Where the org's grace period is
// known (default 30 s, 0 to 60 (D)), set ReplayGrace and Grace.
func Okta() Profile {
	return Profile{
		Name:             "okta",
		Replay:           ReplayRevokesFamily, // the grace may be 0 (D); the stricter
		KillsAccessToken: Yes,                 // not known: the stricter
		// An authorization server of the org; its issuer is to be kept as "issuer" (WithExtra).
		TokenURLs:  []string{"{issuer}/v1/token"}, // D
		TokenHosts: []string{".okta.com", ".oktapreview.com", ".okta-emea.com"},
		RevokeURL:  "revoke", // D: beside .../v1/token
	}
}

// Cognito is for app clients with rotation on. Where the client's grace period
// is known (0 to 60 s (D)), set ReplayGrace and Grace.
func Cognito() Profile {
	return Profile{
		Name:             "cognito",
		Replay:           ReplayRevokesFamily, // the grace may be 0 (D); the stricter
		KillsAccessToken: Yes,                 // not known: the stricter
	}
}

// GitHub is for GitHub Apps with expiring user tokens. It answers form-encoded
// and says no with HTTP 200.
func GitHub() Profile {
	return Profile{
		Name:             "github",
		Replay:           ReplayRevokesFamily, // refused (–); that the successor lives on is not known: the stricter
		KillsAccessToken: Yes,                 // D, at once
		RefreshTokenIdle: 180 * day,           // D: six months
		AccessTokenLife:  8 * time.Hour,       // D
		Codes: map[string]Class{
			"bad_refresh_token":            Reauthorize, // I
			"incorrect_client_credentials": AppRefused,  // D
		},
	}
}

// GitLab rotates with every refresh. A refresh token lives until it is used (–).
func GitLab() Profile {
	return Profile{
		Name:             "gitlab",
		Replay:           ReplayDead,      // I: refused, the family lives on
		KillsAccessToken: Yes,             // D, at once
		AccessTokenLife:  2 * time.Hour,   // D
		RevokeURL:        "/oauth/revoke", // D: at your own host, if you have one
	}
}

// Box rotates with every refresh.
func Box() Profile {
	return Profile{
		Name:             "box",
		Replay:           ReplaySamePair, // S
		KillsAccessToken: Yes,            // no evidence: the stricter
		RefreshTokenIdle: 60 * day,       // D
		AccessTokenLife:  time.Hour,      // D
		Codes: map[string]Class{
			"@409": Busy, // –: parallel exchanges, with an empty body
		},
	}
}

// Zendesk rotates with every refresh; lifetimes are set per client.
func Zendesk() Profile {
	return Profile{
		Name:             "zendesk",
		Replay:           ReplayRevokesFamily,                                   // refused (–); that the successor lives on is not known: the stricter
		KillsAccessToken: Yes,                                                   // D
		TokenURLs:        []string{"https://{tenant}.zendesk.com/oauth/tokens"}, // D: a host per account
	}
}

// Zoho does not rotate, and refresh tokens do not expire. After ten exchanges in
// ten minutes it refuses (D).
func Zoho() Profile {
	return Profile{
		Name:             "zoho",
		Replay:           ReplayHarmless, // –
		KillsAccessToken: Yes,            // D: beyond a number of live ones (10 to 15) the oldest; the stricter
		AccessTokenLife:  time.Hour,      // D
		Codes: map[string]Class{
			"Access_Denied": Throttled, // D: the ten in ten minutes
		},
		// One per data centre (D). The callback of the consent names it: keep it (WithExtra).
		TokenURLs: []string{"{accounts-server}/oauth/v2/token"},
		TokenHosts: []string{"accounts.zoho.com", "accounts.zoho.eu", "accounts.zoho.in", "accounts.zoho.com.au", "accounts.zoho.jp",
			"accounts.zoho.uk", "accounts.zoho.sa", "accounts.zoho.com.cn", "accounts.zohocloud.ca"},
		RevokeURL: "/oauth/v2/token/revoke", // D
	}
}

// LinkedIn sends the same refresh token again; only some partners get one.
func LinkedIn() Profile {
	return Profile{
		Name:             "linkedin",
		Replay:           ReplayHarmless,           // –
		KillsAccessToken: No,                       // –
		RefreshTokenLife: year,                     // –; from consent, use does not extend it
		AccessTokenLife:  60 * day,                 // –
		AuthStyle:        oauth2.AuthStyleInParams, // as in x/oauth2's linkedin.Endpoint
	}
}

// X is the OAuth 2.0 of x.com. Next to nothing is known for sure.
func X() Profile {
	return Profile{
		Name:             "x",
		Replay:           ReplayRevokesFamily,                 // not known: the strictest
		KillsAccessToken: Yes,                                 // not known: the stricter
		AccessTokenLife:  2 * time.Hour,                       // –
		RevokeURL:        "https://api.x.com/2/oauth2/revoke", // D
		Codes: map[string]Class{
			// Of a dead refresh token (–). A malformed request would say so too, but
			// OAuth2's are well-formed.
			"invalid_request": Reauthorize,
		},
	}
}
