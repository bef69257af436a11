package main

import (
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

func TestRealRedisIsLeftAsItWas(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	rdb := server.Client(t)
	ctx := t.Context()
	if err := rdb.Set(ctx, "tldemo", "somebody else's", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"--naive=false", "--naive"} {
		r := reported(t, exitOK, "--redis", server.Addr(), "--duration", "2s", "--workers", "2", "--tenants", "2", "--kill=false", mode)
		if r.Exchanges == 0 {
			t.Errorf("%s: nothing happened: %+v", mode, r)
		}
		keys, err := rdb.Keys(ctx, "*").Result()
		if err != nil || len(keys) != 1 || keys[0] != "tldemo" {
			t.Errorf("%s: left behind: %v %v", mode, keys, err)
		}
	}
}

func TestRedisThatIsTooOldIsNamed(t *testing.T) {
	info := "# Server\r\nredis_version:6.2.14\r\nredis_mode:standalone\r\n"
	err := checkVersion("127.0.0.1:6379", infoField(info, "redis_version"))
	if err == nil || !strings.Contains(err.Error(), "6.2.14") || !strings.Contains(err.Error(), "7.0 or newer") || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("got %v", err)
	}
	for _, version := range []string{"7.0.0", "7.2.4", "8.2.1", "10.0.0"} {
		if err := checkVersion("127.0.0.1:6379", version); err != nil {
			t.Errorf("%s: %v", version, err)
		}
	}
}

func TestUnreachableRedisIsAnsweredWithAHint(t *testing.T) {
	var stdout, stderr strings.Builder
	code := run([]string{"demo", "--redis", "127.0.0.1:1"}, &stdout, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "127.0.0.1:1") || !strings.Contains(stderr.String(), "hint:") {
		t.Errorf("code %d: %s", code, &stderr)
	}
}
