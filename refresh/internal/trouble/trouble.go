// Package trouble says whose trouble an error is: of the tenant, of the operator, of Redis, or of this process.
package trouble

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
)

// Codes of errors about Redis.
const (
	// Unfit is the code of a Redis that an operator must mend, ReadOnly of one that is a replica just now.
	Unfit    = "redis_unfit"
	ReadOnly = "redis_readonly"
	// NotReplicated is the code of what fewer than Config.Replicas replicas have acknowledged.
	NotReplicated = "not_replicated"
	// lostData is the code of a tenant of whom nobody can tell whether it had a grant.
	lostData = "redis_lost_data"
)

var (
	errLostData  = errors.New("the database of Redis has lost this app's data, and no worker remembers this tenant: restore the backup, or accept the loss (Coordinator.AcceptLoss); do not ask your customers before that")
	errSilentEnd = errors.New("the connection to Redis was closed without a word: does its port want TLS, or is it a proxy that knows no HELLO?")
)

// Judge judges the errors of one app in one process.
type Judge struct {
	App     engine.App
	Process string // for people
	Log     zerolog.Logger

	fitness  fitness
	unopened unopened
	look     look
}

// Of says who acts about an error.
func (j *Judge) Of(tenant string, err error) *policy.Trouble {
	j.NoteUnopened(tenant, err)
	var t *policy.Trouble
	switch {
	case errors.As(err, &t):
		return t
	case errors.Is(err, tokencache.ErrNone):
		return j.absent()
	case errors.Is(err, tokencache.ErrDamaged):
		return &policy.Trouble{Who: policy.WhoOperator, Code: "damaged_record", Why: err}
	case errors.Is(err, tokencache.ErrNewer): // upgraded processes go on
		return &policy.Trouble{Code: "newer_version", Retry: policy.FirstRetry, Why: err}
	case errors.Is(err, engine.ErrEnded):
		return &policy.Trouble{Who: policy.WhoNotConnected, Code: policy.CodeEnded, Why: err}
	case errors.Is(err, tokencache.ErrNotReplicated):
		return &policy.Trouble{Code: NotReplicated, Retry: policy.FirstRetry, Why: err}
	case errors.Is(err, tokencache.ErrSealed), errors.Is(err, tokencache.ErrSealing):
		return &policy.Trouble{Who: policy.WhoOperator, Code: policy.CodeSealed, Why: err}
	default:
		return j.ofRedis(err)
	}
}

// absent is about a tenant without a grant: it has never connected, unless Redis has lost
// data. That is known here from the app's state, which a flight looks at before it gives up.
func (j *Judge) absent() *policy.Trouble {
	if s := j.App.KnownApp(); s != nil && s.LostAt != 0 {
		return &policy.Trouble{Code: lostData, Retry: policy.LostRetry, Why: errLostData}
	}
	return &policy.Trouble{Who: policy.WhoNotConnected}
}

// ofRedis is about a Redis that did not do what was asked.
func (j *Judge) ofRedis(err error) *policy.Trouble {
	if unfit := engine.Unfit(err); unfit != nil {
		j.noteUnfit(unfit)
		return &policy.Trouble{Who: policy.WhoOperator, Code: Unfit, Why: unfit}
	}
	t := &policy.Trouble{Retry: policy.FirstRetry, Why: err}
	switch {
	case redis.HasErrorPrefix(err, "READONLY"):
		t.Code = ReadOnly
	case !j.fitness.fit.Load() && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		t.Why = errors.Join(errSilentEnd, err)
	}
	return t
}

// Fit returns an error if Redis is known to be unfit. What cannot be asked is not known: the calls
// will say it.
func (j *Judge) Fit(ctx context.Context, tenant string) error {
	return j.examine(ctx, tenant, false)
}

// FitForMore is Fit for what begins something, a consent or Run. It costs two commands more.
func (j *Judge) FitForMore(ctx context.Context, tenant string) error {
	return j.examine(ctx, tenant, true)
}

func (j *Judge) examine(ctx context.Context, tenant string, thorough bool) error {
	news, err := j.fitness.ask(thorough, func() error { return j.App.Grant(tenant).Fit(ctx, thorough) })
	if news {
		j.noteUnfit(err)
	}
	return err
}

// noteUnfit notes that Redis refuses what is needed.
func (j *Judge) noteUnfit(unfit error) {
	j.fitness.refused.Store(true)
	j.fitness.say(j.Log, j.Process, unfit)
}

// NoteUnopened notes that an error is about a pair which this process could not open, and reports whether
// it is. The log says once for each key which process needs which keyset.
func (j *Judge) NoteUnopened(tenant string, err error) bool {
	by, is, isNew := j.unopened.note(err)
	if isNew {
		j.Log.Error().Str("process", j.Process).Str("sealed_with", by).Str("tenant", tenant).
			Msg("this process is not ready: its keyset does not open what others have sealed, which it leaves to them; give it the keyset that has that key, and restart it")
	}
	return is
}
