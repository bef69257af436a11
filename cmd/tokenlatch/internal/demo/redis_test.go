package demo

import (
	"strings"
	"testing"
)

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
