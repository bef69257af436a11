package refreshtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"golang.org/x/oauth2"
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

// Fingerprint names a token without telling it: the first 12 hex digits of its
// SHA-256.
func Fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:6])
}

// Grant is the tenant's consent, without a browser: see AuthURL for one. It starts a new family of tokens and returns
// its first pair; what an earlier consent of the tenant brought is revoked.
func (s *Server) Grant(tenant string) *oauth2.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	rt := s.consent(tenant, s.now())
	return &oauth2.Token{
		AccessToken:  rt.access.raw,
		RefreshToken: rt.raw,
		TokenType:    "Bearer",
		Expiry:       time.Now().Add(s.cfg.AccessTokenLife), // the client's clock: Advance does not move it
		ExpiresIn:    int64(s.cfg.AccessTokenLife / time.Second),
	}
}

// consent starts a family and returns its first pair. Call with mu held.
func (s *Server) consent(tenant string, now time.Time) *refreshToken {
	s.revoke(tenant)
	s.consents[tenant]++
	f := &family{tenant: tenant, number: s.consents[tenant], grantedAt: now}
	s.families[tenant] = f
	rt := s.issueRefresh(f, 1, now)
	rt.access = s.issueAccess(f, now)
	return rt
}

// Revoke kills every token of the tenant, as when its admin removes the app.
func (s *Server) Revoke(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoke(tenant)
}

// ExpireAccessTokens makes the tenant's living access tokens end now, whatever
// their expires_in said. Refresh tokens are untouched.
func (s *Server) ExpireAccessTokens(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.accesses {
		if a.family.tenant == tenant {
			a.dead = true
		}
	}
}

// Living returns the tenant's newest living refresh token, the one that a
// client should hold; ok is false if the tenant has to consent again.
func (s *Server) Living(tenant string) (refreshToken string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.families[tenant]
	if f == nil || !s.judge(f.newest, s.now()).Committed() {
		return "", false
	}
	return f.newest.raw, true
}

// Alive reports whether a refresh token would bring a pair if it were presented
// now. A spent one may: see Config.Profile.
func (s *Server) Alive(refreshToken string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.judge(s.refreshes[refreshToken], s.now()).Committed()
}

// AccessAlive reports whether the API would accept the access token now. Unlike
// a call of the API it does not count as use.
func (s *Server) AccessAlive(accessToken string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accesses[accessToken]
	return a != nil && a.alive(s.now())
}

// Issued returns every access and refresh token the server ever issued, in no
// order, for tests that search logs and stores for leaked tokens.
func (s *Server) Issued() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]string, 0, len(s.refreshes)+len(s.accesses))
	for raw := range s.refreshes {
		all = append(all, raw)
	}
	for raw := range s.accesses {
		all = append(all, raw)
	}
	return all
}

// revoke is Revoke with mu held.
func (s *Server) revoke(tenant string) {
	if f := s.families[tenant]; f != nil {
		f.revoked = true
	}
}

// issueRefresh makes the family's newest refresh token. Call with mu held.
func (s *Server) issueRefresh(f *family, generation int64, now time.Time) *refreshToken {
	rt := &refreshToken{raw: s.cfg.TokenPrefix + "rt-" + rand.Text(), family: f, generation: generation, issuedAt: now}
	s.refreshes[rt.raw] = rt
	f.newest = rt
	return rt
}

// issueAccess makes an access token. Call with mu held.
func (s *Server) issueAccess(f *family, now time.Time) *accessToken {
	a := &accessToken{raw: s.cfg.TokenPrefix + "at-" + rand.Text(), family: f, expires: now.Add(s.cfg.AccessTokenLife)}
	s.accesses[a.raw] = a
	return a
}
