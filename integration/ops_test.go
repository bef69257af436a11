package integration

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const ops = "../docs/ops/"

func reads(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var metricName = regexp.MustCompile(`\btokenlatch_[a-z_]+\b`)

// named are the metrics that a text names; of a histogram also by its parts.
func named(text string) map[string]bool {
	all := map[string]bool{}
	for _, name := range metricName.FindAllString(text, -1) {
		name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		all[name] = true
	}
	return all
}

// made are the metrics that the code makes.
func made(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, dir := range []string{"../refresh/metrics", "../cmd/tokenlatch/internal/fleet"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, quoted := range regexp.MustCompile(`"tokenlatch_[a-z_]+"`).FindAllString(reads(t, file), -1) {
				all[strings.Trim(quoted, `"`)] = true
			}
		}
	}
	if len(all) < 20 {
		t.Fatalf("%d metrics: nothing is proven", len(all))
	}
	return all
}

func TestTheDocsOfOpsNameTheMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	code := made(t)
	for file, whole := range map[string]bool{"grafana.json": true, "alerts.yaml": false, "alerts_test.yaml": false, "runbook.md": false, "../operations.md": true} {
		text := named(reads(t, ops+file))
		for name := range text {
			if !code[name] {
				t.Errorf("%s names %s, which there is not", file, name)
			}
		}
		for name := range code {
			if whole && !text[name] {
				t.Errorf("%s does not name %s", file, name)
			}
		}
	}
}

func TestEachAlertHasATestAndItsPlaceInTheRunbook(t *testing.T) {
	t.Parallel()
	find := func(file, pattern string) []string {
		all := map[string]bool{}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(reads(t, ops+file), -1) {
			all[m[1]] = true
		}
		return slices.Sorted(maps.Keys(all))
	}
	alerts := find("alerts.yaml", `alert: (\w+)`)
	if len(alerts) < 11 {
		t.Fatalf("%d alerts: nothing is proven", len(alerts))
	}
	if tested := find("alerts_test.yaml", `alertname: (\w+)`); !slices.Equal(alerts, tested) {
		t.Errorf("tests of %v, of the alerts %v", tested, alerts)
	}
	if told := find("runbook.md", `(?m)^## (\w+)$`); !slices.Equal(alerts, told) {
		t.Errorf("the runbook has %v, of the alerts %v", told, alerts)
	}
	var anchors []string
	for _, a := range alerts {
		anchors = append(anchors, strings.ToLower(a))
	}
	if linked := find("alerts.yaml", `runbook: docs/ops/runbook\.md#(\w+)`); !slices.Equal(linked, anchors) {
		t.Errorf("links to %v, want %v", linked, anchors)
	}
}

// Each place in the runbook leads on: to a command, and where there is a code, to one that exists.
func TestEachPlaceInTheRunbookLeadsToACommand(t *testing.T) {
	t.Parallel()
	codes := reads(t, "../docs/codes.md")
	sections := strings.Split(reads(t, ops+"runbook.md"), "\n## ")[1:]
	for _, section := range sections {
		title, _, _ := strings.Cut(section, "\n")
		if !strings.Contains(section, "`tokenlatch explain APP") {
			t.Errorf("%s names no `tokenlatch explain`", title)
		}
		for _, code := range regexp.MustCompile(`TL\d{3}`).FindAllString(section, -1) {
			if !strings.Contains(codes, "## "+code+" ") {
				t.Errorf("%s: %s has no page", title, code)
			}
		}
	}
}

func TestTheDashboardIsOne(t *testing.T) {
	t.Parallel()
	var board struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(reads(t, ops+"grafana.json")), &board); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d (%s): no query, or an id twice", p.ID, p.Title)
		}
		ids[p.ID] = true
	}
	if len(ids) < 20 {
		t.Errorf("%d panels: nothing is proven", len(ids))
	}
}
