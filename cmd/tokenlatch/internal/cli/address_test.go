package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/pflag"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

func passwordFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// addressOf parses the flags as a command does.
func addressOf(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var addr, passwordFile string
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.StringVar(&addr, "redis", "", "")
	fs.StringVar(&passwordFile, "redis-password-file", "", "")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return cli.RedisAddr(fs, addr, passwordFile)
}

func TestRedisIsFoundInFlagsAndEnvironment(t *testing.T) {
	const file = "--redis-password-file"
	odd := "hun/ter@2:%\"é "
	for _, tt := range []struct {
		name, variable, password string
		args                     []string
		want                     string
	}{
		{name: "nothing", want: ""},
		{name: "flag", args: []string{"--redis", "h:1"}, want: "h:1"},
		{name: "environment", variable: "redis://u:hunter2@h:1/2", want: "redis://u:hunter2@h:1/2"},
		{name: "the flag wins", variable: "redis://u:hunter2@h:1", args: []string{"--redis", "g:1"}, want: "g:1"},
		{name: "flag and file", password: "hunter2\n", args: []string{"--redis", "h:1"}, want: "redis://:hunter2@h:1"},
		{name: "flag with a user, and file", password: "hunter2\r\n", args: []string{"--redis", "rediss://u@h:1/3?db=4"}, want: "rediss://u:hunter2@h:1/3?db=4"},
		{name: "environment and file", variable: "h:1", password: "hunter2", want: "redis://:hunter2@h:1"},
		{name: "an IPv6 address and file", password: "hunter2", args: []string{"--redis", "[::1]:1"}, want: "redis://:hunter2@[::1]:1"},
		{name: "an odd password", password: odd, args: []string{"--redis", "h:1"}, want: "redis://:hun%2Fter%402%3A%25%22%C3%A9%20@h:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(cli.RedisVariable, tt.variable)
			if tt.password != "" {
				tt.args = append(tt.args, file, passwordFile(t, tt.password))
			}
			got, err := addressOf(t, tt.args...)
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
			password := strings.TrimRight(tt.password, "\r\n")
			if password == "" {
				return
			}
			if opt, err := redis.ParseURL(got); err != nil || opt.Password != password {
				t.Errorf("Redis would be told another password: %v", err)
			}
		})
	}
}

func TestABadRedisAddressIsAnsweredWithoutItsPassword(t *testing.T) {
	const file = "--redis-password-file"
	for _, tt := range []struct {
		variable string
		args     []string
		want     string
	}{
		{"redis://u:hunter2@[", nil, cli.RedisVariable + ": not a URL"},
		{"u:hunter2@h:1", nil, cli.RedisVariable + ": not an address"},
		{"hunter2@h:1", nil, cli.RedisVariable + ": not an address"},
		{"redis://hunter2@h:1", nil, cli.RedisVariable + ": names a user and no password"},
		{"redis://u:hunter2@h:1", []string{file, passwordFile(t, "hunter2")}, "holds a password already"},
		{"", []string{file, passwordFile(t, "hunter2")}, "goes with --redis"},
		{"h:1", []string{file, passwordFile(t, "\n")}, "on one line"},
		{"h:1", []string{file, passwordFile(t, "hunter2\nmore\n")}, "on one line"},
		{"h:1", []string{file, passwordFile(t, strings.Repeat("hunter2", 1000))}, "on one line"},
		{"h:1", []string{file, "/no/such/file"}, "no such file"},
		{"h:1", []string{file, t.TempDir()}, "is a directory"},
	} {
		t.Setenv(cli.RedisVariable, tt.variable)
		_, err := addressOf(t, tt.args...)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: %v, want %q", tt.args, err, tt.want)
		}
	}
}
