package provider

import "slices"

// keptNames are members of a consent's answer that are kept for every provider.
var keptNames = []string{
	"id_token",     // OpenID Connect
	"instance_url", // Salesforce
	"api_domain",   // Zoho
	"api_url",      // Zoom
	"realm_id",     // Intuit, also as realmId
	"realmId",
	"team", // Slack
}

// KeptMembers are the members of a consent's answer that are kept with the grant: those that
// KeepExtra names or lists as always kept. member returns a member of the answer, as [oauth2.Token.Extra] does. No refresh token is among
// them.
func (p Profile) KeptMembers(member func(name string) any) map[string]any {
	kept := make(map[string]any)
	for _, name := range slices.Concat(keptNames, p.KeepExtra) {
		if v := member(name); v != nil && v != "" {
			kept[name] = v
		}
	}
	return WithoutRefreshTokens(kept).(map[string]any)
}
