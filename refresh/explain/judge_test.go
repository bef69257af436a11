package explain

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// noon is Redis' clock in these tests: 2026-11-26 12:00:00 UTC.
const noon = int64(1_795_694_400_000)

const (
	sec  = int64(1000)
	mins = 60 * sec
	hour = 60 * mins
	day  = 24 * hour
)

// ago is a time before noon.
func ago(ms int64) int64 { return noon - ms }

// fresh is a grant at its second generation, and what its journal has: consent, claim, commit.
func fresh() Case {
	epoch := ago(3 * day)
	c := Case{
		App: "zoom", Tenant: "t0005", Now: noon, Pair: PairOpens, State: &State{},
		Record: &grant.Record{
			Schema: 2, Generation: 2, Epoch: epoch, Rev: 4, State: grant.Active, By: "w1",
			IssuedAt: ago(10 * mins), ExpiresAt: noon + 50*mins, RefreshAt: noon + 44*mins, UsedAt: ago(5 * mins),
			AccessFP: "39a7ae34e90a", RefreshFP: "90e83ed3ca44", CommitID: "HDPWFGDA7G2CC4KE",
		},
	}
	c.Trace.Now = noon
	c.line(epoch, journal.Connect, 1, "w0", "")
	c.line(ago(10*mins)-400, journal.Claim, 1, "w1", journal.Asked)
	c.line(ago(10*mins), journal.Commit, 2, "w1", "").Took = 400 * time.Millisecond
	return c
}

// line appends a line to the journal.
func (c *Case) line(at int64, kind string, generation int64, by, why string) *journal.Entry {
	e := journal.Entry{ID: fmt.Sprintf("%d-%d", at, len(c.Trace.Entries)), At: at, Kind: kind, Generation: generation, Epoch: c.Record.Epoch, By: by, Why: why}
	c.Trace.Entries = append(c.Trace.Entries, e)
	return &c.Trace.Entries[len(c.Trace.Entries)-1]
}

// over is a grant whose access token ended half a minute ago.
func over() Case {
	c := fresh()
	c.Record.IssuedAt, c.Record.ExpiresAt, c.Record.RefreshAt = ago(hour), ago(30*sec), ago(6*mins)
	return c
}

// claimed is one that w1 presents since 5 s.
func claimed() Case {
	c := over()
	c.line(ago(5*sec), journal.Claim, 2, "w1", journal.Asked)
	c.Record.Claim = grant.Claim{ID: "I3EMV3NYGXSTZ4R5", By: "w1", At: ago(5 * sec), Until: noon + 90*sec, N: 1}
	return c
}

// abandoned is one whose claim might have been taken over 4.5 minutes ago.
func abandoned() Case {
	c := over()
	c.Record.ExpiresAt = ago(4*mins + 30*sec)
	c.line(ago(10*mins), journal.Claim, 2, "w1", journal.Asked)
	c.Record.Claim = grant.Claim{ID: "I3EMV3NYGXSTZ4R5", By: "w1", At: ago(10 * mins), Until: ago(8 * mins), N: 1}
	return c
}

func (c *Case) leased(by string, left time.Duration) {
	c.Trace.Lease, c.Trace.Left = by+"/3FYN3PBMXZWVGJWDQ5FEACBFQ5", left
}

// failed is one whose last exchange failed so.
func failed(answer string) Case {
	c := claimed()
	e := c.line(ago(2*sec), journal.Fail, 2, "w1", "")
	e.Answer, e.Took, e.RequestID = answer, 412*time.Millisecond, "7d1f-62b0"
	c.Record.Claim = grant.Claim{}
	c.Record.Error, c.Record.ErrorAt, c.Record.Fails, c.Record.RetryAt = answer, ago(2*sec), 1, noon+9*sec
	return c
}

// dead is one whose tenant must consent again for that reason.
func dead(reason, answer string) Case {
	c := claimed()
	e := c.line(ago(2*sec), journal.Reauthorize, 2, "w1", reason)
	e.Answer, e.Took = answer, 412*time.Millisecond
	c.Record.Claim = grant.Claim{}
	c.Record.State, c.Record.Reason = grant.Reauthorize, reason
	c.Record.Error, c.Record.ErrorAt, c.Record.Fails = answer, ago(2*sec), 1
	return c
}

func with(c Case, change func(*Case)) Case {
	change(&c)
	return c
}

// judged is a case and what is to be said about it.
type judged struct {
	name                    string
	c                       Case
	code, level, who, title string
	first                   string // how the story begins
}

var zoom = provider.Zoom()

var table = []judged{
	{"all is well", fresh(), "TL101", OK, Nobody, "is FRESH", "w1 stored generation 2, after 400 ms (journal)"},
	{"well, without a journal", with(fresh(), func(c *Case) { c.Trace = journal.Trace{} }), "TL101", OK, Nobody, "is FRESH", "generation 2 was stored; w1 made the last change (record: issued_at, by)"},
	{"well, while the circuit is open", with(fresh(), func(c *Case) { c.State.Open, c.State.OpenedAt = true, ago(hour) }), "TL101", OK, Nobody, "is FRESH", "the circuit of the app opened"},
	{"well, while the app is stopped", with(fresh(), func(c *Case) { c.State.Open, c.State.OpenedAt, c.State.Brake = true, ago(hour), "abc" }), "TL101", OK, Nobody, "is FRESH", "the app was stopped: the provider's success could not be read"},
	{"well, while grants die", with(fresh(), func(c *Case) { c.State.MassAt = ago(hour) }), "TL101", OK, Nobody, "is FRESH", "the provider called many grants of the app dead at once"},
	{"well, while the provider is down", with(fresh(), func(c *Case) { c.State.DownAt = ago(hour) }), "TL101", OK, Nobody, "is FRESH", "the provider gives several tenants in a row no usable answer"},
	{"due", with(fresh(), func(c *Case) { c.Record.RefreshAt = ago(sec) }), "TL102", OK, Nobody, "is DUE and served meanwhile", "w1 stored generation 2"},
	{"ended, and nobody asks", over(), "TL102", OK, Nobody, "has NO VALID TOKEN", "w1 stored generation 2"},
	{"being refreshed", with(claimed(), func(c *Case) { c.leased("w1", 8*time.Second) }), "TL103", OK, Nobody, "is BEING REFRESHED by w1", "w1 began to present generation 2: a caller waited for a token (journal)"},
	{"being refreshed, by its record alone", with(claimed(), func(c *Case) { c.Trace = journal.Trace{} }), "TL103", OK, Nobody, "is BEING REFRESHED by w1", "w1 began to present generation 2 (record: claim_by, claim_at)"},
	{"asked a second time", with(claimed(), func(c *Case) {
		c.line(ago(4*sec), journal.Refused, 2, "w1", "").Answer = "refused/invalid_grant/400"
		c.Record.Error, c.Record.ErrorAt = "refused/invalid_grant/400", ago(4*sec)
		c.leased("w1", 8*time.Second)
	}), "TL103", OK, Nobody, "is BEING REFRESHED by w1", "w1 began to present generation 2"},
	{"presented again after a failure", with(failed("ambiguous/server_error/500"), func(c *Case) {
		c.line(ago(sec), journal.Claim, 2, "w3", journal.Takeover)
		c.Record.RetryAt = ago(sec)
		c.Record.Claim = grant.Claim{ID: "X", By: "w3", At: ago(5 * sec), Until: noon + 90*sec, N: 2}
		c.leased("w3", 8*time.Second)
	}), "TL103", OK, Nobody, "is BEING REFRESHED by w3", "w1 began to present generation 2"},
	{"idle", with(over(), func(c *Case) {
		c.Record.UsedAt, c.Record.IssuedAt, c.Record.RefreshAt, c.Record.ExpiresAt = ago(5*day), ago(4*day), ago(4*day)+hour, ago(4*day)+hour
	}), "TL104", OK, Nobody, "is IDLE", "w1 stored generation 2"},
	{"recovered", with(fresh(), func(c *Case) {
		c.Trace.Entries = c.Trace.Entries[:1]
		c.line(ago(12*mins), journal.Claim, 1, "w1", journal.Asked)
		c.line(ago(11*mins), journal.Fail, 1, "w1", "").Answer = "busy//503"
		c.line(ago(10*mins)-400, journal.Claim, 1, "w2", journal.Asked)
		c.line(ago(10*mins), journal.Commit, 2, "w2", "")
	}), "TL105", OK, Nobody, "is FRESH again", "the provider answered w1: too busy (HTTP 503) (journal)"},

	{"to be tried again", failed("busy/try_later/503"), "TL201", Warning, Nobody, "is WAITING: its last exchange failed: try_later (HTTP 503)", "w1 began to present generation 2"},
	{"an answer that says nothing", with(failed("ambiguous/server_error/500"), func(c *Case) {
		c.Record.Claim = grant.Claim{ID: "X", By: "w1", At: ago(5 * sec), Until: noon + 9*sec, N: 1}
	}), "TL201", Warning, Nobody, "is WAITING: its last exchange failed: server_error (HTTP 500)", "w1 began to present generation 2"},
	{"a refusal that nobody has verified", failed("refused/invalid_grant/400"), "TL201", Warning, Nobody, "is WAITING", "w1 began to present generation 2"},
	{"a holder that does not hold the lease", claimed(), "TL202", Warning, Nobody, "is WAITING for the claim of w1", "w1 began to present generation 2"},
	{"a lease that another process has", with(claimed(), func(c *Case) { c.leased("w2", time.Second); c.Profile = &zoom }), "TL202", Warning, Nobody, "is WAITING for the claim of w1", "w1 began to present generation 2"},
	{"a deadline that has passed", with(claimed(), func(c *Case) {
		c.Record.Claim.Until, c.Record.ExpiresAt = ago(sec), noon+10*mins
	}), "TL203", Warning, Nobody, "is served, but NOT RENEWED", "w1 began to present generation 2"},
	{"a deadline that has passed, and no token", with(claimed(), func(c *Case) { c.Record.Claim.Until = ago(sec) }), "TL203", Warning, Nobody, "has NO VALID TOKEN", "w1 began to present generation 2"},
	{"a failure whose wait is over", with(failed("ambiguous/server_error/500"), func(c *Case) {
		c.Record.RetryAt = ago(sec)
		c.Record.Claim = grant.Claim{ID: "X", By: "w1", At: ago(5 * sec), Until: ago(sec), N: 1}
	}), "TL203", Warning, Nobody, "has NO VALID TOKEN", "w1 began to present generation 2"},
	{"a deadline that has passed, and nobody comes", with(abandoned(), func(c *Case) {
		c.Record.UsedAt = ago(hour)
	}), "TL203", Warning, Operator, "NOBODY HAS MADE the recovery attempt since 11:55:30 UTC (4 min ago)", "w1 began to present generation 2"},
	{"a deadline that has passed, and no process calls Run", with(abandoned(), func(c *Case) {
		c.Record.UsedAt, c.Renewing = ago(hour), new(int64)
	}), "TL203", Warning, Operator, "NOBODY HAS MADE", "w1 began to present generation 2"},
	{"a silent holder, and a token that is served beyond its deadline", with(claimed(), func(c *Case) {
		c.Record.ExpiresAt = noon + 10*mins
	}), "TL202", Warning, Nobody, "not before 12:10:00 UTC (in 10 min) the next caller, or Run, tries again", "w1 began to present generation 2"},
	{"a deadline that has passed, and the next process is at it", with(abandoned(), func(c *Case) {
		c.Record.UsedAt = ago(hour)
		c.leased("w3", 8*time.Second)
	}), "TL203", Warning, Nobody, "the next caller, or Run, makes the recovery attempt", "w1 began to present generation 2"},
	{"a deadline that has passed, of a grant that nobody uses", with(abandoned(), func(c *Case) {
		c.Record.UsedAt = ago(5 * day)
	}), "TL203", Warning, Nobody, "NOBODY HAS MADE the recovery attempt", "w1 began to present generation 2"},
	{"a deadline that has passed, and an API refuses the token", with(abandoned(), func(c *Case) {
		c.Record.ExpiresAt, c.Record.RejectedGen, c.Record.UsedAt = noon+10*mins, 2, ago(hour)
	}), "TL203", Warning, Operator, "NOBODY HAS MADE", "w1 began to present generation 2"},
	{"no room in the budget", with(over(), func(c *Case) { c.Process = Process{Name: "w7", Code: "budget"} }), "TL204", Warning, Nobody, "is WAITING for the budget", "its exchange was not let through"},
	{"a pause", with(over(), func(c *Case) { c.State.ThrottledUntil, c.State.Error = noon+mins, "throttled//429" }), "TL205", Warning, Nobody, "the provider wants a pause", "several tenants were told to wait: too many requests (HTTP 429)"},
	{"a pause that this tenant heard", with(failed("throttled//429"), func(c *Case) { c.State.ThrottledUntil, c.State.Error = noon+mins, "throttled//429" }), "TL205", Warning, Nobody, "the provider wants a pause", "several tenants were told to wait"},
	{"restored just now", with(over(), func(c *Case) {
		c.Trace.Entries = nil
		c.line(ago(200), journal.Restore, 2, "w2", "")
		c.Record.RetryAt = noon + 800
	}), "TL206", Info, Nobody, "was RESTORED a moment ago", "w2 gave back generation 2, which Redis had lost (journal)"},
	{"a lease and no claim", with(over(), func(c *Case) { c.leased("w4", 7*time.Second) }), "TL207", Info, Nobody, "is WAITING for w4", "its access token ended (record: expires_at)"},

	{"refused", dead("invalid_grant", "reauthorize/invalid_grant/400"), "TL301", Error, Tenant, "MUST CONNECT AGAIN", "w1 began to present generation 2"},
	{"refused, of a grant without refresh token", failed("reauthorize/access_denied/400"), "TL301", Error, Tenant, "MUST CONNECT AGAIN", "w1 began to present generation 2"},
	{"a lost answer", with(claimed(), func(c *Case) {
		*c = dead("lost_response", "reauthorize/invalid_grant/400")
		last := len(c.Trace.Entries) - 1
		c.Trace.Entries[last].By = "w3"
		takeover := c.Trace.Entries[last]
		takeover.Kind, takeover.Why, takeover.At = journal.Claim, journal.Takeover, ago(3*sec)
		c.Trace.Entries = slices.Insert(c.Trace.Entries, last, takeover)
	}), "TL302", Error, Tenant, "MUST CONNECT AGAIN", "w1 began to present generation 2: a caller waited for a token (journal)"},
	{"too old", with(dead("refresh_token_expired", "reauthorize/invalid_grant/400"), func(c *Case) { c.Record.RefreshTokenExpiresAt = ago(day) }), "TL303", Error, Tenant, "its refresh token was too old", "the tenant consented (record: epoch)"},
	{"a fixed end, as was said", with(dead("refresh_token_expired", "reauthorize/invalid_grant/400"), func(c *Case) {
		c.Record.RefreshTokenExpiresAt, c.Record.WarnedAt = ago(day), ago(2*day)
	}), "TL304", Error, Tenant, "reached its fixed end", "the tenant consented"},
	{"a fixed end, as the profile has it", with(dead("refresh_token_expired", "reauthorize/invalid_grant/400"), func(c *Case) {
		c.Record.RefreshTokenExpiresAt, c.Profile = c.Record.Epoch+2*day, &provider.Profile{RefreshTokenLife: 48 * time.Hour}
	}), "TL304", Error, Tenant, "reached its fixed end", "the tenant consented"},
	{"disconnected", with(fresh(), func(c *Case) {
		c.Record.State, c.Record.Epoch, c.Record.By = grant.Disconnected, ago(hour), "w9"
		c.line(ago(hour), journal.Disconnect, 2, "w9", "")
	}), "TL305", Info, Tenant, "is DISCONNECTED", "w9 disconnected the tenant (journal)"},
	{"never connected", Case{App: "zoom", Tenant: "t0005", Now: noon}, "TL306", Info, Tenant, "was NEVER CONNECTED to zoom", "there is no record of this tenant"},
	{"a fixed end ahead", with(fresh(), func(c *Case) {
		c.Record.WarnedAt, c.Record.RefreshTokenExpiresAt = ago(day), noon+13*day
	}), "TL307", Warning, Tenant, "its consent ENDS at 2026-12-09 12:00:00 UTC (in 13 days)", "the tenant consented"},
	{"an end that has come", with(fresh(), func(c *Case) { c.Record.RefreshTokenExpiresAt = ago(sec) }), "TL307", Warning, Tenant, "has a REFRESH TOKEN THAT HAS ENDED", "w1 stored generation 2"},
	{"dies early, by the record alone", with(fresh(), func(c *Case) {
		c.Record.Foreign, c.Record.ForeignGen, c.Trace.Entries = 1, c.Record.Generation-1, nil
	}), "TL701", Info, OtherProgram, "perhaps ANOTHER PROGRAM", "at one generation the access token died early"},

	{"an open circuit", with(over(), func(c *Case) {
		c.State = &State{Open: true, Error: "app_refused/invalid_client/401", OpenedAt: ago(mins), Probes: 4, ProbeAt: noon + 4*sec}
	}), "TL401", Error, Operator, "refuses the app's client, invalid_client (HTTP 401)", "the client was refused with invalid_client (HTTP 401)"},
	{"an open circuit of its host", with(over(), func(c *Case) {
		c.Host, c.State = "login.eu.example.com", &State{ByHost: map[string]*State{"login.eu.example.com": {Open: true, Error: "app_refused/invalid_client/401", OpenedAt: ago(mins), Probes: 4, ProbeAt: noon + 4*sec}}}
	}), "TL401", Error, Operator, "refuses the app's client at login.eu.example.com, invalid_client (HTTP 401)", "the client was refused with invalid_client (HTTP 401), and nobody accepted in between: the circuit opened, no tenant is at fault (app, @login.eu.example.com: circuit, refused)"},
	{"an open circuit of a host that has refused it", with(over(), func(c *Case) {
		c.State = &State{ByHost: map[string]*State{"a.example.com": {Open: true, OpenedAt: ago(mins)}, "b.example.com": {Open: true, Error: "app_refused//401", Refused: "01234567 " + grant.Fingerprint("t0005")[:8], OpenedAt: ago(mins)}}}
	}), "TL401", Error, Operator, "refuses the app's client at b.example.com", "the client was refused with "},
	{"an open circuit of another host", with(fresh(), func(c *Case) {
		c.Host, c.State = "b.example.com", &State{ByHost: map[string]*State{"a.example.com": {Open: true, OpenedAt: ago(mins)}}}
	}), "TL101", OK, Nobody, "is FRESH", "w1 stored generation 2"},
	{"a pause of its host", with(over(), func(c *Case) {
		c.Host, c.State = "a.example.com", &State{ByHost: map[string]*State{"a.example.com": {ThrottledUntil: noon + mins, Error: "throttled//429"}}}
	}), "TL205", Warning, Nobody, "exchanges at a.example.com, until", "several tenants were told to wait"},
	{"a client refused for one tenant", failed("app_refused/unauthorized_client/400"), "TL401", Error, Operator, "refuses the client for this tenant", "w1 began to present generation 2"},
	{"another keyset", with(fresh(), func(c *Case) { c.Pair, c.Process.Name = PairSealed, "w7" }), "TL402", Error, Operator, "a key that w7 does not have", "w1 stored generation 2"},
	{"http", with(fresh(), func(c *Case) { c.Process = Process{Name: "w7", Code: "insecure_url"} }), "TL403", Error, Operator, "not sent over http", "nothing was sent"},
	{"less scope", with(fresh(), func(c *Case) { c.Trace.Entries[2].Why = journal.Narrower }), "TL404", Warning, Operator, "has LESS SCOPE than before", "w1 stored generation 2, after 400 ms, whose scope lacks what the one before had (journal)"},
	{"no rule", with(failed("refused/odd_code/400"), func(c *Case) { c.Record.Fails, c.Record.RefusedAt = 3, ago(mins) }), "TL405", Error, Operator, "there is no rule: odd_code (HTTP 400), for which there is no rule, 3 times", "w1 began to present generation 2"},
	{"no rule, again and again", with(failed("refused/odd_code/400"), func(c *Case) { c.Record.Reason, c.Record.Fails, c.Record.RetryAt = "suspect", 6, ago(1) }), "TL405", Error, Operator, "IS REFUSED", "w1 began to present generation 2"},
	{"refused for long", dead("refused_for_long", "refused/odd_code/400"), "TL405", Error, Operator, "MUST CONNECT AGAIN: the provider refused it to the end", "w1 began to present generation 2"},
	{"a success that cannot be read", with(over(), func(c *Case) {
		c.State = &State{Open: true, Brake: "0badcafe", Error: "ambiguous/unreadable/200", OpenedAt: ago(mins)}
	}), "TL405", Error, Operator, "the app is stopped", "the provider answered the app's first exchange with a success"},
	{"a Redis that says no", Case{App: "zoom", Tenant: "t0005", Now: noon, Process: Process{Name: "w7", Code: "redis_unfit", Detail: "NOPERM"}}, "TL406", Error, Operator, "Redis refuses a command", "NOPERM (process w7)"},

	{"a lifetime that is wrong", with(fresh(), func(c *Case) {
		c.Record.Lived, c.Record.Foreign, c.Record.ForeignGen = "3420", 1, 1
		c.line(ago(2*mins), journal.Suspect, 1, "w1", "wrong_lifetime")
	}), "TL407", Warning, Operator, "ACCESS TOKENS DIE BEFORE THE END that the provider says: they are taken to live 57 min", "w1 stored generation 2"},
	{"twice at the same age", with(fresh(), func(c *Case) {
		c.Record.Lived, c.Record.Foreign, c.Record.ForeignGen = "3600x2", 1, 1
		c.Trace.Entries = slices.Insert(c.Trace.Entries, 1, journal.Entry{ID: "5-0", At: ago(11 * mins), Kind: journal.Reject, Generation: 1, Epoch: c.Record.Epoch, By: "w1"})
	}), "TL101", OK, Nobody, "is FRESH", "w1 stored generation 2"},

	{"the provider is down", with(failed("ambiguous/server_error/500"), func(c *Case) {
		c.State.DownAt = ago(3 * mins)
	}), "TL501", Error, Provider, "the provider fails for all since 11:57:00 UTC (3 min ago): server_error (HTTP 500)", "the third tenant in a row got no usable answer"},
	{"a network of one's own, while the provider is down", with(failed("unsent/dns/0"), func(c *Case) { c.State.DownAt = ago(3 * mins) }), "TL201", Warning, Nobody, "nothing was sent (dns)", "w1 began to present generation 2"},
	{"an API that refuses all", with(fresh(), func(c *Case) {
		c.Record.Reason, c.Record.Rejects, c.Record.RejectAt, c.Record.RejectedGen = "suspect", 3, noon+2*mins, 1
		c.line(ago(20*mins), journal.Reject, 1, "w1", "an API refused the access token")
		c.line(ago(mins), journal.Suspect, 2, "w1", "several access tokens in a row were refused")
	}), "TL502", Error, Provider, "has FRESH TOKENS THAT AN API REFUSES: 3 times in a row", "an API refused the access token of generation 1, as w1 reported (journal)"},
	{"slow", with(claimed(), func(c *Case) {
		c.line(ago(sec), journal.Extend, 2, "w1", "").Answer = "ambiguous/slow_exchange/0"
		c.Record.Error, c.Record.ErrorAt, c.Record.RetryAt = "ambiguous/slow_exchange/0", ago(sec), noon+3*sec
		c.leased("w1", 8*time.Second)
	}), "TL503", Warning, Provider, "has not answered w1", "w1 began to present generation 2"},
	{"mass death", with(failed("mass_death/invalid_grant/400"), func(c *Case) { c.State.MassAt, c.State.MassTryAt = ago(mins), noon+20*sec }), "TL504", Error, Provider, "is NOT BELIEVED to be dead", "more grants died within 5 minutes"},

	{"given back", with(fresh(), func(c *Case) {
		c.Trace.Entries = nil
		c.line(ago(5*mins), journal.Restore, 2, "w2", "")
	}), "TL601", Info, Nobody, "Redis had lost its newest state, which w2 gave back", "w2 gave back generation 2"},
	{"no pair", with(fresh(), func(c *Case) { c.Pair = PairMissing }), "TL602", Error, Operator, "RECORD WITHOUT ITS PAIR", "w1 stored generation 2"},
	{"damage", Case{App: "zoom", Tenant: "t0005", Now: noon, Damaged: grant.ErrDamaged}, "TL602", Error, Operator, "DAMAGED RECORD", "it cannot be true"},
	{"a later version", Case{App: "zoom", Tenant: "t0005", Now: noon, Damaged: grant.ErrNewer}, "TL602", Error, Operator, "a later version", "its version is later"},
	{"a young server", with(over(), func(c *Case) { c.Process = Process{Name: "w7", Doubted: noon + mins} }), "TL605", Warning, Nobody, "Redis is not believed yet", "this state was written before the server"},
	{"lost data", Case{App: "zoom", Tenant: "t0005", Now: noon, State: &State{LostAt: ago(mins)}}, "TL606", Error, Operator, "Redis has lost the data of zoom", "Redis came back without this app's data"},

	{"somebody else, for sure", with(dead("external_rotation", "reauthorize/invalid_grant/400"), func(c *Case) { c.Record.Foreign, c.Record.ForeignGen = 2, 2 }), "TL701", Error, OtherProgram, "MUST CONNECT AGAIN, and ANOTHER PROGRAM refreshes this grant: its tokens died before their time, at 2 generations in a row", "w1 began to present generation 2"},
	{"somebody else, while it works", with(fresh(), func(c *Case) {
		c.Record.Reason, c.Record.Foreign, c.Record.ForeignGen = "external_rotation", 3, 2
	}), "TL701", Warning, OtherProgram, "works, but ANOTHER PROGRAM refreshes this grant", "at 3 generations in a row the access token died early"},
	{"the first sign", with(fresh(), func(c *Case) {
		c.Record.Foreign, c.Record.ForeignGen = 1, 1
		c.Trace.Entries = slices.Insert(c.Trace.Entries, 1, journal.Entry{ID: "5-0", At: ago(11 * mins), Kind: journal.Reject, Generation: 1, Epoch: c.Record.Epoch, By: "w1"})
	}), "TL701", Info, OtherProgram, "perhaps ANOTHER PROGRAM", "an API refused the access token of generation 1, as w1 reported (journal)"},
	{"the first sign, and dead", with(dead("invalid_grant", "reauthorize/invalid_grant/400"), func(c *Case) {
		c.Record.Foreign, c.Record.ForeignGen = 1, 2
		c.Record.IssuedAt, c.Record.ExpiresAt = ago(20*mins), noon+40*mins
		last := len(c.Trace.Entries) - 2
		c.Trace.Entries = slices.Insert(c.Trace.Entries, last, journal.Entry{ID: "5-0", At: ago(6 * sec), Kind: journal.Reject, Generation: 2, Epoch: c.Record.Epoch, By: "w1"})
	}), "TL701", Error, OtherProgram, "this is the first sign", "an API refused the access token of generation 2"},
	{"an app that its customer has removed: an API refuses the token, seconds old, and the provider the grant", with(dead("invalid_grant", "reauthorize/invalid_grant/400"), func(c *Case) {
		c.Record.IssuedAt, c.Record.ExpiresAt, c.Record.RefreshAt = ago(20*sec), noon+hour, noon+54*mins
		last := len(c.Trace.Entries) - 2
		c.Trace.Entries = slices.Insert(c.Trace.Entries, last, journal.Entry{ID: "5-0", At: ago(6 * sec), Kind: journal.Reject, Generation: 2, Epoch: c.Record.Epoch, By: "w1"})
	}), "TL301", Error, Tenant, "MUST CONNECT AGAIN", "an API refused the access token of generation 2"},
	{"an API that refuses a fresh token, once", with(fresh(), func(c *Case) {
		c.Record.IssuedAt, c.Record.Rejects, c.Record.RejectedGen = ago(20*sec), 1, 1
		c.line(ago(21*sec), journal.Reject, 1, "w1", "an API refused the access token")
	}), "TL101", OK, Nobody, "is FRESH", "w1 stored generation 2"},
	{"a death before, of another consent", with(fresh(), func(c *Case) { c.Record.Foreign, c.Record.ForeignGen = 1, 1 }), "TL101", OK, Nobody, "is FRESH", "w1 stored generation 2"},
}

func TestEachCaseHasItsCode(t *testing.T) {
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			e := Judge(c.c)
			if e.Code != c.code || e.Level != c.level || e.Who != c.who {
				t.Errorf("%s %s, %s acts; want %s %s, %s", e.Code, e.Level, e.Who, c.code, c.level, c.who)
			}
			if !strings.HasPrefix(e.Title, "t0005 ") || !strings.Contains(e.Title, c.title) {
				t.Errorf("title %q, want %q", e.Title, c.title)
			}
			if len(e.Story) == 0 && c.first != "" || len(e.Story) > 0 && !strings.HasPrefix(e.Story[0].Text, c.first) {
				t.Errorf("the story is %v, and does not begin with %q", e.Story, c.first)
			}
			if !slices.IsSortedFunc(e.Story, inTime) {
				t.Errorf("the story goes back in time: %v", e.Story)
			}
			if t.Failed() {
				text, _ := json.MarshalIndent(e, "", "  ")
				t.Logf("%s", text)
			}
		})
	}
}

func TestEachCodeIsJudgedAtLeastOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range table {
		seen[Judge(c.c).Code] = true
	}
	if want, got := Codes(), slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
		t.Errorf("judged are %v, of %v", got, want)
	}
}

// These are the codes and their levels for ever: programs compare them.
func TestTheCodesAreThese(t *testing.T) {
	var got []string
	for _, k := range kinds {
		got = append(got, k.code+" "+k.level+" "+k.who)
	}
	want := []string{
		"TL101 ok nobody", "TL102 ok nobody", "TL103 ok nobody", "TL104 ok nobody", "TL105 ok nobody",
		"TL201 warning nobody", "TL202 warning nobody", "TL203 warning nobody", "TL204 warning nobody", "TL205 warning nobody", "TL206 info nobody", "TL207 info nobody",
		"TL301 error tenant", "TL302 error tenant", "TL303 error tenant", "TL304 error tenant", "TL305 info tenant", "TL306 info tenant", "TL307 warning tenant",
		"TL401 error operator", "TL402 error operator", "TL403 error operator", "TL404 warning operator", "TL405 error operator", "TL406 error operator", "TL407 warning operator",
		"TL501 error provider", "TL502 error provider", "TL503 warning provider", "TL504 error provider",
		"TL601 info nobody", "TL602 error operator", "TL605 warning nobody", "TL606 error operator",
		"TL701 error other_program",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the codes are\n%v, not\n%v", got, want)
	}
}

func TestEachExplanationIsWhole(t *testing.T) {
	evidence := regexp.MustCompile(`\S \([a-z][^()]*\)$`)
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			e := Judge(c.c)
			for _, s := range e.Story {
				if !evidence.MatchString(s.Text) || strings.ContainsAny(s.Text, "\n%") || strings.Contains(s.Text, "  ") {
					t.Errorf("%q does not say where it is known from", s.Text)
				}
			}
			for i, a := range e.Do {
				if last := i == len(e.Do)-1; a.Text == "" || last != strings.HasPrefix(a.Command, "tokenlatch ") {
					t.Errorf("what to do ends with one command, and says why: %+v", e.Do)
				}
			}
			if len(e.Do) == 0 || e.ForTenant == "" || strings.Contains(e.Title, "\n") || len(e.Title) > 250 {
				t.Errorf("%+v", e)
			}
			if e.Since.After(timeOf(noon)) || !e.RetryAt.IsZero() && e.RetryAt.Before(timeOf(noon)) {
				t.Errorf("since %s, tried again at %s", e.Since, e.RetryAt)
			}
			if e.Level != OK && e.Code != "TL305" && len(e.Unknown) == 0 && e.Code != "TL205" && e.Code != "TL206" && e.Code != "TL307" && e.Code != "TL403" && c.c.Damaged == nil && e.Code != "TL304" {
				t.Error("it says nothing of what it does not know")
			}
		})
	}
}

// What a customer may read tells nothing of how the program works.
func TestTheSentenceForTheTenantNamesNoInternals(t *testing.T) {
	internal := regexp.MustCompile(`(?i)\b(redis|token|claim|lease|lock|generation|epoch|journal|record|grant|worker|process|exchange|circuit|pair|provider|tenant|api|http|invalid_\w+|zoom|w\d+|t0005|TL\d+|\d{3})\b|_`)
	for _, c := range table {
		e := Judge(c.c)
		if said := internal.FindString(strings.ReplaceAll(e.ForTenant, "2026", "")); said != "" || e.ForTenant == "" {
			t.Errorf("%s: %q says %q", c.name, e.ForTenant, said)
		}
	}
}

const canary = "canary7d1f"

// No field of what is judged holds a token; what holds a fingerprint or an id stays inside too.
func TestNoExplanationShowsWhatItNeedNot(t *testing.T) {
	for _, c := range table {
		if c.c.Record != nil {
			r := *c.c.Record
			for _, field := range []*string{&r.AccessFP, &r.RefreshFP, &r.CommitID, &r.ConsentID, &r.ConsentFP, &r.Past, &r.Spent} {
				*field = canary
			}
			if r.Claim.ID != "" {
				r.Claim.ID = canary
			}
			c.c.Record = &r
		}
		c.c.Trace.Entries = slices.Clone(c.c.Trace.Entries)
		for i := range c.c.Trace.Entries {
			c.c.Trace.Entries[i].Change = canary
		}
		if c.c.Trace.Lease != "" {
			c.c.Trace.Lease = c.c.Trace.Holder() + "/" + canary
		}
		text, err := json.Marshal(Judge(c.c))
		if err != nil || strings.Contains(string(text), canary) {
			t.Errorf("%s: %s %v", c.name, text, err)
		}
	}
}

// Names come from tenants and from hosts. They neither begin a line nor end a command.
func TestNamesAreHarmless(t *testing.T) {
	for _, name := range []string{"a\nb", "\x1b[2J", "'; rm -rf /; '", "$(reboot)", "", "-f", "Müller & Co", "\xff\x00", `\`} {
		for _, c := range table {
			c.c.App, c.c.Tenant, c.c.Process.Name = name, name, name
			if c.c.Record != nil {
				r := *c.c.Record
				r.By, r.Claim.By = name, name
				c.c.Record = &r
			}
			e := Judge(c.c)
			for _, text := range []string{e.Title, e.Do[len(e.Do)-1].Command, e.Story[0].Text, e.Story[len(e.Story)-1].Text} {
				if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					t.Errorf("%s of %q: %q", c.name, name, text)
				}
			}
		}
	}
	for word, want := range map[string]string{
		"acme": "acme", "a b": "'a b'", "": "''", "it's": `'it'\''s'`, "$(reboot)": "'$(reboot)'", "a\nb'": `$'a\x0ab\''`, "Müller": "'Müller'", `\`: `'\'`,
	} {
		if got := quoted(word); got != want {
			t.Errorf("%q is quoted as %s, want %s", word, got, want)
		}
	}
	if got := line("explain", nil, "zoom", "-f"); got != "tokenlatch explain -- zoom -f" {
		t.Error(got)
	}
}

// Programs read it.
func TestTheJSONOfAnExplanationIsStable(t *testing.T) {
	c := with(failed("busy//503"), func(c *Case) { c.Trace.Entries = c.Trace.Entries[len(c.Trace.Entries)-1:] })
	got, err := json.MarshalIndent(Judge(c), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "code": "TL201",
  "level": "warning",
  "title": "t0005 is WAITING: its last exchange failed: too busy (HTTP 503); the next try is at 12:00:09 UTC (in 9.0 s)",
  "since": "2026-11-26T11:59:58Z",
  "story": [
    {
      "at": "2026-11-26T11:59:58Z",
      "text": "the provider answered w1: too busy (HTTP 503), after 412 ms, request id 7d1f-62b0 (journal)"
    },
    {
      "text": "its access token ended at 11:59:30 UTC (30 s ago): callers get an error (record: expires_at)"
    }
  ],
  "who": "nobody",
  "do": [
    {
      "text": "nothing before then; look again after it",
      "command": "tokenlatch explain zoom t0005"
    }
  ],
  "unknown": [
    "how long the trouble lasts, and whether others have it too: ` + "`tokenlatch ls --trouble`" + ` shows that"
  ],
  "for_tenant": "We cannot reach your account at the moment. We are restoring the connection; there is nothing for you to do now.",
  "retry_at": "2026-11-26T12:00:09Z"
}`
	if string(got) != want {
		t.Errorf("it is\n%s", got)
	}
	var back Explanation
	if err := json.Unmarshal(got, &back); err != nil || back.Code != "TL201" {
		t.Error(err)
	}
}

func TestALongStoryKeepsItsBeginningAndItsEnd(t *testing.T) {
	c := failed("busy//503")
	c.Trace.Entries = nil
	for i := range int64(30) {
		c.line(ago(hour)+i*mins, journal.Fail, 2, fmt.Sprint("w", i), "").Answer = "busy//503"
	}
	e := Judge(c)
	var texts []string
	for _, s := range e.Story {
		texts = append(texts, s.Text)
	}
	all := strings.Join(texts, "\n")
	if len(e.Story) > longest+2 || !strings.Contains(texts[0], "w0:") || !strings.Contains(all, "w29:") || !strings.Contains(all, "21 changes more") {
		t.Errorf("%s", all)
	}
}
