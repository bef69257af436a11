package refreshtest

import (
	"time"

	"golang.org/x/oauth2"
)

// Grant is the tenant's consent, without a browser: see AuthURL for one. It starts a new family of tokens and returns
// its first pair; what an earlier consent of the tenant brought is revoked.
func (s *Server) Grant(tenant string) *oauth2.Token {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	rt := s.world.issuer.consent(tenant, s.world.now())
	return &oauth2.Token{
		AccessToken:  rt.access.raw,
		RefreshToken: rt.raw,
		TokenType:    "Bearer",
		Expiry:       time.Now().Add(s.world.cfg.AccessTokenLife), // the client's clock: Advance does not move it
		ExpiresIn:    int64(s.world.cfg.AccessTokenLife / time.Second),
	}
}

// Revoke kills every token of the tenant, as when its admin removes the app.
func (s *Server) Revoke(tenant string) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.issuer.revoke(tenant)
}

// ExpireAccessTokens makes the tenant's living access tokens end now, whatever
// their expires_in said. Refresh tokens are untouched.
func (s *Server) ExpireAccessTokens(tenant string) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.issuer.expire(tenant)
}

// Living returns the tenant's newest living refresh token, the one that a
// client should hold; ok is false if the tenant has to consent again.
func (s *Server) Living(tenant string) (refreshToken string, ok bool) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	f := s.world.issuer.families[tenant]
	if f == nil || !s.world.issuer.judge(f.newest, s.world.now()).Committed() {
		return "", false
	}
	return f.newest.raw, true
}

// Alive reports whether a refresh token would bring a pair if it were presented
// now. A spent one may: see Config.Profile.
func (s *Server) Alive(refreshToken string) bool {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	return s.world.issuer.judge(s.world.issuer.refreshes[refreshToken], s.world.now()).Committed()
}

// AccessAlive reports whether the API would accept the access token now. Unlike
// a call of the API it does not count as use.
func (s *Server) AccessAlive(accessToken string) bool {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	a := s.world.issuer.accesses[accessToken]
	return a != nil && a.alive(s.world.now())
}

// Issued returns every access and refresh token the server ever issued, in no
// order, for tests that search logs and stores for leaked tokens.
func (s *Server) Issued() []string {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	all := make([]string, 0, len(s.world.issuer.refreshes)+len(s.world.issuer.accesses))
	for raw := range s.world.issuer.refreshes {
		all = append(all, raw)
	}
	for raw := range s.world.issuer.accesses {
		all = append(all, raw)
	}
	return all
}
