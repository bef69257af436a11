package economy

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Config of an Economy.
type Config struct {
	App             engine.App
	Redis           redis.UniversalClient
	Profile         provider.Profile
	Exchanger       provider.Exchanger
	ExchangeTimeout time.Duration // for so long an exchange waits for the budget
	ClaimTimeout    time.Duration // after which an exchange has ended for sure
	Waiting         context.Context
	Log             zerolog.Logger
}
