package refreshtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// family is everything that came from one consent.
type family struct {
	tenant    string
	number    int // counts the tenant's consents, from 1
	grantedAt time.Time
	revoked   bool
	newest    *refreshToken           // the last one issued; never spent
	slots     map[string]*accessToken // the last one minted in each slot
}

type refreshToken struct {
	raw        string
	family     *family
	generation int64 // 1 for the pair of the consent
	issuedAt   time.Time
	spentAt    time.Time     // first redemption; zero: unspent, and always so without rotation
	access     *accessToken  // the last one issued together with it
	next       *refreshToken // what the first redemption brought
}

type accessToken struct {
	raw     string
	family  *family
	expires time.Time
	dead    bool // replaced by a refresh, or expired by hand
	used    bool // the API has accepted it
}

func (a *accessToken) alive(now time.Time) bool {
	return !a.dead && !a.family.revoked && now.Before(a.expires)
}

// code is an authorization code. It can be redeemed once, for the first pair of a consent.
type code struct {
	tenant    string
	redirect  string // the request's redirect_uri
	challenge string // its code_challenge; empty: none
	issuedAt  time.Time
	spent     bool
	family    *family // what came of it; nil if nothing did
}

// issuer is what a server has issued, and to whom. Call its methods with world.mu held.
type issuer struct {
	cfg       Config
	families  map[string]*family
	consents  map[string]int // families per tenant, ever
	refreshes map[string]*refreshToken
	accesses  map[string]*accessToken
	codes     map[string]*code
}

func newIssuer(cfg Config) issuer {
	return issuer{
		cfg:       cfg,
		families:  make(map[string]*family),
		consents:  make(map[string]int),
		refreshes: make(map[string]*refreshToken),
		accesses:  make(map[string]*accessToken),
		codes:     make(map[string]*code),
	}
}

// Fingerprint names a token without telling it: the first 12 hex digits of its
// SHA-256.
func Fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:6])
}

// consent starts a family and returns its first pair.
func (i *issuer) consent(tenant string, now time.Time) *refreshToken {
	i.revoke(tenant)
	i.consents[tenant]++
	f := &family{tenant: tenant, number: i.consents[tenant], grantedAt: now}
	i.families[tenant] = f
	rt := i.issueRefresh(f, 1, now)
	rt.access = i.issueAccess(f, now)
	return rt
}

// revoke kills every token of a tenant.
func (i *issuer) revoke(tenant string) {
	if f := i.families[tenant]; f != nil {
		f.revoked = true
	}
}

// expire ends the living access tokens of a tenant.
func (i *issuer) expire(tenant string) {
	for _, a := range i.accesses {
		if a.family.tenant == tenant {
			a.dead = true
		}
	}
}

// issueRefresh makes the family's newest refresh token.
func (i *issuer) issueRefresh(f *family, generation int64, now time.Time) *refreshToken {
	rt := &refreshToken{raw: i.cfg.TokenPrefix + "rt-" + rand.Text(), family: f, generation: generation, issuedAt: now}
	i.refreshes[rt.raw] = rt
	f.newest = rt
	return rt
}

// issueAccess makes an access token.
func (i *issuer) issueAccess(f *family, now time.Time) *accessToken {
	a := &accessToken{raw: i.cfg.TokenPrefix + "at-" + rand.Text(), family: f, expires: now.Add(i.cfg.AccessTokenLife)}
	i.accesses[a.raw] = a
	return a
}

// members is the pair as RFC 6749 §5.1 wants it.
func (i *issuer) members(pair *refreshToken, now time.Time) map[string]any {
	members := map[string]any{
		"access_token": pair.access.raw,
		"token_type":   "Bearer",
		"expires_in":   int64(max(0, pair.access.expires.Sub(now)) / time.Second),
	}
	if !i.cfg.OmitRefreshToken && pair.raw != "" { // a mint has none
		members["refresh_token"] = pair.raw
	}
	return members
}

// firstMembers is the answer to a consent. It always has a refresh token: OmitRefreshToken is about
// refreshes.
func (i *issuer) firstMembers(pair *refreshToken, now time.Time) map[string]any {
	members := i.members(pair, now)
	members["refresh_token"] = pair.raw
	return members
}
