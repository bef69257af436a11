package economy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/internal/work"
	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Circuit is what this process knows of whether its app's exchanges are let through.
type Circuit struct {
	app          engine.App
	asker        *asker
	digest       string // of the profile
	claimTimeout time.Duration
	waiting      context.Context
	hosts        hosts // nil: there is one
	log          zerolog.Logger

	probing sync.Map // by host, "" for the app: a flight of this process is about to probe whether the client is accepted
}

// hosts is what an Exchanger may know of the hosts at which exchanges are made, see [provider.TokenEndpoint].
type hosts interface {
	HostOf(g provider.Grant) string
	SeveralHosts() bool
}

func newCircuit(cfg Config, a *asker) *Circuit {
	known, _ := cfg.Exchanger.(hosts)
	return &Circuit{app: cfg.App, asker: a, digest: profileDigest(cfg.Profile), claimTimeout: cfg.ClaimTimeout, waiting: cfg.Waiting, hosts: known, log: cfg.Log}
}

// profileDigest names a profile: a coordinator with another one may well read what this cannot.
func profileDigest(p provider.Profile) string {
	text, _ := json.Marshal(p) // it is plain data
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:4])
}

// Now is the app's state. It is an economy: if Redis does not answer for it, what memory
// knows must do, or nothing. A pause or a probe's time that memory knows of ends by itself.
func (c *Circuit) Now() *engine.AppState {
	if s := c.app.PeekApp(); s != nil {
		return s
	}
	s, err := economize(c.asker, func(ctx context.Context) (*engine.AppState, error) {
		return c.app.AppState(ctx)
	})
	if err == nil {
		return s
	}
	if s := c.app.KnownApp(); s != nil {
		return s
	}
	return &engine.AppState{}
}

// notify tells the fleet something about the app.
func (c *Circuit) notify(f func(context.Context) error) {
	_, err := economize(c.asker, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	if err != nil && !errors.Is(err, errResting) && !errors.Is(err, work.ErrClosed) {
		c.log.Debug().Err(err).Msg("the fleet was not told what an exchange says about the app")
	}
}
