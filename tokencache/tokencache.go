// Package tokencache keeps grants in Redis, and the hot ones in memory. A grant is what one tenant
// lets one app do: a token pair and its history. Make a Cache, and give it to package refresh:
//
//	cache, err := tokencache.New(rdb, tokencache.Config{AEAD: aead})
//	tokens, err := refresh.New(refresh.Config{App: "zoom", Cache: cache, Provider: zoom})
//
// The AEAD seals (encrypts) the token pairs before they reach Redis. Package tokencache/seal makes one
// of a Tink keyset.
//
// Programs use this package. Package tokencache/engine is for package refresh: its API changes with
// refresh, and does not follow semantic versioning.
package tokencache

import (
	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Cache is the grants in Redis, and the memory of the hot ones. It is safe for concurrent use.
type Cache = engine.Cache

// Config of a Cache: see [engine.Config] for its fields. AEAD is required.
type Config = engine.Config

// New returns a Cache on rdb. It does not talk to Redis yet. The error says which setting is wrong.
func New(rdb redis.UniversalClient, cfg Config) (*Cache, error) { return engine.New(rdb, cfg) }

// Key names a grant by its App and its Tenant.
type Key = grant.Key

// Status is a grant's state for people: see [grant.Status] for its fields. It holds no token. Its
// times are by Redis' clock.
type Status = grant.Status

// State of a grant.
type State = grant.State

// The states of a grant.
const (
	Active       = grant.Active       // has a pair
	Reauthorize  = grant.Reauthorize  // the tenant must consent again
	Disconnected = grant.Disconnected // ended by Disconnect; its record ends after 90 days
)

// AEAD seals pairs. It is Tink's interface.
type AEAD = grant.AEAD

// Plaintext is the AEAD that does not encrypt: every reader of Redis can read the tokens. It is for
// tests and demonstrations.
var Plaintext = grant.Plaintext

// Errors that package refresh wraps.
var (
	ErrName          = grant.ErrName          // a bad app or tenant name, or prefix
	ErrNone          = grant.ErrNone          // Redis has no such grant
	ErrSealed        = grant.ErrSealed        // the sealed pair does not open: give this process the right keyset
	ErrSealing       = grant.ErrSealing       // the AEAD does not seal
	ErrDamaged       = grant.ErrDamaged       // the record in Redis cannot be true; a new consent begins it anew
	ErrNewer         = grant.ErrNewer         // a later version wrote the record: upgrade this process
	ErrUnfit         = grant.ErrUnfit         // this Redis cannot do what is needed: its version, its user's rights, a proxy
	ErrNotReplicated = grant.ErrNotReplicated // fewer replicas than Config.Replicas have acknowledged a change
	ErrSpent         = engine.ErrSpent        // this fleet has itself redeemed the refresh token
)

// Fingerprint names a token without telling it: the first 12 hex digits of its SHA-256.
func Fingerprint(token string) string { return grant.Fingerprint(token) }
