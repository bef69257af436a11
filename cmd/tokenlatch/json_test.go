package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

// fits checks a JSON value against docs/json/<name>.schema.json.
func fits(v any, name string) error {
	path, err := filepath.Abs(filepath.Join("..", "..", "docs", "json", name+".schema.json"))
	if err != nil {
		return err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schema, err := c.Compile(path)
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

// parsed is one JSON text that fits a schema.
func parsed(t *testing.T, text, schema string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if err := fits(v, schema); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	return v
}

// jsonOf is which schema the output of each command with --json has, and which an object of --jsonl.
var jsonOf = map[string]struct {
	args        []string
	list, lines string
}{
	"ls":          {nil, "ls", "grant"},
	"apps":        {nil, "apps", "app"},
	"inspect":     {[]string{"zoom", "dead"}, "inspect", "inspect"},
	"explain":     {[]string{"zoom", "dead"}, "explain", "explain"},
	"journal":     {[]string{"zoom", "dead"}, "journal", "journal-entry"},
	"accept-loss": {[]string{"zoom", "--confirm", "zoom"}, "accept-loss", "accept-loss"},
	"doctor":      {nil, "doctor", "doctor-check"},
	"version":     {nil, "version", "version"},
	"wait":        {[]string{"zoom", "fine", "--for", "active", "--timeout", "50ms"}, "wait", "wait"},
	"token":       {[]string{"zoom", "acme"}, "token", "token"},
	"refresh":     {[]string{"zoom", "acme"}, "grant", "grant"},
	"connect":     {[]string{"zoom", "acme", "--confirm", "acme"}, "grant", "grant"},
	"export":      {[]string{"--sealed"}, "exports", "export"},
	"import":      {[]string{"-", "--app", "zoom"}, "import", "import-line"},
	"disconnect":  {[]string{"zoom", "other", "--confirm", "other"}, "grant", "grant"},
}

// needsApp are the commands that need an app's configuration, and a Redis whose pairs its keyset opens.
var needsApp = map[string]bool{"token": true, "refresh": true, "connect": true, "disconnect": true, "export": true, "import": true}

// silentOnJSON are the commands that print no JSON of ours: demo has a report of its own, fake and exporter serve,
// completion prints a script, help prints help; keys is a group of commands, which testdata/script/keys.txtar looks at.
var silentOnJSON = map[string]bool{"demo": true, "fake": true, "exporter": true, "completion": true, "help": true, "keys": true}

// endless are the commands that go on until they are interrupted: --json makes no sense there. Each has a test of
// its own for what --jsonl prints.
var endless = map[string]bool{"watch": true}

func TestAnEndlessCommandTakesNoJSONArray(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	for name := range endless {
		code, stdout, _ := told(t, server, name, "--json")
		parsed(t, stdout, "error")
		if code != cli.ExitUsage || !strings.Contains(stdout, "give --jsonl") {
			t.Errorf("%s: code %d, %s", name, code, stdout)
		}
		code, stdout, stderr := told(t, nil, name, "--jsonl", "--redis", "127.0.0.1:1")
		parsed(t, stdout, "error")
		if code != cli.ExitFailed || !strings.Contains(stderr, "hint: redis-cli -h 127.0.0.1 -p 1 ping") {
			t.Errorf("%s: code %d, %s", name, code, stderr)
		}
	}
}

func TestEachCommandsJSONFitsItsSchema(t *testing.T) {
	full, empty := redistest.Own(t), redistest.Own(t)
	tell(t, full.Client(t))
	own := configured(t)
	for _, cmd := range newRoot(nil, nil).Commands() {
		if cmd.Hidden || cmd.IsAdditionalHelpTopicCommand() || silentOnJSON[cmd.Name()] || endless[cmd.Name()] {
			continue
		}
		of, known := jsonOf[cmd.Name()]
		if !known {
			t.Errorf("nobody has said what JSON %s prints", cmd.Name())
			continue
		}
		args := append([]string{cmd.Name()}, of.args...)
		server := func(s *redistest.Server) *redistest.Server {
			switch {
			case cmd.Name() == "version":
				return nil
			case needsApp[cmd.Name()] && s == full:
				return own
			}
			return s
		}
		run := told
		if cmd.Name() == "token" {
			run = shown // it is there to show one
		}
		if code, stdout, stderr := run(t, server(full), append(args, "--json")...); code != cli.ExitOK || stderr != "" {
			t.Errorf("%v: code %d: %s", args, code, stderr)
		} else {
			parsed(t, stdout, of.list)
		}
		_, stdout, _ := run(t, server(full), append(args, "--jsonl")...)
		for line := range strings.Lines(stdout) {
			parsed(t, line, of.lines)
		}
		switch code, stdout, _ := told(t, server(empty), append(args, "--json")...); {
		case code == cli.ExitOK:
			parsed(t, stdout, of.list)
		default:
			parsed(t, stdout, "error")
		}
		_, stdout, stderr := told(t, nil, append(args, "--json", "--bogus")...)
		says := parsed(t, stdout, "error")
		if !strings.Contains(stderr, fmt.Sprint(says.(map[string]any)["error"].(map[string]any)["message"])) {
			t.Errorf("%v: stdout says %v, stderr %q", args, says, stderr)
		}
	}
}

func TestAnUnreachableRedisIsOneJSONObject(t *testing.T) {
	configured(t)
	for name, of := range jsonOf {
		for _, how := range []string{"--json", "--jsonl"} {
			if name == "version" {
				continue
			}
			code, stdout, stderr := told(t, nil, append(append([]string{name}, of.args...), how, "--redis", "127.0.0.1:1")...)
			parsed(t, stdout, "error")
			if code != cli.ExitFailed || !strings.Contains(stderr, "hint: redis-cli -h 127.0.0.1 -p 1 ping") {
				t.Errorf("%s %s: code %d, %s", name, how, code, stderr)
			}
		}
	}
}

func TestAnEmptyListIsAnEmptyArray(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	for _, name := range []string{"ls", "apps"} {
		if code, stdout, stderr := told(t, server, name, "--json"); code != cli.ExitOK || strings.TrimSpace(stdout) != "[]" || stderr != "" {
			t.Errorf("%s: code %d, %q, %q", name, code, stdout, stderr)
		}
		if code, stdout, stderr := told(t, server, name); code != cli.ExitOK || stdout != "" || !strings.Contains(stderr, "prefix tl") {
			t.Errorf("%s: code %d, %q, %q", name, code, stdout, stderr)
		}
	}
}
