package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tokenlatch/tokenlatch/refresh/explain"
)

// The person on call has the command, an address and a tenant's name.

// built is the command; the directory is removed by TestMain.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func commandPath(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "tokenlatch"); built.err != nil {
			return
		}
		// As this test is built, so that all that it imports has been compiled already.
		out, err := exec.Command("go", append(append([]string{"build"}, builtWith...), "-o", built.dir, "../cmd/tokenlatch")...).CombinedOutput()
		if built.err = err; err != nil {
			built.dir += string(out)
		}
	})
	if built.err != nil {
		t.Fatalf("build the command: %v\n%s", built.err, built.dir)
	}
	return filepath.Join(built.dir, "tokenlatch")
}

func removeCommand() {
	if built.err == nil && built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
}

// typed runs the command on the fleet's Redis, and returns what it printed and its exit code.
func (f *fleet) typed(args ...string) (stdout, stderr string, code int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, commandPath(f.t), append(args, "--redis", f.redis.Addr(), "--prefix", f.setup.Prefix)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		f.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// why is what `tokenlatch explain` says of a tenant.
func (f *fleet) why(tenant string) explain.Explanation {
	f.t.Helper()
	stdout, stderr, code := f.typed("explain", app, tenant, "--json")
	var e explain.Explanation
	if err := json.Unmarshal([]byte(stdout), &e); err != nil || code != 0 {
		f.t.Fatalf("explain: %v, exit code %d: %s%s", err, code, stdout, stderr)
	}
	return e
}

// explained asserts that the command gives one of the codes ("TL101|TL105"), says who acts, and begins the story with
// the first cause; and that what it says for the tenant names nothing of the inside.
func (f *fleet) explained(tenant, codes, who, first string) explain.Explanation {
	f.t.Helper()
	e := f.why(tenant)
	begins := ""
	if len(e.Story) > 0 {
		begins = e.Story[0].Text
	}
	last := explain.Action{}
	if n := len(e.Do); n > 0 {
		last = e.Do[n-1]
	}
	if !slices.Contains(strings.Split(codes, "|"), e.Code) || e.Who != who || !strings.Contains(begins, first) || last.Command == "" {
		text, _ := json.MarshalIndent(e, "", "  ")
		f.t.Errorf("want %s, who acts: %s, and a story that begins with %q; it is\n%s", codes, who, first, text)
	}
	if inside.MatchString(e.ForTenant) || strings.Contains(e.ForTenant, tenant) || strings.Contains(e.ForTenant, f.setup.Prefix) {
		f.t.Errorf("for the tenant: %q", e.ForTenant)
	}
	return e
}

// inside are words that mean nothing to a customer.
var inside = regexp.MustCompile(`(?i)redis|worker-|\blease|claim|generation|token|journal|http|TL\d|_|\b` + app + `\b|\d`)
