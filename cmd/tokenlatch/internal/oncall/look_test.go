package oncall_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/oncall"
	"github.com/tokenlatch/tokenlatch/refresh/explain"
	"github.com/tokenlatch/tokenlatch/tokencache/engine"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/inspect"
)

const (
	now    = int64(1_800_000_000_000)
	minute = int64(60_000)
)

// row is an active grant whose token lives for half an hour, altered.
func row(alter func(*inspect.Row)) *inspect.Row {
	r := &inspect.Row{Now: now, Record: grant.Record{
		State: grant.Active, Generation: 7, Epoch: now - 100*minute, IssuedAt: now - 30*minute, RefreshAt: now + 25*minute, ExpiresAt: now + 30*minute, By: "w1",
	}}
	alter(r)
	return r
}

func TestARecordSaysItsStateSinceWhyAndWhoActs(t *testing.T) {
	failed := func(text string) func(*inspect.Row) {
		return func(r *inspect.Row) {
			r.Record.Fails, r.Record.Error, r.Record.ErrorAt, r.Record.RetryAt = 1, text, now-minute, now+9000
			r.Record.ExpiresAt, r.Record.RefreshAt = now-1000, now-2000
		}
	}
	dead := func(reason string) func(*inspect.Row) {
		return func(r *inspect.Row) {
			r.Record.State, r.Record.Reason, r.Record.ErrorAt = grant.Reauthorize, reason, now-minute
		}
	}
	claim := func(ago, left int64, lease string) func(*inspect.Row) {
		return func(r *inspect.Row) {
			r.Record.Claim = grant.Claim{ID: "x", By: "w2", At: now - ago, Until: now + left, N: 1}
			r.Lease.By = lease
		}
	}
	for name, tt := range map[string]struct {
		alter   func(*inspect.Row)
		state   string
		trouble bool
		ago     int64 // since; -1 for unknown
		why     string
		who     string
	}{
		"fresh":           {func(*inspect.Row) {}, oncall.Active, false, 30 * minute, "", oncall.Nobody},
		"expired, idle":   {func(r *inspect.Row) { r.Record.ExpiresAt = now - 1 }, oncall.Active, false, 30 * minute, "idle: the next caller gets a new token", oncall.Nobody},
		"expired, in use": {func(r *inspect.Row) { r.Record.ExpiresAt, r.Record.UsedAt = now-1, now-minute }, oncall.Active, false, 30 * minute, "no valid token: the next caller gets a new one", oncall.Nobody},
		"nobody comes": {func(r *inspect.Row) {
			claim(20*minute, -10*minute, "")(r)
			r.Record.ExpiresAt, r.Record.UsedAt = now-9*minute, now-60*minute
		}, oncall.Waiting, true, 20 * minute, "w2 went silent over generation 7; hard deadline passed 10m ago, and nobody takes over", oncall.Operator},
		"disconnected":    {func(r *inspect.Row) { r.Record.State = grant.Disconnected }, oncall.Disconnected, false, 100 * minute, "disconnected by w1", oncall.Nobody},
		"damaged":         {func(r *inspect.Row) { r.Err = fmt.Errorf("%w (no epoch)", grant.ErrDamaged) }, oncall.Damaged, true, -1, "(no epoch)", oncall.Operator},
		"newer":           {func(r *inspect.Row) { r.Err = grant.ErrNewer }, oncall.Newer, true, -1, "upgrade", oncall.Operator},
		"invalid_grant":   {dead("invalid_grant"), oncall.Reauthorize, true, minute, "refused or revoked", oncall.Tenant},
		"lost_response":   {dead("lost_response"), oncall.Reauthorize, true, minute, "answer was lost", oncall.Tenant},
		"ended":           {dead("refresh_token_expired"), oncall.Reauthorize, true, minute, "had ended", oncall.Tenant},
		"refused":         {dead("refused_for_long"), oncall.Reauthorize, true, minute, "no rule knows", oncall.Operator},
		"external":        {dead("external_rotation"), oncall.Reauthorize, true, minute, "another program", oncall.OtherProgram},
		"a later reason":  {dead("hexed"), oncall.Reauthorize, true, minute, "hexed", oncall.Tenant},
		"refreshing":      {claim(2000, minute, "w2"), oncall.Refreshing, false, 0, "w2 presents generation 7, for 2s", oncall.Nobody},
		"slow":            {claim(2*minute, minute, "w2"), oncall.Refreshing, true, 2 * minute, "for 2m", oncall.Nobody},
		"silent":          {claim(2000, 14_000, ""), oncall.Waiting, true, 0, "w2 went silent over generation 7; hard deadline in 14s", oncall.Nobody},
		"silent for long": {claim(5*minute, -minute, ""), oncall.Waiting, true, 5 * minute, "hard deadline passed 60s ago", oncall.Nobody},
		"500":             {failed("ambiguous/http_500/500"), oncall.Waiting, true, minute, "failed (http_500, HTTP 500); next try in 9s", oncall.Provider},
		"500, unresolved": {func(r *inspect.Row) { claim(2*minute, minute, "")(r); failed("ambiguous//500")(r) }, oncall.Waiting, true, minute, "failed (HTTP 500); next try in 9s", oncall.Provider},
		"throttled":       {failed("throttled//429"), oncall.Waiting, true, minute, "a pause (HTTP 429); next", oncall.Provider},
		"client":          {failed("app_refused/invalid_client/401"), oncall.Waiting, true, minute, "refuses the client", oncall.Operator},
		"unsent":          {failed("unsent/dns/0"), oncall.Waiting, true, minute, "did not reach the provider (dns)", oncall.Nobody},
		"failing, valid": {func(r *inspect.Row) { failed("ambiguous//500")(r); r.Record.ExpiresAt, r.Record.Fails = now+1, 3 }, oncall.Active, true, minute,
			"(3 in a row)", oncall.Provider},
		"retry passed":    {func(r *inspect.Row) { failed("ambiguous//500")(r); r.Record.RetryAt = now - 1 }, oncall.Waiting, true, minute, "to be tried again", oncall.Provider},
		"suspect, API":    {func(r *inspect.Row) { r.Record.Reason = "suspect" }, oncall.Suspect, true, 30 * minute, "an API refuses", oncall.Operator},
		"suspect, answer": {func(r *inspect.Row) { failed("refused/odd/418")(r); r.Record.Reason = "suspect" }, oncall.Suspect, true, minute, "no rule knows (odd, HTTP 418)", oncall.Operator},
		"mass death":      {func(r *inspect.Row) { failed("mass_death/x/400")(r); r.Record.Reason = "suspect" }, oncall.Suspect, true, minute, "not believed", oncall.Provider},
		"foreign, once":   {func(r *inspect.Row) { r.Record.Foreign, r.Record.ForeignGen = 1, 6 }, oncall.Active, true, 30 * minute, "external_rotation? first sign", oncall.OtherProgram},
		"foreign, twice":  {func(r *inspect.Row) { r.Record.Foreign, r.Record.ForeignGen = 2, 6 }, oncall.Active, true, 30 * minute, "2 generations in a row", oncall.OtherProgram},
		"consent ends":    {func(r *inspect.Row) { r.Record.WarnedAt, r.Record.RefreshTokenExpiresAt = now-1, now+7*24*60*minute }, oncall.Active, true, 30 * minute, "ends in 7d", oncall.Tenant},
		"consent ended":   {func(r *inspect.Row) { r.Record.RefreshTokenExpiresAt = now - 1 }, oncall.Active, true, 30 * minute, "has ended", oncall.Tenant},
	} {
		f := oncall.Look(row(tt.alter))
		since := time.UnixMilli(now - tt.ago)
		if tt.ago < 0 {
			since = time.Time{}
		}
		if f.State != tt.state || f.Trouble != tt.trouble || !strings.Contains(f.Why, tt.why) || (tt.why == "") != (f.Why == "") || f.Who != tt.who || tt.ago != 0 && !f.Since.Equal(since) {
			t.Errorf("%s: %+v", name, f)
		}
		if f.Trouble && f.Acts() == "" {
			t.Errorf("%s: nobody is said to act", name)
		}
		// A list says of a wait whose answer it is for; an explanation says that nobody need act.
		waits := tt.state == oncall.Waiting || tt.state == oncall.Active && f.Who == oncall.Provider
		if e := explain.Judge(oncall.CaseOf(row(tt.alter))); f.Trouble && e.Who != f.Who && !(waits && e.Who == explain.Nobody) {
			t.Errorf("%s: %s acts, and %s by its explanation: %s %s", name, f.Who, e.Who, e.Code, e.Title)
		}
	}
}

func TestAnAppSaysWhatStopsIt(t *testing.T) {
	at := func(ms int64) string { return grant.Millis(now + ms) }
	for name, tt := range map[string]struct {
		fields map[string]string
		want   string
	}{
		"well":       {map[string]string{"accepted_at": at(-1000)}, oncall.AppOK},
		"lost":       {map[string]string{"lost_at": at(-1000), "circuit": "open"}, oncall.AppLost},
		"open":       {map[string]string{"circuit": "open", "opened_at": at(-1000)}, oncall.AppOpen},
		"braked":     {map[string]string{"circuit": "open", "brake": "abc"}, oncall.AppBraked},
		"down":       {map[string]string{"down_at": at(-1000), "throttled_until": at(60_000)}, oncall.AppDown},
		"paused":     {map[string]string{"throttled_until": at(60_000)}, oncall.AppPaused},
		"host open":  {map[string]string{"circuit@a": "open", "opened_at@a": at(-1000), "changed_at@a": at(-1000), "ramp": "4"}, "host_circuit_open"},
		"host pause": {map[string]string{"throttled_until@a": at(60_000), "refused@b": "0123abcd", "changed_at@a": at(0), "changed_at@b": at(0)}, "host_paused"},
		"host doubt": {map[string]string{"refused@b": "0123abcd", "throttled_until@a": at(-60_000), "changed_at@a": at(0), "changed_at@b": at(0)}, oncall.AppOK},
		"was paused": {map[string]string{"throttled_until": at(-60_000), "ramp": "4"}, oncall.AppRamp},
		"mass death": {map[string]string{"mass_at": at(-60_000)}, oncall.AppMassDeath},
		"long ago":   {map[string]string{"mass_at": at(-25 * 60 * minute)}, oncall.AppOK},
	} {
		s := &engine.AppState{App: "zoom"}
		s.Read(tt.fields, now)
		a := oncall.App{App: "zoom"}
		if a.LookAtApp(s); a.State != tt.want || (tt.want == oncall.AppOK) != (a.Why == "") {
			t.Errorf("%s: %+v, want %s", name, a, tt.want)
		}
	}
	a := oncall.App{}
	if a.LookAtApp(nil); a.State != oncall.AppOK {
		t.Errorf("an app without a state: %+v", a)
	}
}

func TestPeopleReadShortTimesAndWholeNames(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", -time.Second: "0s", 59 * time.Second: "59s", 8 * time.Minute: "8m", 5 * time.Hour: "5h", 12 * 24 * time.Hour: "12d",
	} {
		if got := oncall.Span(d); got != want {
			t.Errorf("Span(%s) = %s, want %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1001: "1,001", 1234567: "1,234,567"} {
		if got := oncall.Count(n); got != want {
			t.Errorf("Count(%d) = %s, want %s", n, got, want)
		}
	}
	for name, want := range map[string]string{
		"acme": "acme", "a b": `"a b"`, "": `""`, "\x1b[2J": `"\x1b[2J"`, "ä/b:c": "ä/b:c", "$(x)": `"$(x)"`, strings.Repeat("x", 256): strings.Repeat("x", 256),
	} {
		if got := oncall.ID(name); got != want {
			t.Errorf("ID(%q) = %s, want %s", name, got, want)
		}
	}
}
