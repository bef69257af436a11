package tokencache

import (
	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

// Inspector reads grants for people, see package tokencache/inspect. It needs no keyset, and reads no
// token.
type Inspector = inspect.Inspector

// NewInspector returns an Inspector on rdb, for the grants below a prefix; "" is the default one. It does
// not talk to Redis yet.
func NewInspector(rdb redis.UniversalClient, prefix string) (*Inspector, error) {
	return inspect.New(rdb, inspect.Config{Prefix: prefix})
}
