package refreshtest_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func start(t *testing.T, p provider.Profile) *refreshtest.Server {
	t.Helper()
	return refreshtest.Start(t, refreshtest.Config{Profile: p})
}

func wantAlive(t *testing.T, s *refreshtest.Server, want bool, tokens ...string) {
	t.Helper()
	for i, token := range tokens {
		if s.Alive(token) != want {
			t.Errorf("refresh token %d: alive is %v, want %v\n%v", i, !want, want, s.Ledger())
		}
	}
}

func wantAccess(t *testing.T, s *refreshtest.Server, want bool, tokens ...string) {
	t.Helper()
	for i, token := range tokens {
		if s.AccessAlive(token) != want {
			t.Errorf("access token %d: alive is %v, want %v\n%v", i, !want, want, s.Ledger())
		}
	}
}

func wantOutcomes(t *testing.T, s *refreshtest.Server, want ...refreshtest.Outcome) {
	t.Helper()
	if got := outcomes(s); !slices.Equal(got, want) {
		t.Errorf("outcomes %q, want %q", got, want)
	}
}

func TestZeroConfigIsTheStrictestProvider(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	first := s.Grant("acme")
	access, refresh := mustRefresh(t, s, first.RefreshToken)
	wantAccess(t, s, false, first.AccessToken)
	wantAccess(t, s, true, access)
	wantAlive(t, s, true, refresh)

	mustRefuse(t, s, first.RefreshToken)
	wantAccess(t, s, false, access)
	wantAlive(t, s, false, refresh)
	if _, ok := s.Living("acme"); ok {
		t.Error("a refresh token lives after the family was revoked")
	}
	mustRefuse(t, s, refresh)
	wantOutcomes(t, s, refreshtest.Rotated, refreshtest.FamilyRevoked, refreshtest.Revoked)
}

func TestFamilyRevocationSparesOtherTenants(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	acme, other := s.Grant("acme"), s.Grant("other")
	mustRefresh(t, s, acme.RefreshToken)
	mustRefuse(t, s, acme.RefreshToken)
	wantAlive(t, s, true, other.RefreshToken)
	wantAccess(t, s, true, other.AccessToken)
}

func TestReplayDeadIsRefusedAndTheSuccessorLives(t *testing.T) {
	s := start(t, provider.Profile{Replay: provider.ReplayDead})
	first := s.Grant("acme")
	access, refresh := mustRefresh(t, s, first.RefreshToken)
	mustRefuse(t, s, first.RefreshToken)
	wantAlive(t, s, true, refresh)
	wantAccess(t, s, true, access)
	mustRefresh(t, s, refresh)
	wantOutcomes(t, s, refreshtest.Rotated, refreshtest.ReplayRefused, refreshtest.Rotated)
}

func TestReplayInTheGraceWindowBringsALivingSibling(t *testing.T) {
	s := start(t, provider.Profile{Replay: provider.ReplayGrace, Grace: time.Minute})
	first := s.Grant("acme")
	access1, refresh1 := mustRefresh(t, s, first.RefreshToken)
	s.Advance(50 * time.Second)
	access2, refresh2 := mustRefresh(t, s, first.RefreshToken)
	if refresh1 == refresh2 || access1 == access2 {
		t.Error("the sibling is the same pair")
	}
	wantAlive(t, s, true, refresh1, refresh2)
	wantAccess(t, s, true, access1, access2)
	mustRefresh(t, s, refresh1)
	wantAccess(t, s, true, access2) // the sibling's token is not replaced
	mustRefresh(t, s, refresh2)
	wantOutcomes(t, s, refreshtest.Rotated, refreshtest.Sibling, refreshtest.Rotated, refreshtest.Rotated)
}

func TestReplayAfterTheGraceWindowRevokesTheFamily(t *testing.T) {
	s := start(t, provider.Profile{Replay: provider.ReplayGrace, Grace: time.Minute})
	first := s.Grant("acme")
	access, refresh := mustRefresh(t, s, first.RefreshToken)
	s.Advance(30 * time.Second)
	mustRefresh(t, s, first.RefreshToken)
	s.Advance(31 * time.Second) // the window counts from the first redemption
	mustRefuse(t, s, first.RefreshToken)
	wantAlive(t, s, false, refresh)
	wantAccess(t, s, false, access)
	wantOutcomes(t, s, refreshtest.Rotated, refreshtest.Sibling, refreshtest.FamilyRevoked)
}

func TestSamePairIsAnsweredUntilItIsFirstUsed(t *testing.T) {
	uses := map[string]func(t *testing.T, s *refreshtest.Server, access, refresh string){
		"at the API":            func(t *testing.T, s *refreshtest.Server, access, _ string) { callAPI(t, s, access) },
		"at the token endpoint": func(t *testing.T, s *refreshtest.Server, _, refresh string) { mustRefresh(t, s, refresh) },
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			s := start(t, provider.Profile{Replay: provider.ReplaySamePair})
			first := s.Grant("acme")
			access1, refresh1 := mustRefresh(t, s, first.RefreshToken)
			access2, refresh2 := mustRefresh(t, s, first.RefreshToken)
			if access1 != access2 || refresh1 != refresh2 {
				t.Fatal("the replay brought another pair")
			}
			use(t, s, access1, refresh1)
			mustRefuse(t, s, first.RefreshToken)
			if _, ok := s.Living("acme"); !ok {
				t.Error("the refused replay killed the successor")
			}
			if got := outcomes(s)[:2]; !slices.Equal(got, []refreshtest.Outcome{refreshtest.Rotated, refreshtest.SamePair}) {
				t.Errorf("outcomes %q", got)
			}
		})
	}
}

func TestHarmlessReplayBringsAnotherPairAndAllLive(t *testing.T) {
	s := start(t, provider.Profile{Replay: provider.ReplayHarmless, KillsAccessToken: provider.No})
	first := s.Grant("acme")
	access1, refresh1 := mustRefresh(t, s, first.RefreshToken)
	access2, refresh2 := mustRefresh(t, s, first.RefreshToken)
	if refresh1 == refresh2 {
		t.Error("the replay brought the same pair")
	}
	wantAlive(t, s, true, first.RefreshToken, refresh1, refresh2)
	wantAccess(t, s, true, first.AccessToken, access1, access2)
	wantOutcomes(t, s, refreshtest.Rotated, refreshtest.Sibling)
}

func TestWithoutRotationTheRefreshTokenIsKept(t *testing.T) {
	for _, omit := range []bool{false, true} {
		s := refreshtest.Start(t, refreshtest.Config{
			Profile:          provider.Profile{Replay: provider.ReplayHarmless},
			NoRotation:       true,
			OmitRefreshToken: omit,
		})
		first := s.Grant("acme")
		access, refresh := mustRefresh(t, s, first.RefreshToken)
		want := first.RefreshToken
		if omit {
			want = ""
		}
		if refresh != want {
			t.Errorf("omit %v: the answer holds another refresh token", omit)
		}
		wantAccess(t, s, false, first.AccessToken)
		mustRefresh(t, s, first.RefreshToken)
		wantAccess(t, s, false, access)
		wantAlive(t, s, true, first.RefreshToken)
		wantOutcomes(t, s, refreshtest.Kept, refreshtest.Kept)
		if bad := s.Ledger().Violations(provider.Profile{}); len(bad) > 0 {
			t.Errorf("a token that is never spent was called replayed:\n%v", bad)
		}
	}
}

func TestOldAccessTokenLivesOnWhereTheProfileSaysSo(t *testing.T) {
	s := start(t, provider.Profile{KillsAccessToken: provider.No})
	first := s.Grant("acme")
	mustRefresh(t, s, first.RefreshToken)
	wantAccess(t, s, true, first.AccessToken)
}

func TestOldAccessTokenDiesAtTheCommitNotAtTheAnswer(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	first := s.Grant("acme")
	before, after := s.Hold(refreshtest.BeforeCommit), s.Hold(refreshtest.AfterCommit)
	got := background(t.Context(), s, first.RefreshToken)

	before.Await(t)
	wantAccess(t, s, true, first.AccessToken)
	before.Release()
	after.Await(t)
	wantAccess(t, s, false, first.AccessToken)
	after.Release()
	if a := <-got; a.status != http.StatusOK {
		t.Errorf("got %d %v", a.status, a.err)
	}
}

func TestRefreshTokensDieOfIdlenessAndOfAge(t *testing.T) {
	s := start(t, provider.Profile{RefreshTokenIdle: time.Hour, RefreshTokenLife: 3 * time.Hour})
	token := s.Grant("idle").RefreshToken
	s.Advance(61 * time.Minute)
	mustRefuse(t, s, token)

	token = s.Grant("old").RefreshToken
	for range 3 {
		s.Advance(59 * time.Minute)
		_, token = mustRefresh(t, s, token)
	}
	s.Advance(4 * time.Minute)
	mustRefuse(t, s, token)
	if n := len(s.Ledger().Outcome(refreshtest.Expired)); n != 2 {
		t.Errorf("%d presentations of expired tokens, want 2", n)
	}
}

func TestUseRenewsTheIdleLifeOfAKeptRefreshToken(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{
		Profile:    provider.Profile{Replay: provider.ReplayHarmless, RefreshTokenIdle: time.Hour},
		NoRotation: true,
	})
	token := s.Grant("acme").RefreshToken
	for range 3 {
		s.Advance(59 * time.Minute)
		mustRefresh(t, s, token)
	}
	s.Advance(61 * time.Minute)
	mustRefuse(t, s, token)
}

func TestConsentRevokesWhatAnEarlierConsentBrought(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	old := s.Grant("acme")
	gate := s.Hold(refreshtest.BeforeCommit)
	got := background(t.Context(), s, old.RefreshToken)
	gate.Await(t)
	renewed := s.Grant("acme")
	gate.Release()
	if a := <-got; a.status != http.StatusBadRequest {
		t.Errorf("an exchange from before the consent got %d", a.status)
	}
	wantAlive(t, s, true, renewed.RefreshToken)
	wantAccess(t, s, false, old.AccessToken)
	if living, ok := s.Living("acme"); !ok || living != renewed.RefreshToken {
		t.Error("the living token is not that of the latest consent")
	}
	mustRefresh(t, s, renewed.RefreshToken)
	if p := s.Ledger()[1]; p.Consent != 2 || p.Generation != 1 {
		t.Errorf("consent %d generation %d, want 2 and 1", p.Consent, p.Generation)
	}
}

func TestRevokeKillsEveryTokenOfTheTenant(t *testing.T) {
	s := refreshtest.Start(t, refreshtest.Config{})
	tok := s.Grant("acme")
	s.Revoke("acme")
	s.Revoke("nobody")
	wantAlive(t, s, false, tok.RefreshToken)
	wantAccess(t, s, false, tok.AccessToken)
	mustRefuse(t, s, tok.RefreshToken)
	mustRefuse(t, s, "rt-never-issued")
	wantOutcomes(t, s, refreshtest.Revoked, refreshtest.Unknown)
}

func TestOnlyOneOfManySimultaneousPresentationsSpendsTheToken(t *testing.T) {
	s := start(t, provider.Profile{Replay: provider.ReplayDead})
	first := s.Grant("acme")
	var all []<-chan answer
	for range 20 {
		all = append(all, background(t.Context(), s, first.RefreshToken))
	}
	for _, got := range all {
		if a := <-got; a.err != nil {
			t.Fatal(a.err)
		}
	}
	l := s.Ledger()
	if l.Pairs() != 1 || len(l.Outcome(refreshtest.ReplayRefused)) != 19 {
		t.Errorf("one pair expected:\n%v", l)
	}
	if n := len(l.Violations(provider.Profile{})); n != 19 {
		t.Errorf("%d violations, want 19", n)
	}
}
