package refreshtest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestTheProfileSaysWhichRepeatedPresentationsAreViolations(t *testing.T) {
	const window = 30 * time.Second
	t0 := time.Now()
	ledger := refreshtest.Ledger{
		{N: 1, Decided: t0},
		{N: 2, Decided: t0.Add(window), SpentAt: t0},
		{N: 3, Decided: t0.Add(window + 1), SpentAt: t0},
	}
	for replay, want := range map[provider.Replay]int{
		provider.ReplayHarmless:      0,
		provider.ReplaySamePair:      0,
		provider.ReplayGrace:         1,
		provider.ReplayDead:          2,
		provider.ReplayRevokesFamily: 2,
	} {
		if got := ledger.Violations(provider.Profile{Replay: replay, Grace: window}); len(got) != want {
			t.Errorf("replay mode %d: %d violations, want %d", replay, len(got), want)
		}
	}
}

func TestASpentTokenIsAViolationEvenIfTheExchangeIsNotProcessed(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	first := s.Grant("acme")
	mustRefresh(t, s, first.RefreshToken)
	s.Script(refreshtest.Step{Status: 503})
	present(t, s, first.RefreshToken)
	if n := len(s.Ledger().Violations(provider.Profile{})); n != 1 {
		t.Errorf("%d violations, want 1", n)
	}
}

func TestTheLedgerCountsByTenantAndByToken(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{Profile: provider.Profile{Replay: provider.ReplayDead}})
	a, b := s.Grant("a"), s.Grant("b")
	_, a2 := mustRefresh(t, s, a.RefreshToken)
	mustRefuse(t, s, a.RefreshToken)
	mustRefresh(t, s, a2)
	mustRefresh(t, s, b.RefreshToken)

	l := s.Ledger().Presentations("a")
	if len(l) != 3 || l.Pairs() != 2 {
		t.Errorf("%d presentations, %d pairs, want 3 and 2", len(l), l.Pairs())
	}
	if n := l.PerToken()[refreshtest.Fingerprint(a.RefreshToken)]; n != 2 {
		t.Errorf("first token presented %d times, want 2", n)
	}
	if l[2].Generation != 2 || l[2].RefreshToken() != a2 {
		t.Errorf("third presentation: %v", l[2])
	}
	want := refreshtest.Stats{Exchanges: 4, Pairs: 3, Refused: 1}
	if got := s.Stats(); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestAnOldCopyOfTheLedgerStaysAsItWas(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	gate := s.Hold(refreshtest.BeforeCommit)
	got := background(t.Context(), s, s.Grant("acme").RefreshToken)
	gate.Await(t)
	copied := s.Ledger()
	gate.Release()
	<-got
	if copied[0].Outcome != refreshtest.Pending || s.Ledger()[0].Outcome != refreshtest.Rotated {
		t.Errorf("copy %v, ledger %v", copied[0], s.Ledger()[0])
	}
}

func TestNothingPrintsATokenOrTheClientSecret(t *testing.T) {
	cfg := refreshtest.Config{ClientSecret: "hush"}
	s := refreshtest.Start(t, cfg)
	first := s.Grant("acme")
	if _, err := oauthRefresh(t, s, first); err != nil {
		t.Fatal(err)
	}
	l := s.Ledger()
	type holder struct{ inner any }
	for _, v := range []any{cfg, &cfg, s, l, l[0], &l[0], holder{l}, holder{l[0]}, s.Hold(refreshtest.AfterCommit)} {
		printed := fmt.Sprintf("%v %+v %#v %s %q", v, v, v, v, v)
		if _, isServer := v.(*refreshtest.Server); !isServer {
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			printed += string(text)
		}
		for _, secret := range append(s.Issued(), "hush") {
			if strings.Contains(printed, secret) {
				t.Errorf("%T prints secrets: %s", v, printed)
			}
		}
	}
}

func TestIssuedNamesEveryTokenForLeakTests(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{TokenPrefix: "canary-"})
	first := s.Grant("acme")
	access, refresh := mustRefresh(t, s, first.RefreshToken)
	issued := strings.Join(s.Issued(), "\n")
	for _, token := range []string{first.AccessToken, first.RefreshToken, access, refresh} {
		if !strings.Contains(issued, token) || !strings.HasPrefix(token, "canary-") {
			t.Errorf("token missing from Issued, or without its prefix")
		}
	}
}
