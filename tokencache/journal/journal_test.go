package journal

import (
	"testing"
	"time"
)

func TestLinesOfAllVersionsAreRead(t *testing.T) {
	for name, c := range map[string]struct {
		id     string
		fields map[string]any
		want   Entry
	}{
		"a claim": {
			"1795595714774-0",
			map[string]any{"kind": "claim", "gen": "1", "epoch": "1795595714771", "by": "web-2/4711", "why": "due", "id": "", "answer": "", "ms": "", "req": ""},
			Entry{ID: "1795595714774-0", At: 1795595714774, Kind: Claim, Generation: 1, Epoch: 1795595714771, By: "web-2/4711", Why: Due},
		},
		"a failure": {
			"7-1",
			map[string]any{"kind": "fail", "gen": "3", "epoch": "5", "by": "w", "why": "suspect", "id": "ID", "answer": "refused/odd/400", "ms": "412", "req": "7d1f"},
			Entry{ID: "7-1", At: 7, Kind: Fail, Generation: 3, Epoch: 5, By: "w", Why: "suspect", Answer: "refused/odd/400", Took: 412 * time.Millisecond, RequestID: "7d1f", Change: "ID"},
		},
		"a failure as it was written before": {
			"7-0", map[string]any{"kind": "fail", "gen": "3", "epoch": "5", "by": "w", "why": "refused/odd/400", "id": "ID"},
			Entry{ID: "7-0", At: 7, Kind: Fail, Generation: 3, Epoch: 5, By: "w", Answer: "refused/odd/400", Change: "ID"},
		},
		"a death as it was written before": {
			"7-0", map[string]any{"kind": "reauthorize", "gen": "3", "epoch": "5", "by": "w", "why": "lost_response", "id": "ID"},
			Entry{ID: "7-0", At: 7, Kind: Reauthorize, Generation: 3, Epoch: 5, By: "w", Why: "lost_response", Change: "ID"},
		},
		"a refusal by an API": {
			"7-0", map[string]any{"kind": "reject", "gen": "3", "epoch": "5", "by": "w", "why": "an API refused the access token", "id": ""},
			Entry{ID: "7-0", At: 7, Kind: Reject, Generation: 3, Epoch: 5, By: "w", Why: "an API refused the access token"},
		},
		"damage": {
			"x", map[string]any{"kind": 7, "gen": "-3", "epoch": "9e9", "ms": "99999999999999999999"},
			Entry{ID: "x", Took: longest * time.Millisecond},
		},
		"nothing": {"", nil, Entry{}},
	} {
		if got := Parse(c.id, c.fields); got != c.want {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, c.want)
		}
	}
}

func TestTheHolderIsInFrontOfTheLeasesValue(t *testing.T) {
	for value, want := range map[string]string{
		"web-2/4711/3FYN3PBMXZWVGJWDQ5FEACBFQ5": "web-2/4711", "": "", "alone": "alone", "w1/3FYN": "w1",
	} {
		if got := (Trace{Lease: value}).Holder(); got != want {
			t.Errorf("%q is held by %q, want %q", value, got, want)
		}
	}
}

func TestHowLongIsWrittenInMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "", -1: "", time.Microsecond: "1", 412 * time.Millisecond: "412", time.Minute: "60000"} {
		if got := (Note{Took: d}).Millis(); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
