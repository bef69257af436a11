package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
	"github.com/tokenlatch/tokenlatch/tokencache/internal/mono"
)

// InfoOf reads the name:value lines of INFO.
func InfoOf(text string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// unfitError says what is to be done about an error of Redis.
type unfitError struct {
	todo string
	err  error // may be nil
}

func (e *unfitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("%v: %s", grant.ErrUnfit, e.todo)
	}
	return fmt.Sprintf("%v: %s: %v", grant.ErrUnfit, e.todo, e.err)
}

func (e *unfitError) Unwrap() []error {
	if e.err == nil {
		return []error{grant.ErrUnfit}
	}
	return []error{grant.ErrUnfit, e.err}
}

const (
	todoVersion = "Redis 7.0 or newer is needed, or Valkey"
	todoProxy   = "a command is not known: " + todoVersion + ", with no command renamed and no proxy in front that leaves out MULTI, EVAL or PUBLISH"
	todoRights  = "its user lacks a right: \"Rights in Redis\" in docs/operations.md lists the commands, keys and channels to allow"
	todoLogin   = "look at user name and password"
	TodoSingle  = "it is no Cluster: use a redis.Client"
	todoClosed  = "it closes the connection at commands that it does not know: connect to Redis itself, not to a proxy without HELLO, MULTI, EVAL or TIME"
	todoTLS     = "its port wants TLS: set Options.TLSConfig"
)

// Unfit returns err as an ErrUnfit if it says that an operator must mend the Redis, or what leads
// to it; nil for any other, such as one that nobody can reach just now. A replica (READONLY) is not
// unfit: after a failover clients find the master by themselves.
func Unfit(err error) error {
	if err == nil || errors.Is(err, grant.ErrUnfit) {
		return err
	}
	var said redis.Error
	if !errors.As(err, &said) {
		return nil
	}
	text := strings.ToLower(said.Error())
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
	switch {
	case has("noperm", "no permissions", "user executing the script can't"):
		return &unfitError{todoRights, err}
	case has("noauth", "wrongpass", "invalid password", "auth <password> called", "hello must be called"):
		return &unfitError{todoLogin, err}
	case has("unknown command", "unknown redis command", "command not supported", "unsupported command", "unknown subcommand", "is not allowed from script", "command is not allowed"):
		return &unfitError{todoProxy, err}
	case has("syntax error", "wrong number of arguments", "unexpected engine", "could not find engine"):
		return &unfitError{todoVersion, err}
	case has("cluster support disabled"):
		return &unfitError{TodoSingle, err}
	}
	return nil
}

// A connection that ends under a command is tried again so often, after a pause that doubles: a network that
// fails for a moment closes several in a row.
const (
	closings     = 4
	closingPause = 100 * time.Millisecond
)

// LostReply reports whether a connection ended under a command.
func LostReply(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Fit asks whether this Redis, and this client's user, can do what a grant needs in its life, in one
// round trip: else it would be found at the first expiry. The error is an ErrUnfit; any other says that
// nothing is known. Rights without which the rest works are said in the log. thorough asks in a
// transaction, of which a proxy may know nothing.
func (st *Store) Fit(ctx context.Context, k grant.Key, thorough bool) error {
	denied, err := tryOut(ctx, st, k, thorough)
	if unfit := Unfit(err); unfit != nil {
		return unfit
	}
	if err != nil {
		return err
	}
	if len(denied) == 1 && denied[0] == "old" {
		return old(ctx, st.Redis)
	}
	var needed, useful []string
	spared := []string{"publish", "subscribe", "dump", "restore"} // without pushes, or with journals that take more room
	for _, what := range denied {
		if name, of, _ := strings.Cut(what, " "); strings.HasPrefix(of, string(st.Names.Grant(k))) && !slices.Contains(spared, name) || of == "" || strings.HasPrefix(name, "EVAL") {
			needed = append(needed, what)
		} else {
			useful = append(useful, what)
		}
	}
	if len(needed) > 0 {
		return &unfitError{todoRights + "; refused: " + strings.Join(needed, ", "), nil}
	}
	if len(useful) > 0 {
		st.log.Error().Strs("refused", useful).Msg("this Redis' user lacks rights that are needed for pushes, renewals or the app's state: \"Rights in Redis\" in docs/operations.md lists the commands, keys and channels to allow")
	}
	return nil
}

// Denied names the commands that workers need for a grant and that the client's user may not give: "command
// key", each. Nothing is executed. The error is an ErrUnfit where the question is refused.
func (st *Store) Denied(ctx context.Context, k grant.Key) ([]string, error) {
	denied, err := tryOut(ctx, st, k, false)
	if unfit := Unfit(err); unfit != nil {
		return nil, unfit
	}
	if len(denied) == 1 && denied[0] == "old" {
		return nil, &unfitError{todoVersion, nil}
	}
	return denied, err
}

// tryOut names the commands that the client's user may not give. A connection that ends can be the network's
// trouble, or a server's that restarts: only what happens again and again, to a server that answers in
// between, is a proxy's way to say no.
func tryOut(ctx context.Context, st *Store, k grant.Key, thorough bool) (denied []string, err error) {
	denied, err = st.tryOnce(ctx, k, thorough)
	for again := 0; LostReply(err); again++ {
		switch first, heard := greeting(ctx, st.Redis); {
		case heard && first == tlsAlert:
			return nil, &unfitError{todoTLS, err}
		case !heard && !st.answers(ctx):
			return nil, err
		case again == closings:
			return nil, &unfitError{todoClosed, err}
		case mono.Sleep(ctx, closingPause<<again) != nil:
			return nil, err
		}
		denied, err = st.tryOnce(ctx, k, thorough)
	}
	return denied, err
}

func (st *Store) tryOnce(ctx context.Context, k grant.Key, thorough bool) (denied []string, err error) {
	return Bounded(ctx, NodePatience, func(ctx context.Context) ([]string, error) {
		ask := func(on redis.Scripter) *redis.Cmd {
			return fitScript.Eval(ctx, on, []string{st.Names.Grant(k).Grant()}, st.needs(k)...)
		}
		if !thorough {
			return ask(st.Redis).StringSlice()
		}
		var said *redis.Cmd
		if err := firstError(st.Redis.TxPipelined(ctx, func(p redis.Pipeliner) error { said = ask(p); return nil })); err != nil {
			return nil, err
		}
		return said.StringSlice()
	})
}

// needs are the commands that are used, with a key each, as fit.lua takes them. What has no key comes
// first; see Fit for what is needed at all cost.
func (st *Store) needs(k grant.Key) (args []any) {
	add := func(words ...any) { args = append(append(args, words...), "") }
	ks := st.Names.Grant(k)
	for _, name := range []string{"TIME", "MULTI", "EXEC", "PING"} {
		add(name)
	}
	add("EVAL", "return 1", "0")
	add("EVALSHA", "0", "0")
	uses := map[string][]string{
		ks.Grant():   {"hgetall", "hmget x", "hset x x", "hdel x", "pexpire 1", "persist", "del"},
		ks.Secret():  {"getrange 0 1", "set x", "del"},
		ks.Spare():   {"getrange 0 1", "set x", "del"},
		ks.Journal(): {"xadd * x x", "xrange - +", "del", "persist", "pexpire 1", "pttl", "dump", "restore 0 x"},
		ks.Unread():  {"rpush x", "lrange 0 1", "ltrim 0 1", "pexpire 1", "del"},
		ks.Lock():    {"set x", "get", "del", "pexpire 1", "pttl"},
		ks.Events():  {"publish x", "subscribe"},

		st.Names.Heartbeats(): {"publish x", "subscribe"},

		st.Names.App(k.App).State():    {"hgetall", "hset x x", "hdel x", "publish x", "subscribe"},
		st.Names.App(k.App).Changes():  {"publish x", "subscribe"},
		st.Names.App(k.App).Due(0):     {"zadd 1 x", "zrem x", "zscore x", "zrange 0 0", "zrangebyscore 0 1", "zcount 0 1", "zcard", "del"},
		st.Names.App(k.App).Inflight(): {"zadd 1 x", "zrem x", "zscore x", "zrange 0 0", "zremrangebyscore 0 1", "zcard"},
		st.Names.App(k.App).Turn("x"):  {"set x", "expire 1", "pexpire 1"},
		st.Names.App(k.App).Rate():     {"get", "set x"},
		st.Names.Proof():               {"get", "set x", "setnx x"},
	}
	for _, name := range slices.Sorted(maps.Keys(uses)) { // the same cause in the same words
		for _, line := range uses[name] {
			words := strings.Fields(line)
			call := []any{words[0], name}
			for _, word := range words[1:] {
				call = append(call, word)
			}
			add(call...)
		}
	}
	return args
}

// ClosedAt is err, which says that the connection ended under a transaction; or an ErrUnfit, if that
// happens again and again while plain commands are answered.
func (st *Store) ClosedAt(ctx context.Context, err error) error {
	for again := range closings {
		if !st.answers(ctx) || again > 0 && mono.Sleep(ctx, closingPause<<(again-1)) != nil {
			return err
		}
		_, again := Bounded(ctx, NodePatience, func(ctx context.Context) ([]redis.Cmder, error) {
			return st.Redis.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Get(ctx, st.Names.Proof()).Err() })
		})
		if !LostReply(again) {
			return err
		}
	}
	return &unfitError{todoClosed, err}
}

// tlsAlert is how the answer of a TLS server begins to one who does not speak it.
const tlsAlert = 0x15

// greeting is the first byte of what the server says to a bare PING, on a connection of its own: a
// client's connection begins with HELLO, which some proxies answer by closing it.
func greeting(ctx context.Context, rdb redis.UniversalClient) (first byte, heard bool) {
	client, ok := rdb.(*redis.Client)
	if !ok || client.Options().Dialer == nil || client.Options().TLSConfig != nil {
		return 0, false
	}
	o := client.Options()
	ctx, cancel := context.WithTimeout(ctx, NodePatience)
	defer cancel()
	conn, err := o.Dialer(ctx, o.Network, o.Addr)
	if err != nil {
		return 0, false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(NodePatience))
	var answer [1]byte
	_, err = conn.Write([]byte("*1\r\n$4\r\nPING\r\n"))
	if err == nil {
		_, err = conn.Read(answer[:])
	}
	return answer[0], err == nil
}

// answers reports whether a plain command is answered.
func (st *Store) answers(ctx context.Context) bool {
	_, err := Bounded(ctx, NodePatience, func(ctx context.Context) (string, error) { return st.Redis.Get(ctx, st.Names.Proof()).Result() })
	return err == nil || errors.Is(err, redis.Nil)
}

// old is for a server that does not know what Redis 7.0 knows.
func old(ctx context.Context, rdb redis.UniversalClient) error {
	text, err := Bounded(ctx, NodePatience, func(ctx context.Context) (string, error) { return rdb.Info(ctx, "server").Result() })
	if err != nil {
		return nil // nobody knows; a command that is missing will tell
	}
	version := InfoOf(text)["redis_version"]
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err == nil && n < 7 {
		return &unfitError{todoVersion + "; this is version " + version, nil}
	}
	return nil
}
