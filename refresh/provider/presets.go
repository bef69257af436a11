package provider

import (
	"maps"
	"net/url"
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
	"adobe_sign": AdobeSign,
	"airtable":   Airtable,
	"asana":      Asana,
	"atlassian":  Atlassian,
	"auth0":      Auth0,
	"box":        Box,
	"calendly":   Calendly,
	"canva":      Canva,
	"cognito":    Cognito,
	"discord":    Discord,
	"docusign":   DocuSign,
	"dropbox":    Dropbox,
	"entra":      Entra,
	"figma":      Figma,
	"fitbit":     Fitbit,
	"github":     GitHub,
	"gitlab":     GitLab,
	"google":     Google,
	"hubspot":    HubSpot,
	"hydra":      Hydra,
	"keycloak":   Keycloak,
	"linear":     Linear,
	"linkedin":   LinkedIn,
	"meta":       Meta,
	"microsoft":  Microsoft,
	"miro":       Miro,
	"notion":     Notion,
	"okta":       Okta,
	"quickbooks": QuickBooks,
	"salesforce": Salesforce,
	"shopify":    Shopify,
	"slack":      Slack,
	"spotify":    Spotify,
	"square":     Square,
	"strava":     Strava,
	"tiktok":     TikTok,
	"twitch":     Twitch,
	"withings":   Withings,
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

// Shopify is for apps with expiring offline tokens. Tenants are shops: acme, or acme.myshopify.com. For [PerTenant].
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

// Slack is for apps with token rotation on. It says no with HTTP 200. Tokens of the types bot and user are
// presented as Bearer. Where an app asks for a bot's and a user's token at once, each is a grant of its own: of
// a consent's answer, the user's is in authed_user (D), which is the PairIn of its profile.
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
// old one alive (D). A customer's admin who removed or disabled the app is that customer's
// ErrReauthorize. For [PerTenant].
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

// Cognito is for app clients with rotation on. Where the client's grace period is known (0 to 60 s (D)), set
// ReplayGrace and Grace; a refresh token ends 30 days after the sign-in unless the client says 60 minutes to
// 10 years (D), so set RefreshTokenLife. Looked up in November 2026.
func Cognito() Profile {
	return Profile{
		Name:             "cognito",
		Replay:           ReplayRevokesFamily,      // the grace may be 0 (D); the stricter
		KillsAccessToken: Yes,                      // not known: the stricter
		AuthStyle:        oauth2.AuthStyleInHeader, // D: of clients with a secret
		RevokeURL:        "revoke",                 // D: beside .../oauth2/token; revokes the access tokens, too
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

// Box rotates with every refresh. It answers parallel exchanges with 409 and an empty body.
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

// Zendesk rotates with every refresh; lifetimes are set per client. For [PerTenant].
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

// Of all that follow, what is graded was looked up in November 2026: in the provider's own documents (D), in
// what its staff says in public (S), in issues of its own or of its clients' projects (I), or second hand (2).

// Airtable rotates with every refresh, and kills the access token before. Looked up in November 2026.
func Airtable() Profile {
	return Profile{
		Name:             "airtable",
		Replay:           ReplayRevokesFamily,      // refused (2); that the successor lives on is not known: the stricter
		KillsAccessToken: Yes,                      // I, 2
		RefreshTokenIdle: 60 * day,                 // 2; each answer says it, in refresh_expires_in (2)
		AuthStyle:        oauth2.AuthStyleInHeader, // 2: of clients with a secret
	}
}

// AdobeSign is Acrobat Sign. The refresh token stays, and each use extends it (D). Give a TokenURL at the
// customer's own access point, which ends in /oauth/v2/refresh (D). Looked up in November 2026.
func AdobeSign() Profile {
	return Profile{
		Name:             "adobe_sign",
		Replay:           ReplayHarmless,                                   // D: it can be used for good, once in 60 days at least
		KillsAccessToken: Yes,                                              // not known: the stricter
		RefreshTokenIdle: 60 * day,                                         // D
		AccessTokenLife:  time.Hour,                                        // D
		AuthStyle:        oauth2.AuthStyleInParams,                         // D
		KeepExtra:        []string{"api_access_point", "web_access_point"}, // not known; they do no harm
	}
}

// Asana is the OAuth of app.asana.com. Whether it rotates is not known. Looked up in November 2026.
func Asana() Profile {
	return Profile{
		Name:             "asana",
		Replay:           ReplayRevokesFamily,                    // not known: the strictest
		KillsAccessToken: Yes,                                    // not known: the stricter
		AccessTokenLife:  time.Hour,                              // 2
		AuthStyle:        oauth2.AuthStyleInParams,               // 2
		RevokeURL:        "https://app.asana.com/-/oauth_revoke", // D
	}
}

// Calendly rotates with every refresh since it refuses used refresh tokens; an unused one does not end (D).
// Looked up in November 2026.
func Calendly() Profile {
	return Profile{
		Name:             "calendly",
		Replay:           ReplayRevokesFamily, // refused (D); that the successor lives on is not said: the stricter
		KillsAccessToken: Yes,                 // not known: the stricter
		AccessTokenLife:  2 * time.Hour,       // D
	}
}

// Canva rotates with every refresh. Revoking a refresh token ends the customer's consent (D). Looked up in November 2026.
func Canva() Profile {
	return Profile{
		Name:             "canva",
		Replay:           ReplayRevokesFamily,                          // used once only (2); what comes of a second time is not known
		KillsAccessToken: Yes,                                          // not known: the stricter
		AccessTokenLife:  4 * time.Hour,                                // D
		AuthStyle:        oauth2.AuthStyleInHeader,                     // D
		RevokeURL:        "https://api.canva.com/rest/v1/oauth/revoke", // D
	}
}

// Discord rotates with every refresh. Revoking one token ends all of the app's for that user (D). Looked up in
// November 2026.
func Discord() Profile {
	return Profile{
		Name:             "discord",
		Replay:           ReplayRevokesFamily,                           // refused (S, I); that the successor lives on is not known: the stricter
		KillsAccessToken: Yes,                                           // not known: the stricter
		AccessTokenLife:  7 * day,                                       // D
		AuthStyle:        oauth2.AuthStyleInHeader,                      // D
		RevokeURL:        "https://discord.com/api/oauth2/token/revoke", // 2
		Phrases: []Phrase{
			// Of a dead refresh token, where others say invalid_grant (I, 2020).
			{Code: "invalid_request", Contains: `Invalid "refresh_token"`, Class: Reauthorize},
		},
	}
}

// DocuSign is for the authorization code grant. Whether the old refresh token works on is not known. Looked up in
// November 2026.
func DocuSign() Profile {
	return Profile{
		Name:             "docusign",
		Replay:           ReplayRevokesFamily,      // not known: the strictest
		KillsAccessToken: Yes,                      // not known: the stricter
		RefreshTokenIdle: 30 * day,                 // D; what extends it is not said
		AccessTokenLife:  8 * time.Hour,            // D
		AuthStyle:        oauth2.AuthStyleInHeader, // D
	}
}

// Dropbox is for apps with offline access. Its answers to refreshes bring no refresh token: the first stays (D).
// It revokes by an access token, not as RFC 7009 says (2). Looked up in November 2026.
func Dropbox() Profile {
	return Profile{
		Name:             "dropbox",
		Replay:           ReplayHarmless, // D: its SDK goes on with the first
		KillsAccessToken: Yes,            // not known: the stricter
		AccessTokenLife:  4 * time.Hour,  // I: 14,400 s
	}
}

// Entra is [Microsoft] by its other name.
func Entra() Profile {
	p := Microsoft()
	p.Name = "entra"
	return p
}

// Figma sends no refresh token with an answer to a refresh (2). Refreshes have an endpoint of their own: give
// the TokenURL https://api.figma.com/v1/oauth/refresh (2). Looked up in November 2026.
func Figma() Profile {
	return Profile{
		Name:             "figma",
		Replay:           ReplayRevokesFamily,      // second hand only: the strictest
		KillsAccessToken: Yes,                      // not known: the stricter
		AuthStyle:        oauth2.AuthStyleInHeader, // 2
	}
}

// Fitbit rotates with every refresh. Its refusals quote the token; no error or log does. Looked up in November 2026.
func Fitbit() Profile {
	return Profile{
		Name:             "fitbit",
		Replay:           ReplayRevokesFamily,      // refused (2); that the successor lives on is not known: the stricter
		KillsAccessToken: Yes,                      // not known: the stricter
		AccessTokenLife:  8 * time.Hour,            // D
		AuthStyle:        oauth2.AuthStyleInHeader, // D: of server apps
		// Says invalid_grant in errors[].errorType (I): the standard rules do.
	}
}

// Hydra is Ory's, with rotation as it is by default. Where rotation_grace_period is set (D), set ReplayGrace and
// Grace. Looked up in November 2026.
func Hydra() Profile {
	return Profile{
		Name:             "hydra",
		Replay:           ReplayRevokesFamily, // D: all tokens of the consent
		KillsAccessToken: Yes,                 // D: the one that it was issued with
		Codes: map[string]Class{
			"token_inactive": Reauthorize, // I: of a dead refresh token, with 401
		},
		Phrases: []Phrase{
			// Of parallel exchanges the others are told so (D: the source of fosite).
			{Code: "invalid_request", Contains: "multiple concurrent requests using the same token", Class: Busy},
		},
	}
}

// Keycloak is for realms with "Revoke Refresh Token" on (D). Where that is off, a refresh token can be used until its
// session ends: set ReplayHarmless. Each answer says how long, in refresh_expires_in. Looked up in November 2026.
func Keycloak() Profile {
	return Profile{
		Name:             "keycloak",
		Replay:           ReplayRevokesFamily, // I: the client's session ends
		KillsAccessToken: Yes,                 // not known: the stricter
		RevokeURL:        "revoke",            // 2: beside .../openid-connect/token
		Phrases: []Phrase{
			// Said of a living token when two clients of one session refresh at once in a cluster (I).
			{Code: "invalid_grant", Contains: "Session doesn't have required client", Class: Busy},
		},
	}
}

// Linear rotates with every refresh (D). It revokes by a form field of its own, not as RFC 7009 says (D). Looked up in
// November 2026.
func Linear() Profile {
	return Profile{
		Name:             "linear",
		Replay:           ReplayRevokesFamily, // not known: the strictest
		KillsAccessToken: Yes,                 // not known: the stricter
		AccessTokenLife:  day,                 // D
	}
}

// Miro is for apps with expiring tokens. Each answer to a refresh brings a refresh token (D). Looked up in November 2026.
func Miro() Profile {
	return Profile{
		Name:             "miro",
		Replay:           ReplayRevokesFamily,      // not known: the strictest
		KillsAccessToken: Yes,                      // not known: the stricter
		RefreshTokenIdle: 60 * day,                 // D
		AccessTokenLife:  time.Hour,                // D
		AuthStyle:        oauth2.AuthStyleInParams, // D
	}
}

// Notion rotates with every refresh, and never says how long a token lives (D): set AccessTokenLife. Looked up in
// November 2026.
func Notion() Profile {
	return Profile{
		Name:             "notion",
		Replay:           ReplayRevokesFamily,                         // not known: the strictest
		KillsAccessToken: Yes,                                         // not known: the stricter
		AuthStyle:        oauth2.AuthStyleInHeader,                    // D
		Request:          Request{JSON: true},                         // 2
		KeepExtra:        []string{"workspace_id", "bot_id", "owner"}, // D
	}
}

// Spotify ends a refresh token six months after the consent, whatever is done (D): the customer must consent again.
// Looked up in November 2026.
func Spotify() Profile {
	return Profile{
		Name:             "spotify",
		Replay:           ReplayRevokesFamily,      // what comes of it is said nowhere: the strictest
		KillsAccessToken: Yes,                      // not known: the stricter
		RefreshTokenLife: 180 * day,                // D: six months; use does not extend it
		AccessTokenLife:  time.Hour,                // D
		AuthStyle:        oauth2.AuthStyleInHeader, // D: of apps with a secret
	}
}

// Square is for the code flow, where the refresh token stays and never ends (D). In the PKCE flow it is single-use and ends
// after 90 days (D): set ReplayRevokesFamily and RefreshTokenIdle. Tokens are renewed every week, as it wishes (D). Looked up
// in November 2026.
func Square() Profile {
	return Profile{
		Name:             "square",
		Replay:           ReplayHarmless,           // D
		KillsAccessToken: Yes,                      // not known: the stricter
		AccessTokenLife:  30 * day,                 // D; the answer says when, in expires_at
		RefreshAhead:     0.77,                     // D: every 7 days of 30
		AuthStyle:        oauth2.AuthStyleInParams, // D
		KeepExtra:        []string{"merchant_id"},  // D
	}
}

// Strava may send a new refresh token with each refresh. Looked up in November 2026.
func Strava() Profile {
	return Profile{
		Name:             "strava",
		Replay:           ReplayRevokesFamily,      // not known: the strictest
		KillsAccessToken: Yes,                      // not known: the stricter
		AccessTokenLife:  6 * time.Hour,            // 2
		AuthStyle:        oauth2.AuthStyleInParams, // 2
	}
}

// TikTok is Login Kit's OAuth v2. A refresh token ends a year after the consent (D). Looked up in November 2026.
func TikTok() Profile {
	return Profile{
		Name:             "tiktok",
		Replay:           ReplayRevokesFamily,                                          // not known: the strictest
		KillsAccessToken: Yes,                                                          // not known: the stricter
		RefreshTokenLife: year,                                                         // D: 365 days after the initial issuance; each answer says it
		AccessTokenLife:  day,                                                          // D
		AuthStyle:        oauth2.AuthStyleInParams,                                     // D
		Request:          Request{Names: map[string]string{"client_id": "client_key"}}, // D
		KeepExtra:        []string{"open_id"},                                          // D
	}
}

// Twitch is for the authorization code grant. Looked up in November 2026.
func Twitch() Profile {
	return Profile{
		Name:             "twitch",
		Replay:           ReplayRevokesFamily,      // refused (I); that the successor lives on is not known: the stricter
		KillsAccessToken: Yes,                      // not known: the stricter
		AccessTokenLife:  time.Hour,                // D shows an hour, others 4 (I): the answer says it
		AuthStyle:        oauth2.AuthStyleInParams, // D
		Phrases: []Phrase{
			{Contains: "Invalid refresh token", Class: Reauthorize}, // I: with 400
		},
	}
}

// Withings rotates with every refresh. The refresh token before works for 8 hours, or until the new access token is used
// (D). It says no with HTTP 200. Looked up in November 2026.
func Withings() Profile {
	return Profile{
		Name:             "withings",
		Replay:           ReplayGrace, // D
		Grace:            8 * time.Hour,
		KillsAccessToken: Yes,                      // not known: the stricter
		RefreshTokenIdle: year,                     // D
		AccessTokenLife:  3 * time.Hour,            // D
		AuthStyle:        oauth2.AuthStyleInParams, // D
		PairIn:           "body",                   // D
		KeepExtra:        []string{"userid"},       // D
		Request:          Request{Params: url.Values{"action": {"requesttoken"}}},
		APIRefusals:      []APIRefusal{{Status: 200, Member: "status", Value: "401"}}, // I
		Phrases: []Phrase{
			{Contains: "invalid refresh_token", Class: Reauthorize}, // I: with 200
		},
	}
}
