package main

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// Each file of testdata/script is what people type, on a Redis of its own that has a grant of each kind.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			server := redistest.Own(t)
			env.Setenv(cli.RedisVariable, "redis://"+server.Addr())
			env.Setenv("REDIS_ADDR", server.Addr())
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Values["server"], env.Values["world"] = server, &world{} // app fills it in
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"tell":       func(ts *testscript.TestScript, _ bool, _ []string) { tell(t, serverOf(ts).Client(t)) },
			"lose":       func(ts *testscript.TestScript, _ bool, _ []string) { loseData(t, serverOf(ts).Client(t)) },
			"json":       parsesAs,
			"tokens":     showsNoToken,
			"app":        func(ts *testscript.TestScript, _ bool, args []string) { prepareApp(t, ts, args) },
			"grants":     func(ts *testscript.TestScript, _ bool, args []string) { connectAll(ts, args) },
			"fails":      func(ts *testscript.TestScript, _ bool, args []string) { failNext(ts, args) },
			"respend":    func(ts *testscript.TestScript, _ bool, args []string) { respend(ts, args[0], args[1]) },
			"revoke":     func(ts *testscript.TestScript, _ bool, args []string) { worldOf(ts).provider.Revoke(args[0]) },
			"answer":     func(ts *testscript.TestScript, _ bool, args []string) { writeAnswer(ts, args) },
			"until-over": func(ts *testscript.TestScript, _ bool, args []string) { untilOver(ts, args[0]) },
			"other":      func(ts *testscript.TestScript, _ bool, _ []string) { ts.Setenv("OTHER", redistest.Own(t).Addr()) },
			"lines":      func(ts *testscript.TestScript, _ bool, args []string) { countLines(ts, args) },
			"claims":     func(ts *testscript.TestScript, _ bool, args []string) { claimSilently(ts, args) },
		},
	})
}

func serverOf(ts *testscript.TestScript) *redistest.Server {
	return ts.Value("server").(*redistest.Server)
}

// parsesAs is the script command "json FILE SCHEMA": the file is one JSON text, and fits the schema. With
// "lines" before them each line is.
func parsesAs(ts *testscript.TestScript, _ bool, args []string) {
	lines := args[0] == "lines"
	if lines {
		args = args[1:]
	}
	text := ts.ReadFile(args[0])
	texts := []string{text}
	if lines {
		texts = strings.Split(strings.TrimSpace(text), "\n")
	}
	for _, text := range texts {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			ts.Fatalf("%v in\n%s", err, text)
		}
		if err := fits(v, args[1]); err != nil {
			ts.Fatalf("%v", err)
		}
	}
}

// showsNoToken is the script command "tokens FILE…": none of them has one.
func showsNoToken(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		if text := ts.ReadFile(name); strings.Contains(text, canary) || strings.Contains(text, "\x1b") {
			ts.Fatalf("%s shows a token, or colour:\n%s", name, text)
		}
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"tokenlatch": main})
}

// countLines is the script command "lines FILE N": the file has so many lines.
func countLines(ts *testscript.TestScript, args []string) {
	if n := strings.Count(ts.ReadFile(args[0]), "\n"); strconv.Itoa(n) != args[1] {
		ts.Fatalf("%s has %d lines, not %s:\n%s", args[0], n, args[1], ts.ReadFile(args[0]))
	}
}
