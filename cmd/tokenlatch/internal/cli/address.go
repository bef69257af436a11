package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// RedisVariable is where the address of a Redis may stand together with its password:
// everybody on the machine can read a command line.
const RedisVariable = "TOKENLATCH_REDIS"

var errPasswordShown = errors.New("--redis: a password on the command line can be read by everybody on this machine (ps): " +
	"put the URL into the environment variable " + RedisVariable + ", or the password into a file that --redis-password-file names")

// RedisAddr is the Redis to use, from the flags or else the environment; empty is none.
// No error quotes an address: it may hold a password.
func RedisAddr(fs *pflag.FlagSet, addr, passwordFile string) (string, error) {
	from := "--redis"
	if !fs.Changed("redis") {
		addr, from = os.Getenv(RedisVariable), RedisVariable
	} else if showsPassword(addr) {
		return "", errPasswordShown
	}
	withFile := fs.Changed("redis-password-file")
	switch {
	case addr == "" && from == RedisVariable && withFile:
		return "", errors.New("--redis-password-file: goes with --redis or " + RedisVariable + ", which says where that Redis is")
	case addr == "" && from == RedisVariable:
		return "", nil
	}
	if err := checkAddr(from, addr, withFile); err != nil || !withFile {
		return addr, err
	}
	password, err := readPassword(passwordFile)
	if err != nil {
		return "", err
	}
	return withPassword(addr, password)
}

// showsPassword reports whether an address holds a password, or what may be meant as one.
func showsPassword(addr string) bool {
	u, err := url.Parse(splitHosts(addr).single())
	if err != nil || u.Scheme == "" || u.Opaque != "" {
		return strings.Contains(addr, "@")
	}
	_, password := u.User.Password()
	return password || u.Query().Has("password")
}

func checkAddr(from, addr string, withFile bool) error {
	if strings.Contains(addr, "://") {
		if _, _, err := takeCertFiles(addr); err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		user, password, err := parse(addr)
		switch {
		case err != nil:
			return errors.New(from + ": not a URL of the form redis://host:port[/db], redis-sentinel://host,host/?master=name or redis-cluster://host,host")
		case user != "" && password == "" && !withFile:
			return errors.New(from + ": names a user and no password: put that into a file that --redis-password-file names, or both into " + RedisVariable)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	if err != nil || host == "" || strings.Contains(host, "@") || n < 1 || n > 65535 {
		return errors.New(from + ": not an address of the form host:port, e.g. 127.0.0.1:6379, nor a redis:// URL")
	}
	return nil
}

// readPassword reads a file of one line.
func readPassword(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("--redis-password-file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return "", fmt.Errorf("--redis-password-file: %w", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n") || len(text) == 4<<10 {
		return "", errors.New("--redis-password-file: the file must hold the password alone, on one line")
	}
	return password, nil
}

func withPassword(addr, password string) (string, error) {
	if !strings.Contains(addr, "://") {
		addr = "redis://" + addr
	}
	hosts := splitHosts(addr)
	u, err := url.Parse(hosts.single())
	if err != nil { // checkAddr has parsed it
		return "", errors.New("the address of Redis does not parse")
	}
	if _, has := u.User.Password(); has {
		return "", errors.New("--redis-password-file: " + RedisVariable + " holds a password already")
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return splitHosts(u.String()).with(hosts.more), nil
}
