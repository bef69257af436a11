package refreshtest

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// Config says what the server is like. The zero value works and is the
// strictest provider there is.
type Config struct {
	// Addr to listen on. Default "127.0.0.1:0", a free port.
	Addr string
	// ClientID and ClientSecret the client must show. Defaults "client" and "secret".
	ClientID     string
	ClientSecret string `json:"-"`
	// Profile is how the server behaves: Replay, Grace, KillsAccessToken,
	// RefreshTokenIdle and RefreshTokenLife are obeyed. AuthStyle is the only one
	// accepted; left at auto-detect, header and body are both accepted (never
	// together). The other fields describe clients and are ignored.
	Profile provider.Profile
	// NoRotation: a refresh brings a new access token and the same refresh token.
	// Since no token is ever spent, Profile.Replay must be ReplayHarmless.
	NoRotation bool
	// OmitRefreshToken leaves the unchanged refresh token out of the answer, which
	// RFC 6749 §6 allows. It needs NoRotation.
	OmitRefreshToken bool
	// AccessTokenLife, at least a second. expires_in is rounded down to whole
	// seconds. Default 1 hour.
	AccessTokenLife time.Duration
	// LatencyBefore and LatencyAfter are how long every exchange takes before and
	// after its commit. Default none. See also SetLatency.
	LatencyBefore, LatencyAfter time.Duration
	// BareUnauthorized makes the API refuse tokens as some providers do: a 401
	// without WWW-Authenticate, its code only in the body: {"code":124,…}.
	BareUnauthorized bool
	// RedirectURLs are where the client may have a browser sent after consent, compared letter by
	// letter (RFC 9700 §2.1). Default: any URL on the loopback interface.
	RedirectURLs []string
	// Control serves /control/ to a person or to another process, see the package
	// comment. Any client that reaches the server can use it. Default off.
	Control bool
	// PublicKey, if not nil, verifies the assertions of RFC 7523 (RS256): an *rsa.PublicKey.
	PublicKey crypto.PublicKey `json:"-"`
	// TokenPrefix starts every token, so that a test can search logs and stores
	// for tokens that leaked. Default none: tokens start with "rt-" or "at-".
	TokenPrefix string
}

// withDefaults returns the configuration with every default filled in.
func (c Config) withDefaults() Config {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.ClientID == "" {
		c.ClientID = "client"
	}
	if c.ClientSecret == "" {
		c.ClientSecret = "secret"
	}
	if c.AccessTokenLife == 0 {
		c.AccessTokenLife = time.Hour
	}
	return c
}

// check refuses configurations that contradict themselves.
func (c Config) check() error {
	switch {
	case c.NoRotation && c.Profile.Replay != provider.ReplayHarmless:
		return errors.New("refreshtest: Config.NoRotation: a refresh token that is not rotated is never spent, so Profile.Replay must be ReplayHarmless")
	case c.OmitRefreshToken && !c.NoRotation:
		return errors.New("refreshtest: Config.OmitRefreshToken: with rotation the client would never learn its new refresh token; set NoRotation too")
	case c.Profile.Replay == provider.ReplayGrace && c.Profile.Grace <= 0:
		return errors.New("refreshtest: Config.Profile.Grace: ReplayGrace needs a window over 0")
	case c.AccessTokenLife < time.Second:
		return errors.New("refreshtest: Config.AccessTokenLife: at least 1s, since expires_in counts whole seconds")
	case c.PublicKey != nil && !isRSA(c.PublicKey):
		return errors.New("refreshtest: Config.PublicKey: must be an *rsa.PublicKey, assertions are signed with RS256")
	case c.LatencyBefore < 0 || c.LatencyAfter < 0:
		return errors.New("refreshtest: Config.LatencyBefore, LatencyAfter: must not be negative")
	}
	return nil
}

// authStyle returns what clients are told to use; never auto-detect, which may
// present a refresh token twice.
func (c Config) authStyle() oauth2.AuthStyle {
	if c.Profile.AuthStyle == oauth2.AuthStyleAutoDetect {
		return oauth2.AuthStyleInHeader
	}
	return c.Profile.AuthStyle
}

// Format keeps every verb from printing the client secret.
func (c Config) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, "refreshtest.Config{ClientID: "+c.ClientID+", [redacted]}")
}

func isRSA(key crypto.PublicKey) bool {
	_, ok := key.(*rsa.PublicKey)
	return ok
}
