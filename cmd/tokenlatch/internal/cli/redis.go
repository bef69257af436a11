package cli

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// hosts is a URL whose authority may name several hosts, as those of Sentinels and Clusters do.
type hosts struct {
	head  string // scheme, user and password
	first string
	more  []string
	tail  string // path and query
}

func splitHosts(addr string) hosts {
	scheme, rest, ok := strings.Cut(addr, "://")
	if !ok {
		return hosts{first: addr}
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	at := strings.LastIndex(authority, "@") + 1
	names := strings.Split(authority[at:], ",")
	return hosts{scheme + "://" + authority[:at], names[0], names[1:], tail}
}

// single is the URL with the first host alone.
func (h hosts) single() string { return h.with(nil) }

// with is the URL with more hosts after the first.
func (h hosts) with(more []string) string {
	return h.head + strings.Join(append([]string{h.first}, more...), ",") + h.tail
}

var errHosts = errors.New("several hosts: name them as in redis-sentinel://host,host/?master=name or redis-cluster://host,host")

// parse reads a URL, and returns the user and the password in it. No error is fit to be shown.
func parse(addr string) (user, password string, err error) {
	if addr, _, err = takeCertFiles(addr); err != nil {
		return "", "", err
	}
	switch kind := several(addr); kind {
	case "sentinel":
		o, err := sentinels(addr)
		if err != nil {
			return "", "", err
		}
		return o.Username, o.Password, nil
	case "cluster":
		o, err := redis.ParseClusterURL(rewrite(addr, "6379"))
		if err != nil {
			return "", "", err
		}
		return o.Username, o.Password, nil
	}
	if len(splitHosts(addr).more) > 0 {
		return "", "", errHosts
	}
	o, err := redis.ParseURL(addr)
	if err != nil {
		return "", "", err
	}
	return o.Username, o.Password, nil
}

// several is "sentinel" or "cluster" for such an address; "" for one of one server.
func several(addr string) string {
	scheme, _, _ := strings.Cut(addr, "://")
	_, kind, _ := strings.Cut(scheme, "-")
	if kind == "sentinel" || kind == "cluster" {
		return kind
	}
	return ""
}

// OneServer reports whether an address is one of a single server.
func OneServer(addr string) bool { return several(addr) == "" }

// rewrite spells an address of several hosts as go-redis does: the first host, and the others in the query.
func rewrite(addr, port string) string {
	h := splitHosts(addr)
	scheme, head, _ := strings.Cut(h.head, "://")
	scheme, _, _ = strings.Cut(scheme, "-")
	path, query, _ := strings.Cut(h.tail, "?")
	for _, host := range h.more {
		query += "&addr=" + url.QueryEscape(withPort(host, port))
	}
	return scheme + "://" + head + withPort(h.first, port) + path + "?" + strings.TrimPrefix(query, "&")
}

func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// sentinels reads redis-sentinel://user:password@host,host/db?master=name. User and password are those of
// the servers that the Sentinels watch.
func sentinels(addr string) (*redis.FailoverOptions, error) {
	h := splitHosts(addr)
	path, query, _ := strings.Cut(h.tail, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	master := values.Get("master")
	if master == "" {
		return nil, errors.New("no ?master=name")
	}
	values.Del("master")
	values.Set("master_name", master)
	h.tail = path + "?" + values.Encode()
	o, err := redis.ParseFailoverURL(rewrite(h.with(h.more), "26379"))
	if err != nil {
		return nil, err
	}
	o.Username, o.Password, o.SentinelUsername, o.SentinelPassword = o.SentinelUsername, o.SentinelPassword, "", ""
	return o, nil
}

// silent keeps go-redis' own lines out of what the command says.
type silent struct{}

// Printf implements the logger of go-redis.
func (silent) Printf(context.Context, string, ...any) {}

// poolSize is how many connections a command may want at once.
const poolSize = 8

// Open returns a client for an address that RedisAddr has accepted. It does not connect yet. timeout bounds
// one request.
func Open(addr string, timeout time.Duration) (redis.UniversalClient, error) {
	redis.SetLogger(silent{})
	addr, files, err := takeCertFiles(addr)
	if err != nil {
		return nil, err
	}
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch several(addr) {
	case "sentinel":
		o, err := sentinels(addr)
		if err != nil {
			return nil, errors.New("the address of the Sentinels does not parse")
		}
		if o.TLSConfig, err = files.config(o.TLSConfig); err != nil {
			return nil, err
		}
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.MaxRetries, o.ContextTimeoutEnabled, o.PoolSize = timeout, timeout, timeout, 1, true, poolSize
		return redis.NewFailoverClient(o), nil
	case "cluster":
		o, err := redis.ParseClusterURL(rewrite(addr, "6379"))
		if err != nil {
			return nil, errors.New("the address of the Cluster does not parse")
		}
		if o.TLSConfig, err = files.config(o.TLSConfig); err != nil {
			return nil, err
		}
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.ContextTimeoutEnabled, o.PoolSize = timeout, timeout, timeout, true, poolSize
		o.MaintNotificationsConfig = quiet
		return redis.NewClusterClient(o), nil
	}
	o := &redis.Options{Addr: addr}
	if strings.Contains(addr, "://") {
		if o, err = redis.ParseURL(addr); err != nil {
			return nil, errors.New("the address of Redis does not parse")
		}
	}
	if o.TLSConfig, err = files.config(o.TLSConfig); err != nil {
		return nil, err
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.MaxRetries, o.ContextTimeoutEnabled, o.PoolSize = timeout, timeout, timeout, 1, true, poolSize
	o.MaintNotificationsConfig, o.DialerRetries = quiet, 1
	return redis.NewClient(o), nil
}

// Place is an address without user and password, for people.
func Place(addr string) string {
	h := splitHosts(addr)
	if h.head == "" {
		return addr
	}
	scheme, _, _ := strings.Cut(h.head, "://")
	h.head = scheme + "://"
	h.tail, _, _ = strings.Cut(h.tail, "?")
	return h.with(h.more)
}

// CommandLine returns how redis-cli is called for an address, without its password.
func CommandLine(addr string) []string {
	h := splitHosts(addr)
	line := []string{"redis-cli"}
	scheme, _, _ := strings.Cut(h.head, "://")
	path, _, _ := strings.Cut(strings.TrimPrefix(h.tail, "/"), "?")
	switch several(addr) {
	case "sentinel":
		return append(line, "-h", "MASTER") // the Sentinels know which that is
	case "cluster":
		line, path = append(line, "-c"), ""
	}
	if scheme == "unix" {
		return append(line, "-s", "/"+path)
	}
	if addr == "" {
		return line
	}
	host, port, _ := net.SplitHostPort(withPort(h.first, "6379"))
	line = append(line, "-h", host, "-p", port)
	if strings.HasPrefix(scheme, "rediss") {
		_, files, _ := takeCertFiles(addr)
		line = append(append(line, "--tls"), files.arguments()...)
	}
	if path != "" && path != "0" {
		line = append(line, "-n", path)
	}
	return slices.Clip(line)
}

// Sentinels are the addresses of the Sentinels in an address, and the name that they watch; none for any other.
func Sentinels(addr string) (addrs []string, master string) {
	if several(addr) != "sentinel" {
		return nil, ""
	}
	o, err := sentinels(addr)
	if err != nil {
		return nil, ""
	}
	return o.SentinelAddrs, o.MasterName
}

// Encrypted reports whether nobody on a network can read what an address' client and Redis say.
func Encrypted(addr string) bool {
	scheme, _, _ := strings.Cut(addr, "://")
	return scheme == "unix" || strings.HasPrefix(scheme, "rediss")
}
