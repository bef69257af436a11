package explain

import (
	"cmp"
	"errors"

	"github.com/tokenlatch/tokenlatch/refresh/internal/policy"
	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/journal"
)

// verdicts say, for each code, what an explanation says beside what kinds has.
var verdicts = map[string]func(*judge, *Explanation){
	"TL101": sayFresh, "TL102": sayDue, "TL103": sayUnderway, "TL104": sayIdles, "TL105": sayRecoveredFrom,
	"TL201": sayRetries, "TL202": sayUnresolved, "TL203": sayHeldBack, "TL204": sayBudget, "TL205": sayPaused,
	"TL206": sayQuiet, "TL207": sayLeased,
	"TL301": sayRefused, "TL302": sayLost, "TL303": sayExpired, "TL304": sayExpired, "TL305": sayDisconnected,
	"TL306": sayUnconnected, "TL307": sayEndsSoon,
	"TL401": sayClientRefused, "TL402": saySealed, "TL403": sayInsecure, "TL404": sayNarrower, "TL405": sayNoRule, "TL406": sayUnfit,
	"TL407": sayLifetime,
	"TL501": sayAllFail, "TL502": sayApiRefuses, "TL503": saySlow, "TL504": sayMassDeath,
	"TL601": sayRestored, "TL602": sayUnusable, "TL605": sayDoubted, "TL606": sayLostData,
	"TL701": sayRotatedElsewhere,
}

// TL1xx: well.

func sayFresh(j *judge, e *Explanation) {
	e.Title, e.Since = "is FRESH: its token is served until "+j.at(j.r.ExpiresAt)+", and renewed from "+j.at(j.r.RefreshAt), timeOf(j.r.IssuedAt)
	j.tellPair(e)
	j.sayUnopened(e)
	e.advise(j.command("journal", "-f"), "nothing; this shows what happens to it from now on")
}

func sayDue(j *judge, e *Explanation) {
	e.Since = timeOf(j.r.RefreshAt)
	j.tellPair(e)
	e.tell(j.r.RefreshAt, "record: refresh_at", "its access token became due")
	if j.served() {
		e.Title = "is DUE and served meanwhile, until " + j.at(j.r.ExpiresAt)
		e.advise(j.command("journal", "-f"), "nothing: the next caller starts a refresh, and so does Run; this shows it")
	} else {
		e.Title = "has NO VALID TOKEN since " + j.at(j.r.ExpiresAt) + ": the next caller refreshes it and waits for that"
		if j.r.Fails > 0 {
			e.tell(j.r.ExpiresAt, "record: expires_at", "its access token ended")
			e.tell(j.r.ErrorAt, "record: error, error_at, fails", "the last exchange failed: %s; %s in a row; nobody has tried since", answer(j.r.Error), times(j.r.Fails))
		} else {
			e.tell(j.r.ExpiresAt, "record: expires_at", "its access token ended, and nobody has asked for one since")
		}
		e.advise(j.command("journal", "-f"), "if it is in use, let a process call Run: callers do not wait then", "this shows the next refresh")
	}
	j.tellRun(e)
	j.sayUnopened(e)
}

func sayUnderway(j *judge, e *Explanation) {
	at := j.r.Claim.At
	if line, ok := j.last(journal.Claim); ok {
		at = line.At
	}
	e.Title = "is BEING REFRESHED by " + by(j.r.Claim.By) + " since " + j.at(at)
	e.Since, e.RetryAt = timeOf(at), timeOf(j.r.Claim.Until)
	j.tellClaim(e)
	if j.leaseKnown() {
		e.tell(j.Now, "lease", "%s holds the lease, for %s more unless it extends it: it lives, or has died since it last did so", by(j.r.Claim.By), span(j.Trace.Left))
	} else {
		e.unknown("whether %s still lives: the lease was not looked at", by(j.r.Claim.By))
	}
	e.advise(j.command("journal", "-f"), "nothing: all who need the token wait for this exchange; this shows what comes of it")
}

func sayIdles(j *judge, e *Explanation) {
	e.Title = "is IDLE: nobody has asked for its token since " + j.at(max(j.r.UsedAt, j.r.IssuedAt)) + "; it is kept alive"
	e.Since = timeOf(max(j.r.UsedAt, j.r.IssuedAt))
	j.tellPair(e)
	if j.r.RefreshTokenExpiresAt != 0 {
		e.tell(j.r.RefreshTokenExpiresAt, "record: rt_expires_at", "its refresh token ends then; Run uses it before that")
	} else {
		e.unknown("how long its refresh token lives: neither the provider nor the profile said it; Run uses it every two weeks")
	}
	if j.IdleAfter == 0 {
		e.unknown("Config.IdleAfter: its default of 25 hours is assumed")
	}
	j.tellRun(e)
	if j.Renewing == nil || *j.Renewing == 0 {
		e.advise("", "let a process call Run: without that an idle grant dies when its refresh token ends")
	}
	e.advise(j.command("journal", "-f"), "nothing else: the next caller refreshes it; this shows that")
}

func sayRecoveredFrom(j *judge, e *Explanation) {
	first, _ := j.recovered()
	commit, _ := j.last(journal.Commit)
	e.Title = "is FRESH again: it recovered at " + j.at(commit.At) + " from trouble that began at " + j.at(first.At)
	e.Since = timeOf(commit.At)
	var lines []journal.Entry
	for _, line := range j.Trace.Entries {
		if line.Epoch == j.r.Epoch && (line.Generation == j.r.Generation-1 && line.At >= first.At || line.ID == commit.ID) {
			lines = append(lines, line)
		}
	}
	j.tellJournal(e, lines)
	e.advise(j.command("journal", "-f"), "nothing; this shows what happens to it from now on")
}

// TL2xx: it passes by itself.

func sayRetries(j *judge, e *Explanation) {
	e.Title = "is WAITING: its last exchange failed: " + answer(j.r.Error) + "; the next try is at " + j.at(j.r.RetryAt)
	e.Since, e.RetryAt = timeOf(j.firstFailure()), timeOf(j.r.RetryAt)
	j.tellJournal(e, nil)
	j.tellToken(e)
	j.tellRisk(e)
	e.unknown("how long the trouble lasts, and whether others have it too: `tokenlatch ls --trouble` shows that")
	e.advise(j.command("explain"), "nothing before then; look again after it")
}

func sayUnresolved(j *judge, e *Explanation) {
	holder, opens := by(j.r.Claim.By), j.opensAt()
	if j.harmless() {
		opens = j.r.Claim.Until
	}
	e.Title = "is WAITING for the claim of " + holder + ", which does not hold the lease any more: not before " + j.at(opens) + " the next caller, or Run, tries again"
	e.Since, e.RetryAt = timeOf(j.r.Claim.At), timeOf(opens)
	j.tellClaim(e)
	if h := j.Trace.Holder(); h != "" {
		e.tell(j.Now, "lease", "%s holds the lease now, for %s more; %s lost it", shown(h), span(j.Trace.Left), holder)
	} else {
		e.tell(j.Now, "lease", "nobody holds the lease: %s is probably dead", holder)
	}
	if j.harmless() {
		e.tell(0, "profile", "presenting the refresh token again does no harm: the next caller does it, without waiting for the deadline")
	} else {
		e.tell(j.r.Claim.Until, "record: claim_until", "hard deadline: the provider may have answered %s, so nobody tries before. Then it is one recovery attempt; if that is refused, the tenant must consent again (TL302)", holder)
		if j.r.ExpiresAt > j.r.Claim.Until && !j.r.Refused() {
			e.tell(j.r.ExpiresAt, "record: expires_at", "until then its access token is served, and a second presentation could end it too: nobody makes the attempt before")
		}
	}
	j.unknownReplay(e)
	e.unknown("whether %s lives, is only cut off from Redis, or was killed", holder)
	e.advise(j.command("explain"), "do not restart workers for it: "+holder+" may hold the only pair", "look again after the deadline")
}

func sayHeldBack(j *judge, e *Explanation) {
	e.Since = timeOf(j.r.Claim.Until)
	j.tellClaim(e)
	e.tell(j.r.Claim.Until, "record: claim_until", "the hard deadline of %s passed without an outcome", by(j.r.Claim.By))
	j.unknownReplay(e)
	if j.r.Fails > 0 && j.r.ErrorAt >= j.r.Claim.At {
		e.unknown("whether the refresh token is spent: what came of the exchange does not say it")
	} else {
		e.unknown("whether the provider answered %s: it stored nothing", by(j.r.Claim.By))
	}
	switch {
	case j.served():
		e.Title = "is served, but NOT RENEWED before its access token ends at " + j.at(j.r.ExpiresAt) + ": an earlier exchange has no outcome"
		e.RetryAt = timeOf(j.r.ExpiresAt)
		e.tell(j.r.ExpiresAt, "record: expires_at", "until then the access token is served, and a second presentation could end it too; then there is one recovery attempt")
		e.advise(j.command("explain"), "nothing before then; look again after it")
		return
	case j.r.Refused():
		e.tell(0, "record: rejected_gen", "an API has refused its access token: nothing holds the recovery attempt back")
	default:
		e.tell(j.opensAt(), "record: expires_at, claim_until", "its access token has ended: nothing holds the recovery attempt back any more")
	}
	e.Title = "has NO VALID TOKEN: the next caller, or Run, makes the recovery attempt, since an earlier exchange has no outcome"
	if !j.unattended() {
		e.advise(j.command("explain"), "nothing; look again in a minute")
		return
	}
	sayUnattended(j, e)
}

// sayUnattended is about a recovery attempt that nobody makes.
func sayUnattended(j *judge, e *Explanation) {
	opened := j.opensAt()
	e.Title = "has NO VALID TOKEN, and NOBODY HAS MADE the recovery attempt since " + j.at(opened) + ": an earlier exchange has no outcome"
	j.tellRun(e)
	if !j.inUse() {
		e.tell(opened, "record: used_at", "nobody has asked for its token since, and Run leaves a grant alone that is not in use")
		e.advise(j.command("refresh"), "nothing, if the customer is not served any more: the next caller makes the attempt", "this makes it now")
		return
	}
	e.Who, e.ForTenant = Operator, ours
	e.tell(opened, "record: claim_by, used_at", "nobody has asked for its token since, and no process that calls Run has taken the claim over")
	look := "let a process call Run for " + shown(j.App)
	if j.Renewing != nil && *j.Renewing > 0 {
		look = "look why no process that calls Run gets to this grant: its log says it, at warn"
	}
	e.advise(j.command("refresh"), look, "this makes the attempt now")
}

func sayBudget(j *judge, e *Explanation) {
	e.Title = "is WAITING for the budget: the app's exchanges are as many as Profile.Budget allows"
	e.Since = timeOf(j.r.RefreshAt)
	e.tell(j.Now, "process "+by(j.Process.Name), "its exchange was not let through: %s", cmp.Or(j.Process.Detail, "the budget is used up for the moment"))
	j.tellToken(e)
	e.unknown("when there is room: others may go first")
	e.advise(j.appCommand("ls", "--trouble"), "nothing, if it passes within minutes; else raise Profile.Budget to what the provider allows", "this lists how many wait")
}

func sayPaused(j *judge, e *Explanation) {
	again := "then exchanges begin again with one at a time"
	if j.host != "" {
		again = "the tenants of other hosts go on"
	}
	e.Title = "is WAITING: the provider wants a pause of all the app's exchanges" + j.where() + ", until " + j.at(j.State.ThrottledUntil)
	e.Since, e.RetryAt = timeOf(cmp.Or(j.r.ErrorAt, j.r.RefreshAt)), timeOf(j.State.ThrottledUntil)
	e.tell(j.State.ThrottledUntil, j.field("throttled_until, error"), "several tenants were told to wait: %s. Until then nobody presents anything%s; %s", cmp.Or(answer(j.State.Error), "429"), j.where(), again)
	j.tellToken(e)
	e.advise(j.appCommand("ls", "--trouble"), "if it happens again, set Profile.Budget below the provider's limit", "this lists who waits")
}

func sayQuiet(j *judge, e *Explanation) {
	e.Title = "was RESTORED a moment ago: nobody presents it before " + j.at(j.r.RetryAt)
	e.RetryAt = timeOf(j.r.RetryAt)
	if line, ok := j.last(journal.Restore); ok {
		e.Since = timeOf(line.At)
		e.tell(line.At, "journal", "%s", j.sentence(line))
	}
	e.tell(j.r.RetryAt, "record: retry_at", "until then a worker that remembers a newer pair can say so")
	e.advise(j.command("explain"), "nothing; look again in a few seconds, and at why Redis had lost it")
}

func sayLeased(j *judge, e *Explanation) {
	holder := cmp.Or(shown(j.Trace.Holder()), "somebody")
	e.Title = "is WAITING for " + holder + ", which holds the lease and has claimed nothing; the lease ends in " + span(j.Trace.Left)
	e.Since, e.RetryAt = timeOf(j.r.ExpiresAt), timeOf(j.Now+j.Trace.Left.Milliseconds())
	e.tell(j.r.ExpiresAt, "record: expires_at", "its access token ended")
	e.tell(j.Now, "lease", "%s holds the lease for %s more unless it extends it; nothing was presented under it", holder, span(j.Trace.Left))
	e.unknown("whether %s is about to claim, waits for the app's budget, or died", holder)
	e.advise(j.command("explain"), "nothing: the lease ends by itself, and the next process goes on; look again then")
}

// TL3xx: the tenant acts.

func sayRefused(j *judge, e *Explanation) {
	e.Title, e.Since = "MUST CONNECT AGAIN since "+j.at(j.diedAt())+": the provider refuses its refresh token, "+answer(j.r.Error), timeOf(j.diedAt())
	j.tellJournal(e, nil)
	j.tellRevival(e)
	e.unknown("why it is refused: mostly the customer has removed the app, changed a password or revoked the consent. Providers do not say; another program that used the token up would look the same")
	e.advise(j.command("journal", "-f"), "send the customer to your consent page", "this shows when they have connected")
}

func sayLost(j *judge, e *Explanation) {
	e.Title, e.Since = "MUST CONNECT AGAIN since "+j.at(j.diedAt())+": the answer to an exchange was lost, and its pair with it", timeOf(j.diedAt())
	j.tellJournal(e, nil)
	if first, ok := j.firstClaim(); ok {
		e.tell(0, "journal", "%s presented generation %d and stored nothing; the provider had spent the token by then, and refused the recovery attempt", by(first.By), first.Generation)
	}
	e.unknown("what became of the first holder: killed, cut off, or its answer was lost by the network or a proxy")
	e.advise(j.command("journal", "-f"), "send the customer to your consent page", "do not kill workers with -9; give them 100 s to end (Coordinator.Close)", "this shows when they have connected")
}

func sayExpired(j *judge, e *Explanation) {
	e.Since = timeOf(j.diedAt())
	e.tell(j.r.Epoch, "record: epoch", "the tenant consented")
	e.tell(j.r.RefreshTokenExpiresAt, "record: rt_expires_at", "its refresh token ended")
	j.tellJournal(e, nil)
	if j.code == "TL304" {
		e.Title = "MUST CONNECT AGAIN: its consent reached its fixed end at " + j.at(j.r.RefreshTokenExpiresAt)
		if j.r.WarnedAt != 0 {
			e.tell(j.r.WarnedAt, "record: warned_at", "that end was reported ahead")
		}
	} else {
		e.Title = "MUST CONNECT AGAIN: its refresh token was too old, it ended at " + j.at(j.r.RefreshTokenExpiresAt)
		e.unknown("why it was not used before: no process called Run, or all were away")
	}
	e.advise(j.command("journal", "-f"), "send the customer to your consent page", "this shows when they have connected")
}

func sayDisconnected(j *judge, e *Explanation) {
	e.Title, e.Since = "is DISCONNECTED since "+j.at(j.r.Epoch)+", by "+by(j.r.By), timeOf(j.r.Epoch)
	line, ok := j.last(journal.Disconnect)
	if ok {
		e.tell(line.At, "journal", "%s", j.sentence(line))
	} else {
		e.tell(j.r.Epoch, "record: epoch, by", "%s disconnected the tenant", by(j.r.By))
	}
	e.unknown("who asked for it: that is in your own log")
	e.advise(j.command("journal", "-f"), "if it was a mistake, send the customer to your consent page", "this shows when they have connected")
}

func sayUnconnected(j *judge, e *Explanation) {
	e.Title = "was NEVER CONNECTED to " + shown(j.App) + " here"
	e.tell(j.Now, "record", "there is no record of this tenant, and no tombstone of one that was disconnected")
	e.unknown("whether it was connected long ago: a tombstone ends after 90 days; or under another name: names are compared byte by byte")
	if j.State == nil {
		e.unknown("whether Redis has lost this app's data: the app's state was not looked at")
	}
	e.unknown("whether Redis has come back empty just now: workers notice that within seconds, so look again before you ask the customer")
	e.advise(j.appCommand("ls"), "look whether app and tenant are spelled as your program spells them", "send the customer to your consent page", "this lists the tenants that there are")
}

func sayEndsSoon(j *judge, e *Explanation) {
	if j.r.RefreshTokenExpiresAt <= j.Now {
		sayOver(j, e)
		return
	}
	e.Title = "works, but its consent ENDS at " + j.at(j.r.RefreshTokenExpiresAt) + ", whatever is done"
	e.Since = timeOf(j.r.WarnedAt)
	e.tell(j.r.Epoch, "record: epoch", "the tenant consented")
	e.tell(j.r.WarnedAt, "record: warned_at", "it was reported that the refresh token ends at a fixed date")
	e.tell(j.r.RefreshTokenExpiresAt, "record: rt_expires_at", "the refresh token ends; refreshing does not put that off")
	e.ForTenant = "The connection to your account ends on " + timeOf(j.r.RefreshTokenExpiresAt).Format("2 January 2006") + ". Please connect your account again before that."
	e.advise(j.command("journal", "-f"), "ask the customer to connect again before that date", "this shows when they have")
}

// sayOver is about a grant whose refresh token has ended, while its last access token may still be served.
func sayOver(j *judge, e *Explanation) {
	e.Title = "has a REFRESH TOKEN THAT HAS ENDED, at " + j.at(j.r.RefreshTokenExpiresAt)
	if j.r.ExpiresAt > j.Now {
		e.Title += "; its access token is served until " + j.at(j.r.ExpiresAt)
	}
	e.Since = timeOf(j.r.RefreshTokenExpiresAt)
	j.tellPair(e)
	e.tell(j.r.RefreshTokenExpiresAt, "record: rt_expires_at", "the refresh token ended, by what the provider or its profile says")
	e.unknown("whether the provider still takes it: the next exchange tries it once")
	e.ForTenant = endsSoon
	e.advise(j.command("journal", "-f"), "send the customer to your consent page", "this shows when they have connected again")
}

// TL4xx: the operator acts.

func sayClientRefused(j *judge, e *Explanation) {
	open := j.State != nil && j.State.Open
	text := j.r.Error
	if open {
		text = cmp.Or(j.State.Error, text)
		e.Title = "CANNOT BE REFRESHED: the provider refuses the app's client" + j.where() + ", " + answer(text) + "; the circuit is open since " + j.at(j.State.OpenedAt)
		e.Since, e.RetryAt = timeOf(j.State.OpenedAt), timeOf(j.State.ProbeAt)
		e.tell(j.State.OpenedAt, j.field("circuit, refused"), "the client was refused with %s, and nobody accepted in between: the circuit opened, no tenant is at fault", answer(text))
		e.tell(j.State.ProbeAt, j.field("probes, probe_at"), "one exchange at a time tries whether the client is accepted again; it was refused %d times since", j.State.Probes)
		e.unknown("whether the client was deleted, its secret changed or its endpoint moved: the provider's console shows that")
	} else {
		e.Title = "CANNOT BE REFRESHED: the provider refuses the client for this tenant, " + answer(text) + "; the next try is at " + j.at(j.r.RetryAt)
		e.Since, e.RetryAt = timeOf(j.firstFailure()), timeOf(j.r.RetryAt)
		e.unknown("whether it is about the client or about this tenant: providers say the same of a customer whose admin has removed the app")
	}
	if lines := j.lines(); len(lines) > 0 {
		j.tellJournal(e, nil)
	}
	j.tellToken(e)
	e.advise(j.appCommand("explain"), "compare client id, client secret, scopes and token URL with what the provider shows", "rotate a secret with Provider.Fallback", "this says how many tenants it is about")
}

func saySealed(j *judge, e *Explanation) {
	e.Title = "CANNOT BE OPENED here: its pair is sealed with a key that " + by(j.Process.Name) + " does not have"
	j.tellPair(e)
	e.tell(j.Now, "pair", "it did not open: %s", cmp.Or(j.Process.Detail, "this keyset does not have its key"))
	e.unknown("whether other workers can open it: each has its own keyset")
	e.advise(j.command("inspect"), "give this process the keyset that all workers have, and restart it", "this shows which process stored the pair")
}

func sayInsecure(j *judge, e *Explanation) {
	e.Title = "was REFUSED A REQUEST: its token is not sent over http"
	e.tell(j.Now, "process "+by(j.Process.Name), "nothing was sent: %s", cmp.Or(j.Process.Detail, "the URL of the API is http"))
	e.advise(j.command("inspect"), "use https, or list the host in Config.InsecureHosts if nobody can listen on the way", "the grant itself is well: this shows it")
}

func sayNarrower(j *judge, e *Explanation) {
	line, _ := j.narrowed()
	e.Title, e.Since = "has LESS SCOPE than before, since "+j.at(line.At), timeOf(line.At)
	e.tell(line.At, "journal", "%s", j.sentence(line))
	j.tellPair(e)
	e.unknown("which scope: it is sealed with the pair. Token(ctx, tenant) has it in Extra(\"scope\"), where the provider says it")
	e.advise(j.command("journal"), "compare the scopes of the app at the provider with those that you ask for; a customer who consents again grants what is asked then", "this shows when it happened")
}

func sayNoRule(j *judge, e *Explanation) {
	switch {
	case j.r.State == grant.Reauthorize:
		e.Title = "MUST CONNECT AGAIN: the provider refused it to the end with " + answer(j.r.Error)
		e.Since, e.ForTenant = timeOf(j.diedAt()), reconnect
	case j.State != nil && j.State.Open && j.State.Brake != "":
		e.Title = "CANNOT BE REFRESHED: the app is stopped since " + j.at(j.State.OpenedAt) + ", the provider's success could not be read"
		e.Since = timeOf(j.State.OpenedAt)
		e.tell(j.State.OpenedAt, "app: brake, error", "the provider answered the app's first exchange with a success from which no token could be read, so that its pair is lost: no other grant is risked (%s)", answer(j.State.Error))
	default:
		e.Title = "IS REFUSED in a way for which there is no rule: " + answer(j.r.Error) + ", " + times(j.r.Fails)
		e.Since, e.RetryAt = timeOf(cmp.Or(j.r.RefusedAt, j.firstFailure())), timeOf(j.r.RetryAt)
	}
	if len(j.lines()) > 0 {
		j.tellJournal(e, nil)
	}
	j.tellToken(e)
	e.unknown("what the provider means by it: its documentation, or its support, says it")
	e.advise(j.command("journal"), "add the code to Profile.Codes (with Reauthorize, Busy, …), or mend the profile by which answers are read, and deploy", "this has each answer, with the provider's request ids")
}

func sayUnfit(j *judge, e *Explanation) {
	e.Title = "CANNOT BE KEPT: Redis refuses a command that is needed"
	e.tell(j.Now, "process "+by(j.Process.Name), "%s", cmp.Or(j.Process.Detail, "Redis lacks a right, a command or a version"))
	e.unknown("what else is refused: a command is found missing when it is used")
	e.advise(j.appCommand("ls", "--trouble"), "compare the ACL of the Redis user with what tokenlatch help operations rights prints", "this works again when it is mended")
}

func sayLifetime(j *judge, e *Explanation) {
	e.Title = "works; its ACCESS TOKENS DIE BEFORE THE END that the provider says: they are taken to live " + span(grant.LearnedLife(j.r.Lived))
	e.Since = timeOf(j.r.IssuedAt)
	for _, line := range j.Trace.Entries {
		if line.Epoch == j.r.Epoch && line.Kind == journal.Suspect && line.Why == policy.ReasonLifetime {
			e.Since = timeOf(line.At)
			e.tell(line.At, "journal", "%s", j.sentence(line))
		}
	}
	e.tell(0, "record: lived", "generation after generation an API refused the access token at the same age, long after it was fresh; those that follow are renewed before that age")
	j.tellPair(e)
	e.unknown("what the provider says: its number is not kept. A thousand times too much is milliseconds taken for seconds")
	e.advise(j.command("journal"), "look into an answer of the token endpoint, and set Profile.ExpiresInUnit or Profile.MaxAccessTokenLife", "this has each refusal")
}

// TL5xx: the provider.

func sayAllFail(j *judge, e *Explanation) {
	down := j.State.DownAt
	e.Title = "is WAITING: the provider fails for all since " + j.at(down) + ": " + answer(j.r.Error) + "; the next try is at " + j.at(j.r.RetryAt)
	e.Since, e.RetryAt = timeOf(down), timeOf(j.r.RetryAt)
	e.tell(down, "app: failing, down_at", "the third tenant in a row got no usable answer, with no answer of another kind in between: it is not about this one")
	j.tellJournal(e, nil)
	j.tellToken(e)
	j.tellRisk(e)
	e.unknown("how long it lasts: the provider's status page may say it")
	e.advise(j.appCommand("ls", "--trouble"), "look at the provider's status page, and give its support the request ids in the journal", "this lists who waits for it")
}

func sayApiRefuses(j *judge, e *Explanation) {
	e.Title = "has FRESH TOKENS THAT AN API REFUSES: " + times(j.r.Rejects) + " in a row"
	e.RetryAt = timeOf(j.r.RejectAt)
	var lines []journal.Entry
	for _, line := range j.Trace.Entries {
		if line.Epoch == j.r.Epoch && (line.Kind == journal.Reject || line.Kind == journal.Suspect) {
			lines = append(lines, line)
		}
	}
	if len(lines) > 0 {
		e.Since = timeOf(lines[0].At)
	}
	j.tellJournal(e, lines)
	e.tell(j.r.IssuedAt, "record: issued_at, rejects", "generation %d is fresh: refreshing does not help, and a refused token forces another one no sooner than %s", j.r.Generation, j.at(j.r.RejectAt))
	e.unknown("what the API answered: look at its 401 (scope, address, a blocked account); or something kills the tokens, such as another program that refreshes this grant")
	e.advise(j.command("journal"), "send one request by hand and read the body of the API's 401", "this has each refusal")
}

func saySlow(j *judge, e *Explanation) {
	e.Title = "is WAITING: the provider has not answered " + by(j.r.Claim.By) + " since " + j.at(j.r.Claim.At)
	e.Since, e.RetryAt = timeOf(j.r.Claim.At), timeOf(j.r.RetryAt)
	j.tellJournal(e, nil)
	e.tell(j.r.Claim.Until, "record: claim_until", "%s still listens, up to 5 minutes, since presenting again could do harm; its callers get ErrUnavailable meanwhile", by(j.r.Claim.By))
	j.tellToken(e)
	e.unknown("whether the provider has spent the refresh token already")
	e.advise(j.command("journal", "-f"), "look at the provider's status page", "do not kill "+by(j.r.Claim.By)+": the answer that it waits for has the only living pair", "this shows what comes of it")
}

func sayMassDeath(j *judge, e *Explanation) {
	e.Title = "is NOT BELIEVED to be dead: the provider refuses many grants of the app at once"
	e.Since, e.RetryAt = timeOf(j.r.ErrorAt), timeOf(j.r.RetryAt)
	if j.State != nil && j.State.MassAt != 0 {
		e.Since, e.RetryAt = timeOf(j.State.MassAt), timeOf(max(j.r.RetryAt, j.State.MassTryAt))
		e.tell(j.State.MassAt, "app: mass_at", "more grants died within 5 minutes than so many tenants would revoke; one a minute is tried, and all go on as soon as one is accepted")
	}
	j.tellJournal(e, nil)
	j.tellToken(e)
	e.unknown("whether the provider is wrong: ask it. After a day such deaths are believed")
	e.advise(j.appCommand("explain"), "ask the provider, with the request ids in the journal; ask no customer to connect again", "this says how many grants it is about")
}

// TL6xx: Redis.

func sayRestored(j *judge, e *Explanation) {
	line, _ := j.last(journal.Restore)
	e.Title, e.Since = "works: Redis had lost its newest state, which "+by(line.By)+" gave back at "+j.at(line.At), timeOf(line.At)
	e.tell(line.At, "journal", "%s", j.sentence(line))
	e.unknown("how Redis lost it: a failover, a restart from an old file, FLUSHALL; its own log says it. Lines of the journal before that may be lost")
	e.advise(j.command("inspect"), "look at the persistence of Redis and its replicas: what no worker remembers would be gone", "this shows the grant as it is")
}

func sayUnusable(j *judge, e *Explanation) {
	switch {
	case errors.Is(j.Damaged, grant.ErrNewer):
		e.Title = "CANNOT BE READ here: a later version of this program wrote its record"
		e.tell(j.Now, "record: v", "its version is later than this program knows: upgraded processes go on")
		e.advise(j.command("inspect"), "upgrade this process", "a program of the new version shows it with this")
		return
	case j.Damaged != nil:
		e.Title = "has a DAMAGED RECORD, upon which nobody acts"
		e.tell(j.Now, "record", "it cannot be true: %s", j.Damaged.Error())
	default:
		e.Title = "has a RECORD WITHOUT ITS PAIR: the key of the pair was deleted or evicted"
		j.tellPair(e)
		e.tell(j.Now, "secret", "Redis does not have the key")
	}
	e.unknown("whether a worker remembers the grant: one that does puts it right when it next reads")
	e.unknown("who wrote or deleted it: no script of this program does")
	e.advise(j.command("inspect"), "restore the key from a backup, or send the customer to your consent page: connecting begins anew", "set maxmemory-policy noeviction, and give other programs no right to these keys", "this shows what is stored")
}

func sayDoubted(j *judge, e *Explanation) {
	e.Title = "is WAITING: Redis is not believed yet, this server is younger than its data; until " + j.at(j.Process.Doubted)
	e.RetryAt = timeOf(j.Process.Doubted)
	e.tell(j.r.WrittenAt(), "record", "this state was written before the server that answers became the master: a newer one may be lost")
	e.tell(j.Process.Doubted, "process "+by(j.Process.Name), "until then workers that remember a newer state can give it back; the others were asked")
	j.tellToken(e)
	e.unknown("whether a newer state was lost in the failover; Config.Replicas keeps that from happening")
	e.advise(j.command("explain"), "nothing: it is over within two minutes; look again then")
}

func sayLostData(j *judge, e *Explanation) {
	e.Title, e.Since = "is UNKNOWN: Redis has lost the data of "+shown(j.App)+" at "+j.at(j.State.LostAt)+", and nobody can tell whether it was connected", timeOf(j.State.LostAt)
	e.tell(j.State.LostAt, "app: lost_at", "Redis came back without this app's data; workers gave back what they remembered")
	e.tell(j.Now, "record", "nobody remembered this tenant")
	e.unknown("whether this tenant was ever connected")
	e.advise(j.appCommand("accept-loss"), "restore the backup of Redis: what workers know better stays", "if there is none, accept the loss; ask no customer before that", "this says how, and changes nothing before it is confirmed")
}

// TL7xx: somebody else.

func sayRotatedElsewhere(j *judge, e *Explanation) {
	first, early := j.diedEarly(cmp.Or(j.r.ForeignGen, j.r.Generation))
	dead := j.r.State == grant.Reauthorize
	sure := j.r.Reason == policy.ReasonExternal
	switch {
	case dead && sure:
		e.Title, e.ForTenant = "MUST CONNECT AGAIN, and ANOTHER PROGRAM refreshes this grant: its tokens died before their time, "+generations(j.r.Foreign), reconnect
	case dead:
		e.Title, e.ForTenant = "MUST CONNECT AGAIN; perhaps ANOTHER PROGRAM refreshes this grant: this is the first sign", reconnect
	case sure:
		e.Title, e.Level, e.ForTenant = "works, but ANOTHER PROGRAM refreshes this grant: its tokens die before their time, "+generations(j.r.Foreign), Warning, well
	default:
		e.Title, e.Level, e.ForTenant = "works; perhaps ANOTHER PROGRAM refreshes this grant: this is the first sign", Info, well
	}
	e.Since = timeOf(cmp.Or(first.At, j.r.ErrorAt, j.r.IssuedAt))
	if early && first.Generation != j.r.Generation {
		e.tell(first.At, "journal", "%s", j.sentence(first))
	}
	if lines := j.lines(); len(lines) > 0 {
		j.tellJournal(e, nil)
	}
	if j.r.Foreign > 0 {
		e.tell(0, "record: foreign, foreign_gen", "%s the access token died early, or a refresh token was refused that only this fleet should have", generations(j.r.Foreign))
	}
	if !sure {
		e.unknown("whether it was the customer, who removed the app or had it reset: that looks the same, once")
	}
	if !j.r.Refused() {
		e.unknown("whether the provider says how long its tokens really live: tokens of which calls are rare die at any age, also if the lifetime is wrong")
	}
	e.unknown("which program it is: look at staging systems, scripts and older versions that have a copy of this grant's tokens")
	e.advise(j.command("journal"), "find the other program and give it a grant of its own", "then send the customer to your consent page, if the grant is dead", "this shows when its tokens died")
}
