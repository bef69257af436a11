package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

// silent keeps go-redis from writing into the live view.
type silent struct{}

// Printf implements the logger of go-redis.
func (silent) Printf(context.Context, string, ...any) {}

// openRedis takes host:port or a redis:// URL. It does not connect yet.
func openRedis(addr string) (*redis.Client, error) {
	redis.SetLogger(silent{})
	opt := &redis.Options{Addr: addr}
	if strings.Contains(addr, "://") {
		var err error
		if opt, err = redis.ParseURL(addr); err != nil {
			return nil, errors.New("demo: the Redis URL does not parse")
		}
	}
	opt.ContextTimeoutEnabled, opt.DisableIdentity = true, true
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewClient(opt), nil
}

// embedded is a Redis inside this process, on loopback so that the workers reach it.
type embedded struct {
	*miniredis.Miniredis
	stop, stopped chan struct{}
}

func startEmbedded() (*embedded, error) {
	e := &embedded{miniredis.NewMiniRedis(), make(chan struct{}), make(chan struct{})}
	if err := e.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("demo: start the embedded Redis: %w", err)
	}
	go e.run()
	return e, nil
}

// run makes its clock run: left alone, no TTL ever ends. A ticker may drop ticks, so
// that what counts is the time that really went by.
func (e *embedded) run() {
	defer close(e.stopped)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-e.stop:
			return
		case <-tick.C:
			now := time.Now()
			e.FastForward(now.Sub(last))
			last = now
		}
	}
}

func (e *embedded) end() {
	close(e.stop)
	<-e.stopped
	e.Close()
}

const withoutRedis = "leave --redis and " + cli.RedisVariable + " out to use the embedded one"

// checkRedis reports, in words, a real Redis that cannot be used.
func checkRedis(ctx context.Context, rdb *redis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	info, err := rdb.Info(ctx, "server").Result()
	switch {
	case redis.IsAuthError(err):
		return fmt.Errorf("the Redis at %s refuses the login: %w\nhint: name a file with the password by --redis-password-file, or put a redis:// URL with user and password into %s", rdb.Options().Addr, err, cli.RedisVariable)
	case err != nil:
		return fmt.Errorf("no Redis answers at %s: %w\nhint: %s", rdb.Options().Addr, plain(err), withoutRedis)
	}
	return checkVersion(rdb.Options().Addr, infoField(info, "redis_version"))
}

func checkVersion(addr, version string) error {
	if major, _, _ := strings.Cut(version, "."); atoi(major) < 7 {
		return fmt.Errorf("the Redis at %s is version %q; 7.0 or newer is needed\nhint: %s", addr, version, withoutRedis)
	}
	return nil
}

// plain drops go-redis' wrapping of an address that cannot be dialled.
func plain(err error) error {
	var dial *net.OpError
	if errors.As(err, &dial) {
		return dial
	}
	return err
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// removeKeys removes what stands under the run's own prefix.
func removeKeys(rdb *redis.Client, prefix string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var keys []string
	iter := rdb.Scan(ctx, 0, prefix+":*", 1000).Iterator()
	for iter.Next(ctx) {
		keys = append(keys, iter.Val())
	}
	err := iter.Err()
	if err == nil && len(keys) > 0 {
		err = rdb.Unlink(ctx, keys...).Err()
	}
	if err != nil {
		return fmt.Errorf("the keys %s:* could not be removed from Redis: %w", prefix, err)
	}
	return nil
}
