package refresh_test

import (
	"slices"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// rejectAt has an API refuse the current token once that is so old: what the record says of waits is as long ago.
// It returns by how much the token was older, at most.
func (f *fleet) rejectAt(tenant string, age time.Duration) (late time.Duration) {
	f.t.Helper()
	w := f.worker()
	tok := f.token(w, tenant)
	g, err := w.cache.App("zoom").Grant(tenant).Read(f.ctx())
	if err != nil {
		f.t.Fatal(err)
	}
	began := time.Now()
	f.alter(w, tenant, "issued_at", f.redisNow(w)-age.Milliseconds(), "reject_at", max(1, g.RejectAt-age.Milliseconds()))
	if err := f.worker().Reject(f.ctx(), tenant, tok.AccessToken); err != nil {
		f.t.Fatal(err)
	}
	return time.Since(began)
}

// suspicions are the reasons of the journal's suspicions, the last first.
func (f *fleet) suspicions(w *worker, tenant string) (why []string) {
	f.t.Helper()
	entries, err := w.rdb.XRevRange(f.ctx(), f.prefix+":{zoom:"+tenant+"}:journal", "+", "-").Result()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Values["kind"] == "suspect" {
			why = append(why, e.Values["why"].(string))
		}
	}
	return why
}

// lifeOf is how long the stored token is taken to live.
func (f *fleet) lifeOf(w *worker, tenant string) time.Duration {
	f.t.Helper()
	g, err := w.cache.App("zoom").Grant(tenant).Read(f.ctx())
	if err != nil {
		f.t.Fatal(err)
	}
	return time.Duration(g.ExpiresAt-g.IssuedAt) * time.Millisecond
}

// The provider says 3,600,000, which are milliseconds: forty-one days, as everybody reads it.
func TestTokensThatDieAtTheSameAgeAgainAndAgainHaveAWrongLifetime(t *testing.T) {
	t.Parallel()
	for name, ages := range map[string][]time.Duration{
		"an hour":      {63 * time.Minute, time.Hour, 62 * time.Minute},
		"five minutes": {5 * time.Minute, 5*time.Minute + 20*time.Second, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, refreshtest.Config{AccessTokenLife: 1000 * time.Hour})
			w := f.worker()
			f.connect(w, "acme", false)
			var late time.Duration
			for i, age := range ages {
				if life := f.lifeOf(w, "acme"); life < 999*time.Hour {
					t.Errorf("after %d: taken to live %s", i, life)
				}
				late = max(late, f.rejectAt("acme", age))
			}
			want := slices.Min(ages) * 95 / 100
			if life := f.lifeOf(w, "acme"); life < want-2*time.Second || life > want+late {
				t.Errorf("taken to live %s, want %s, or a bit of %s more", life, want, late)
			}
			if why := f.suspicions(w, "acme"); !slices.Equal(why, []string{"wrong_lifetime"}) {
				t.Errorf("suspicions %v", why)
			}
			if e, err := w.Explain(f.ctx(), "acme"); err != nil || e.Code != "TL407" {
				t.Errorf("explained as %s %q, %v", e.Code, e.Title, err)
			}
			// It stays so, and is not said again.
			if err := w.Refresh(f.ctx(), "acme"); err != nil {
				t.Fatal(err)
			}
			if life, why := f.lifeOf(w, "acme"), f.suspicions(w, "acme"); life > want+late || len(why) != 1 {
				t.Errorf("later taken to live %s; suspicions %v", life, why)
			}
			// A grant that dies now was not killed by another program.
			f.server.Revoke("acme")
			kind(t, w.Refresh(f.ctx(), "acme"), refresh.ErrReauthorize, "invalid_grant")
		})
	}
}

func TestAnotherProgramThatWorksByTheHourIsRecognizedInTheEnd(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{AccessTokenLife: 1000 * time.Hour})
	w := f.worker()
	f.connect(w, "acme", false)
	for range 3 {
		f.rejectAt("acme", time.Hour)
	}
	if life := f.lifeOf(w, "acme"); life > time.Hour {
		t.Errorf("taken to live %s", life)
	}
	// A shorter life does not help: something kills them whatever their age.
	f.rejectAt("acme", 20*time.Minute)
	if life := f.lifeOf(w, "acme"); life < 999*time.Hour {
		t.Errorf("still taken to live %s", life)
	}
	f.rejectAt("acme", time.Hour)
	if why := f.suspicions(w, "acme"); !slices.Equal(why, []string{"external_rotation", "wrong_lifetime"}) {
		t.Errorf("suspicions %v", why)
	}
}

// An API that refuses all tokens refuses the same one again, as late as is allowed. That is no age of death.
func TestAnAPIThatRefusesEveryTokenSaysNothingAboutTheirLife(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{AccessTokenLife: 1000 * time.Hour})
	w := f.worker()
	f.connect(w, "acme", false)
	for range 4 {
		var err error
		for range 5 {
			fresh := f.worker()
			if err = fresh.Reject(f.ctx(), "acme", f.token(fresh, "acme").AccessToken); err != nil {
				break
			}
		}
		kind(t, err, refresh.ErrUnavailable, "suspect")
		f.rejectAt("acme", 11*time.Minute)
	}
	for _, why := range f.suspicions(w, "acme") {
		if why == "wrong_lifetime" || why == "external_rotation" {
			t.Errorf("suspicions %v", f.suspicions(w, "acme"))
		}
	}
	if life := f.lifeOf(w, "acme"); life < 999*time.Hour {
		t.Errorf("taken to live %s", life)
	}
}
