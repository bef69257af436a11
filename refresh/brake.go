package refresh

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Two brakes, for what cannot be undone:
//
//   - A success that cannot be read is a pair that is lost. From an app of which no answer was ever
//     read it says that the configuration is wrong: the app stops after the first.
//   - When many grants die within minutes it is rather the provider's mistake than that of so many
//     tenants. Such deaths are not believed: the grants stay suspect, and one a minute tries.

const (
	unreadableAnswer = "unreadable_answer"
	massDeath        = "mass_death"

	// deathsBelieved within deathsWithin, or so many percent of the app's grants.
	deathsBelieved        = 10
	percentDeathsBelieved = 2
	deathsWithin          = 5 * time.Minute
	// deathsDoubted is for how long more deaths are doubted, doubtedRetry how often one of these
	// grants is tried.
	deathsDoubted = 24 * time.Hour
	doubtedRetry  = time.Minute
)

var (
	errBraked = errors.New("the provider answered this app's first exchange with a success from which no token could be read, so that the pair is lost: no other grant is risked. " +
		"Compare what the token endpoint answers with provider.Profile, or unwrap it in the endpoint's Transport, and deploy. A changed profile goes on by itself; else delete the key of the app's state (tl:app:…). The tenant that was hit must consent again")
	errMassDeath = errors.New("the provider refuses the refresh tokens of many tenants within minutes, which is not believed: one grant a minute is tried, and all go on as soon as one is accepted")
)

// profileDigest names a profile: a coordinator with another one may well read what this cannot.
func profileDigest(p provider.Profile) string {
	text, _ := json.Marshal(p) // it is plain data
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:4])
}

// unreadable reports whether the provider answered with a whole success in which no pair could
// be found.
func unreadable(e *provider.Error) bool {
	if e.Class != provider.Ambiguous {
		return false
	}
	var torn net.Error // the answer did not arrive whole
	return e.Code == "no_access_token" || e.Status/100 == 2 && !errors.As(e.Err, &torn)
}

// brake stops the app if none of its answers was ever read.
func (c *Coordinator) brake(a admission, e *provider.Error) {
	if s := c.app.KnownApp(); s != nil && s.ReadAt != 0 {
		return
	}
	told := *e
	told.Code, told.Status = orElse(told.Code, "unreadable"), max(told.Status, 200)
	c.tell(func(ctx context.Context) error {
		made, _, err := c.app.Brake(ctx, engine.NewID(), errorText(&told), a.tenant, a.profile)
		if made {
			c.log.Error().Err(errBraked).Str("tenant", a.tenant).Str("code", e.Code).Int("status", e.Status).Msg("the app is stopped: the operator must act")
		}
		return err
	})
}

func braked(s *engine.AppState, random float64) *Error {
	_, status, _ := parseErrorText(s.Error)
	return &Error{Kind: ErrClientConfig, Code: unreadableAnswer, Status: status, RetryAfter: jittered(maxProbe, random), Err: errBraked}
}

// isDoubted reports whether a grant was refused as if it were dead, which was not believed.
func isDoubted(r *grant.Record) bool { return strings.HasPrefix(r.Error, massDeath+"/") }

// massDies reports whether deaths are doubted.
func massDies(s *engine.AppState) bool {
	return s.MassAt != 0 && s.Now()-s.MassAt < deathsDoubted.Milliseconds()
}

func massDeathError(s *engine.AppState, random float64) *Error {
	return &Error{Kind: ErrUnavailable, Code: massDeath,
		RetryAfter: s.Until(s.MassTryAt) + time.Duration(random*float64(doubtedRetry)) + slack, Err: errMassDeath}
}

// mayRetry asks for the right to try a grant whose death is doubted.
func (c *Coordinator) mayRetry() bool {
	ok, err := economize(c.economy, func(ctx context.Context) (bool, error) {
		return c.app.Retry(ctx, engine.NewID(), doubtedRetry, deaths(0))
	})
	return ok || err != nil
}

// deaths says how many deaths are believed of an app with so many grants.
func deaths(grants int64) engine.Deaths {
	return engine.Deaths{Most: max(deathsBelieved, grants*percentDeathsBelieved/100), Within: deathsWithin, Doubt: deathsDoubted}
}

// doubted asks whether the death of a grant is one too many. If Redis does not answer for the
// app, it is believed.
func (c *Coordinator) doubted() bool {
	believed, err := economize(c.economy, func(ctx context.Context) (bool, error) {
		grants, err := c.app.CountGrants(ctx)
		if err != nil {
			grants = 0 // a node is away: the careful number
		}
		believed, first, err := c.app.Death(ctx, engine.NewID(), deaths(grants))
		if first {
			c.log.Error().Int64("grants", grants).Msg("many grants die within minutes, which is not believed: ask the provider; one grant a minute is tried, and no tenant is asked to consent")
		}
		return believed, err
	})
	return err == nil && !believed
}

// doubt publishes that a grant was refused as if it were dead, and that this is not believed.
func (f *flight) doubt(s *engine.Snapshot, e *provider.Error) (*engine.Snapshot, error) {
	f.c.log.Warn().Str("tenant", f.key.Tenant).Int64("generation", s.Generation).Str("code", e.Code).Int("status", e.Status).
		Msg("refused, but so are too many others: it will be tried again")
	doubted := *e
	doubted.Err = errMassDeath
	snap, err := f.publish(s, &doubted, grant.Failure{
		ID: engine.NewID(), Verdict: grant.Unspent, Reason: suspect,
		Error: massDeath + strings.TrimPrefix(errorText(e), e.Class.String()),
		Retry: jittered(doubtedRetry, 4*jitter()),
	})
	var out *Error
	if errors.As(err, &out) && out.Kind == ErrReauthorize {
		out.Kind, out.Code = ErrUnavailable, massDeath
	}
	return snap, err
}
