package demo

import (
	"context"
	"time"

	"golang.org/x/oauth2"
)

// grant is how one tenant's grant is, as it stands in Redis.
type grant struct {
	epoch, generation int64
	fingerprint       string        // of the stored refresh token
	dead              bool          // the tenant must consent again
	reason            string        // why
	left              time.Duration // of the access token's life; negative: expired
	due               bool          // past its renewal time
	holder            int           // process that presents the refresh token; 0 nobody
	by                int           // process that stored this state
	claim             time.Duration // until the holder's hard deadline
	again             bool          // an earlier holder's presentation is unresolved too
	backoff           bool          // an exchange failed; nobody tries yet
}

// store is where the grants are.
type store interface {
	consent(ctx context.Context, tenant string, tok *oauth2.Token) error
	look(ctx context.Context, tenant string) (grant, error)
	close(ctx context.Context) error
}

// tenant is what the demo knows of one.
type tenant struct {
	name      string
	seen      grant
	seenAt    time.Time
	consents  int // at the authorization server
	exchanges int
	kills     int
	lost      bool      // waits for a new consent
	deadSince time.Time // the stored pair is dead at the server, though nobody says so
}

func (t *tenant) ends() time.Time { return t.seenAt.Add(t.seen.left) }
