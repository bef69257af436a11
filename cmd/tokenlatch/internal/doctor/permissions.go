package doctor

import (
	"cmp"
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

var permissions = []Check{
	{
		ID: "permissions.writes", What: "Redis takes writes", Remedy: "give Redis memory, disk or replicas, as its error says; or the master's address",
		Wrong: "a failover is under way", examine: writes,
	},
	{
		ID: "permissions.commands", What: "this user may give every command that workers give", Remedy: "allow them: tokenlatch help operations rights has the whole line",
		Wrong: "the workers have another user than this command", examine: commands,
	},
	{
		ID: "permissions.keys", What: "this user may use every key and channel that workers use", Remedy: "allow them: tokenlatch help operations rights has the whole line",
		Wrong: "the workers have another user than this command, or this one works for some apps only: name one by --app", examine: keys,
	},
}

// tries are the commands that workers give, each as it is tried. KEY begins the names of the scratch keys, one
// of each type.
var tries = [][]any{
	{"ping"}, {"time"}, {"info", "server"}, {"scan", "0", "match", "KEY", "count", "1"}, {"wait", "0", "1"},
	{"set", "KEY:s", "x", "px", "10000"}, {"setnx", "KEY:s", "x"}, {"get", "KEY:s"}, {"getrange", "KEY:s", "0", "0"}, {"expire", "KEY:s", "10"}, {"pexpire", "KEY:s", "10000"},
	{"pttl", "KEY:s"}, {"dump", "KEY:s"}, {"restore", "KEY:r", "10000", "bad"},
	{"hset", "KEY:h", "f", "x"}, {"hsetnx", "KEY:h", "f", "x"}, {"hmget", "KEY:h", "f"}, {"hgetall", "KEY:h"}, {"hdel", "KEY:h", "g"}, {"persist", "KEY:h"},
	{"xadd", "KEY:x", "maxlen", "1", "*", "f", "x"}, {"xrange", "KEY:x", "-", "+", "count", "1"},
	{"rpush", "KEY:l", "x"}, {"lrange", "KEY:l", "0", "0"}, {"ltrim", "KEY:l", "0", "0"},
	{"zadd", "KEY:z", "1", "m"}, {"zscore", "KEY:z", "m"}, {"zcard", "KEY:z"}, {"zcount", "KEY:z", "0", "1"}, {"zrange", "KEY:z", "0", "0"},
	{"zrangebyscore", "KEY:z", "0", "1"}, {"zrem", "KEY:z", "n"}, {"zremrangebyscore", "KEY:z", "5", "6"},
	{"pexpire", "KEY:h", "10000"}, {"pexpire", "KEY:x", "10000"}, {"pexpire", "KEY:l", "10000"}, {"pexpire", "KEY:z", "10000"}, // should del be refused
	{"publish", "CHANNEL", ""}, {"eval", "return 1", "1", "KEY:s"}, {"evalsha", strings.Repeat("0", 40), "1", "KEY:s"},
	{"del", "KEY:s", "KEY:r", "KEY:h", "KEY:x", "KEY:l", "KEY:z"},
}

// Tried are the names of the commands that are tried.
func Tried() (names []string) {
	for _, words := range tries {
		if name := words[0].(string); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return append(names, "multi", "exec")
}

// useful are the commands without which the rest works.
var useful = []string{"info", "scan", "wait", "dump", "restore"}

// scratch is the name of scratch keys of an app, of their own for each examination.
func (x *exam) scratch() string { return x.Inspector.Scratch(x.apps[0]) + rand.Text() }

// writes returns what Redis says to a write that is allowed.
func writes(x *exam) verdict {
	key := x.scratch()
	err := x.Redis.Set(x.ctx, key, "x", 10e9).Err()
	_ = x.Redis.Del(x.ctx, key).Err()
	switch {
	case err == nil:
		return ok("a scratch key was written, and deleted")
	case denied(err):
		return skip("this user may not write: %s", line(err))
	}
	return fail("Redis refuses a write: %s", line(err))
}

// commands tries each command.
func commands(x *exam) verdict {
	missing, err := x.try()
	if err != nil {
		return unknown(err)
	}
	if err := x.transaction(); denied(err) {
		missing = append(missing, "multi", "exec")
	}
	var rest []string
	for _, name := range missing {
		if !slices.Contains(useful, name) {
			rest = append(rest, name)
		}
	}
	how := "ACL SETUSER " + x.user() + " +" + strings.Join(missing, " +")
	switch {
	case len(rest) > 0:
		return verdict{Failure, "refused: " + strings.Join(missing, ", "), how}
	case len(missing) > 0:
		return verdict{Warning, "refused, and needed for a part only: " + strings.Join(missing, ", "), how}
	}
	return ok("all %d commands were tried on scratch keys", len(Tried()))
}

// try gives each command, and names those that are refused, or not known.
func (x *exam) try() (missing []string, err error) {
	key := x.scratch()
	named := strings.NewReplacer("KEY", key, "CHANNEL", strings.TrimSuffix(x.Inspector.Scratch(x.apps[0]), "scratch:")+"events")
	given := make([]*redis.Cmd, len(tries))
	_, err = x.Redis.Pipelined(x.ctx, func(p redis.Pipeliner) error {
		for i, words := range tries {
			call := make([]any, len(words))
			for j, word := range words {
				call[j] = named.Replace(word.(string))
			}
			given[i] = redis.NewCmd(x.ctx, call...)
			if at := slices.IndexFunc(call, func(word any) bool { return strings.HasPrefix(word.(string), key) }); at > 0 {
				given[i].SetFirstKeyPos(int8(at)) // for a Cluster
			}
			_ = p.Process(x.ctx, given[i])
		}
		return nil
	})
	var said redis.Error
	if err != nil && !errors.As(err, &said) {
		return nil, err // none of it was answered
	}
	for i, cmd := range given {
		if name := tries[i][0].(string); refusesCommand(cmd.Err()) && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// refusesCommand reports whether Redis does not know a command, or its user may not give it, on whatever key.
func refusesCommand(err error) bool {
	if err == nil {
		return false
	}
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "unknown command") || denied(err) && !strings.Contains(text, "to access") // a key or a channel
}

func (x *exam) transaction() error {
	key := x.scratch()
	_, err := x.Redis.TxPipelined(x.ctx, func(p redis.Pipeliner) error { return p.Get(x.ctx, key).Err() })
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// keys asks for each app by the rules of Redis, which knows them better than a try.
func keys(x *exam) verdict {
	if x.whose != nil {
		return unknown(x.whose)
	}
	missing, err := x.try()
	if err != nil {
		return unknown(err)
	}
	var patterns []string
	for _, app := range x.apps {
		refused, err := x.Inspector.Denied(x.ctx, app)
		switch {
		case denied(err) && strings.Contains(err.Error(), "to access") && strings.Contains(err.Error(), "key"): // the question is about a grant of the app
			refused = []string{"get " + x.Inspector.Scratch(app)}
		case err != nil:
			return unknown(err)
		}
		for _, what := range refused {
			name, key, _ := strings.Cut(what, " ")
			if pattern := x.pattern(app, name, key); pattern != "" && !slices.Contains(missing, strings.ToLower(name)) && !slices.Contains(patterns, pattern) {
				patterns = append(patterns, pattern)
			}
		}
	}
	if len(patterns) > 0 {
		slices.Sort(patterns)
		return verdict{Failure, "not allowed: " + some(patterns), "ACL SETUSER " + x.user() + " " + strings.Join(patterns, " ")}
	}
	if x.apps[0] == noApp {
		return ok("the keys and channels of an app are allowed; there is none yet")
	}
	return ok("the keys and channels of %s are allowed", some(x.apps))
}

// pattern returns what an ACL must have for a command on a key or channel; "" for a command without one.
func (x *exam) pattern(app, command, key string) string {
	if !strings.HasPrefix(key, x.Prefix+":") {
		return ""
	}
	kind := "~"
	if command == "publish" || command == "subscribe" {
		kind = "&"
	}
	app = grant.Escape(app)
	for _, family := range []struct{ begins, pattern string }{
		{":{" + app + ":", ":{" + app + ":*}:" + map[string]string{"~": "*", "&": "events"}[kind]},
		{":due:" + app + ":", ":due:" + app + ":*"},
		{":turn:" + app + ":", ":turn:" + app + ":*"},
		{":rate:" + app, ":rate:" + app + "*"},
		{":heartbeat:", ":heartbeat:*"},
	} {
		if strings.HasPrefix(key, x.Prefix+family.begins) {
			return kind + x.Prefix + family.pattern
		}
	}
	return kind + key
}

// user returns the name by which this command has logged in. Workers may not ask Redis for it: it is then the name in
// the address, and without one there Redis takes the client for its default user.
func (x *exam) user() string {
	if name, err := x.Redis.Do(x.ctx, "acl", "whoami").Text(); err == nil {
		return printable(name)
	}
	name := ""
	switch c := x.Redis.(type) {
	case *redis.Client:
		name = c.Options().Username
	case *redis.ClusterClient:
		name = c.Options().Username
	}
	return printable(cmp.Or(name, "default"))
}
