package explain

import (
	_ "embed"
	"strings"
)

// kind is what all explanations of one code have in common.
type kind struct{ code, level, who, forTenant string }

// What customers may read.
const (
	well     = "The connection to your account works. There is nothing to do."
	renewing = "The connection to your account is being renewed. This takes care of itself; there is nothing to do."
	// interrupted takes the place of renewing where there is no token meanwhile.
	interrupted = "We cannot reach your account at the moment. We are restoring the connection; there is nothing for you to do now."
	reconnect   = "The connection to your account has ended. Please connect your account again."
	ourFault    = "The connection to your account was interrupted, which was not your fault. Please connect your account again."
	unused      = "The connection to your account was not used for too long and has ended. Please connect your account again."
	overdue     = "The connection to your account has reached the end for which it was agreed. Please connect your account again."
	ended       = "Your account is not connected any more. Connect it again if you want to go on."
	never       = "Your account is not connected yet. Please connect it to begin."
	endsSoon    = "The connection to your account ends soon. Please connect your account again before that."
	ours        = "We have a problem with the connection to your account and are working on it. There is nothing for you to do."
	theirs      = "The service at which your account is does not answer us as it should at the moment. We go on trying; there is nothing for you to do."
	notAllowed  = "We may do less in your account than before. Please connect your account again and allow everything that is asked for."
)

// kinds are all codes. None is ever used for something else, nor taken out.
var kinds = []kind{
	{"TL101", OK, Nobody, well},
	{"TL102", OK, Nobody, well},
	{"TL103", OK, Nobody, renewing},
	{"TL104", OK, Nobody, well},
	{"TL105", OK, Nobody, well},
	{"TL201", Warning, Nobody, renewing},
	{"TL202", Warning, Nobody, renewing},
	{"TL203", Warning, Nobody, renewing},
	{"TL204", Warning, Nobody, renewing},
	{"TL205", Warning, Nobody, theirs},
	{"TL206", Info, Nobody, renewing},
	{"TL207", Info, Nobody, renewing},
	{"TL301", Error, Tenant, reconnect},
	{"TL302", Error, Tenant, ourFault},
	{"TL303", Error, Tenant, unused},
	{"TL304", Error, Tenant, overdue},
	{"TL305", Info, Tenant, ended},
	{"TL306", Info, Tenant, never},
	{"TL307", Warning, Tenant, endsSoon},
	{"TL401", Error, Operator, ours},
	{"TL402", Error, Operator, ours},
	{"TL403", Error, Operator, ours},
	{"TL404", Warning, Operator, notAllowed},
	{"TL405", Error, Operator, ours},
	{"TL406", Error, Operator, ours},
	{"TL407", Warning, Operator, well},
	{"TL501", Error, Provider, theirs},
	{"TL502", Error, Provider, theirs},
	{"TL503", Warning, Provider, theirs},
	{"TL504", Error, Provider, theirs},
	{"TL601", Info, Nobody, well},
	{"TL602", Error, Operator, ours},
	{"TL605", Warning, Nobody, renewing},
	{"TL606", Error, Operator, ours},
	{"TL701", Error, OtherProgram, ours},
}

// Codes are all codes, in order.
func Codes() []string {
	codes := make([]string, len(kinds))
	for i, k := range kinds {
		codes[i] = k.code
	}
	return codes
}

func kindOf(code string) kind {
	for _, k := range kinds {
		if k.code == code {
			return k
		}
	}
	return kind{}
}

// pages is docs/codes.md.
//
//go:embed codes.md
var pages string

// Page returns the section of docs/codes.md about a code, as Markdown: what it means, how that is known,
// what to do, and what it is not. ok is false for what is no code.
func Page(code string) (text string, ok bool) {
	code = strings.ToUpper(strings.TrimSpace(code))
	if kindOf(code).code == "" {
		return "", false
	}
	_, text, ok = strings.Cut(pages, "\n## "+code+" ")
	text, _, _ = strings.Cut(text, "\n## ")
	return "## " + code + " " + strings.TrimSpace(text) + "\n", ok
}
