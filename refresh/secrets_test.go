package refresh_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

func TestNothingPrintsATokenOrTheClientSecret(t *testing.T) {
	t.Parallel()
	f := newFleet(t, refreshtest.Config{TokenPrefix: "canary-", ClientSecret: "canary-secret"})
	var cfg refresh.Config
	w := f.worker(func(c *refresh.Config) { cfg = *c })
	f.connect(w, "acme", true)
	f.token(w, "acme")
	f.server.Script(refuse("odd_code", 400))
	failed := w.Refresh(f.ctx(), "acme")
	if failed == nil {
		t.Fatal("the scripted refusal did not arrive")
	}
	status, err := w.Status(f.ctx(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		"Coordinator": w.Coordinator, "Config": cfg, "Status": status, "Cache": w.cache,
		"Snapshot": w.cache.Grant(key("acme")).Recall(), "*Snapshot": *w.cache.Grant(key("acme")).Recall(), "provider": cfg.Provider,
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "canary") {
				t.Errorf("%s prints a secret with %s: %s", name, verb, text)
			}
		}
		if text, err := json.Marshal(v); err == nil && strings.Contains(string(text), "canary") {
			t.Errorf("%s holds a secret in JSON: %s", name, text)
		}
	}
	for _, secret := range append(f.server.Issued(), "canary-secret") {
		if strings.Contains(fmt.Sprintf("%+v %#v", failed, failed), secret) {
			t.Errorf("an error prints a secret: %+v", failed)
		}
	}
}
