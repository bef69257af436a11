package integration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
)

// seam catches a worker at a named point: it wraps the Redis client (as a go-redis hook)
// and the exchanger, so that production code carries no branches for tests.
type seam struct {
	say    func(answer)
	rested chan struct{} // closed once the worker has done what it does at its start, beside what it is told to
	rest   func()

	mu       sync.Mutex // guards what follows
	armed    string
	released chan struct{}
	traffic  report            // Commands, Trips and Sent
	claims   map[string]string // tenant → its claim, as a presentation under it shows it
}

func newSeam(say func(answer)) *seam {
	s := &seam{say: say, rested: make(chan struct{}), traffic: noTraffic(), claims: map[string]string{}}
	s.rest = sync.OnceFunc(func() { close(s.rested) })
	return s
}

func noTraffic() report {
	return report{Commands: map[string]int{}, Looks: map[string]int{}, Sent: map[string]time.Time{}}
}

// arm catches whoever reaches the point next, once.
func (s *seam) arm(point string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed, s.released = point, make(chan struct{})
}

// release lets the caught one go on, and disarms.
func (s *seam) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = ""
	if s.released != nil {
		close(s.released)
		s.released = nil
	}
}

// reached says so and stands still until released, if the point is armed.
func (s *seam) reached(point string) {
	s.mu.Lock()
	released := s.released
	if point == "" || s.armed != point {
		s.mu.Unlock()
		return
	}
	s.armed = ""
	s.mu.Unlock()
	s.say(answer{At: point})
	<-released
}

// connects reports whether go-redis says it on its own, on a new connection.
func connects(cmd redis.Cmder) bool { return cmd.Name() == "hello" || cmd.Name() == "client" }

// beats reports whether it is a heartbeat: there is one every two seconds, whatever goes on.
func beats(cmd redis.Cmder) bool {
	return cmd.Name() == "publish" && strings.Contains(fmt.Sprint(cmd.Args()[1]), ":heartbeat:")
}

// looksAround reports whether it is a look whether this is still the same database, and server: there is one
// every few seconds, whatever goes on.
func looksAround(cmd redis.Cmder) bool {
	return cmd.Name() == "info" || cmd.Name() == "get" && strings.HasSuffix(fmt.Sprint(cmd.Args()[1]), ":proof")
}

// looksOver reports whether it is the look whether Redis, and its user, will do: each process has one at its start, the
// last of what it does besides.
func looksOver(cmd redis.Cmder) bool {
	return cmd.Name() == "eval" && strings.Contains(fmt.Sprint(cmd.Args()[1]), "acl_check_cmd")
}

// trip counts one round trip and its commands, and notes which point each has led to.
func (s *seam) trip(sent time.Time, cmds []redis.Cmder, points []string) {
	if connects(cmds[0]) || beats(cmds[0]) {
		return
	}
	if looksOver(cmds[0]) {
		s.rest()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if looksAround(cmds[0]) {
		s.traffic.Looks[cmds[0].Name()]++
		return
	}
	s.traffic.Trips++
	for i, cmd := range cmds {
		s.traffic.Commands[cmd.Name()]++
		if points[i] != "" {
			s.traffic.Sent[points[i]] = sent
		}
	}
}

// counted returns what was asked of Redis since the last call.
func (s *seam) counted() report {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.traffic
	s.traffic = noTraffic()
	return got
}

// ProcessHook implements redis.Hook: it looks at replies that have arrived.
func (s *seam) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		sent := time.Now()
		err := next(ctx, cmd)
		point := pointAfter(cmd, err)
		s.noteClaim(cmd, point)
		s.trip(sent, []redis.Cmder{cmd}, []string{point})
		s.reached(point)
		return err
	}
}

// DialHook implements redis.Hook.
func (s *seam) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessPipelineHook implements redis.Hook. MULTI and EXEC are among the commands of a
// transaction.
func (s *seam) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		sent := time.Now()
		err := next(ctx, cmds)
		points := make([]string, len(cmds))
		for i, cmd := range cmds {
			points[i] = pointAfter(cmd, cmd.Err())
			s.noteClaim(cmd, points[i])
		}
		s.trip(sent, cmds, points)
		for _, point := range points {
			s.reached(point)
		}
		return err
	}
}

// pointAfter is the point that a command's reply marks, or "".
func pointAfter(cmd redis.Cmder, err error) string {
	switch {
	case cmd.Name() == "set" && errors.Is(err, redis.Nil) && setsLock(cmd.Args()):
		return afterLease // SET NX GET found nothing
	case strings.HasPrefix(cmd.Name(), "eval") && err == nil:
		return pointAfterScript(cmd)
	}
	return ""
}

func setsLock(args []any) bool {
	words := strings.ToLower(fmt.Sprintln(args...))
	return strings.Contains(words, ":lock ") && strings.Contains(words, " nx ")
}

// pointAfterScript knows the scripts by what they say they did: a claim leaves its id in
// the record, a commit leaves its id and the generation after the one it was given.
func pointAfterScript(cmd redis.Cmder) string {
	c, ok := cmd.(*redis.Cmd)
	if !ok {
		return ""
	}
	record, ok := recordOf(c.Val())
	argv := argvOf(c.Args())
	if !ok || len(argv) < 6 {
		return ""
	}
	id, epoch, gen := argv[2], argv[4], argv[5]
	switch {
	case record["claim_id"] == id:
		return afterClaim
	case record["commit_id"] == id && record["epoch"] == epoch && record["gen"] == next(gen):
		return afterCommit
	}
	return ""
}

// recordOf reads {"ok", now, record, sealed pair, …}.
func recordOf(reply any) (map[string]string, bool) {
	parts, _ := reply.([]any)
	if len(parts) < 4 || parts[0] != "ok" {
		return nil, false
	}
	text, _ := parts[2].(string)
	record := make(map[string]string)
	for line := range strings.SplitSeq(text, "\n") {
		field, value, _ := strings.Cut(line, " ")
		record[field] = value
	}
	return record, true
}

// argvOf are a script's arguments after its keys.
func argvOf(args []any) []string {
	if len(args) < 3 {
		return nil
	}
	keys, err := strconv.Atoi(fmt.Sprint(args[2]))
	if err != nil || len(args) < 3+keys {
		return nil
	}
	argv := make([]string, 0, len(args))
	for _, a := range args[3+keys:] {
		argv = append(argv, fmt.Sprint(a))
	}
	return argv
}

func next(gen string) string {
	n, err := strconv.Atoi(gen)
	if err != nil {
		return "no generation"
	}
	return strconv.Itoa(n + 1)
}

// tapped is an exchanger that can be caught with the answer in its hands.
type tapped struct {
	provider.Exchanger
	seam *seam
}

func (t tapped) Exchange(ctx context.Context, g provider.Grant) (provider.Pair, error) {
	pair, err := t.Exchanger.Exchange(context.WithValue(ctx, claimKey{}, t.seam.claim(g.Tenant)), g)
	t.seam.reached(afterAnswer)
	return pair, err
}

// claimKey is where an exchange's ctx says under which claim it is made.
type claimKey struct{}

// noteClaim keeps a claim that stands, in the words of claimShown.
func (s *seam) noteClaim(cmd redis.Cmder, point string) {
	if point != afterClaim {
		return
	}
	r, _ := recordOf(cmd.(*redis.Cmd).Val())
	_, key, _ := strings.Cut(fmt.Sprint(cmd.Args()[3]), "{"+app+":")
	tenant, _, _ := strings.Cut(key, "}")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims[tenant] = fmt.Sprintf("%s %s %s %t", r["claim_id"], cmp.Or(r["claim_until"], "0"), cmp.Or(r["expires_at"], "0"), r["rejected_gen"] == r["gen"])
}

func (s *seam) claim(tenant string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims[tenant]
}

// claimShown is what a presentation's User-Agent tells of the claim under which it was made.
type claimShown struct {
	worker, id     string
	until, expires int64 // Redis time, unix ms: its hard deadline, and when the access token ends
	refused        bool  // an API has refused that access token
}

// shownBy reads a User-Agent; what is not there is zero.
func shownBy(agent string) claimShown {
	var c claimShown
	_, _ = fmt.Sscan(agent, &c.worker, &c.id, &c.until, &c.expires, &c.refused)
	return c
}

// signed tells the provider who presents, and under which claim.
type signed struct {
	http.RoundTripper
	name string
}

func (s signed) RoundTrip(req *http.Request) (*http.Response, error) {
	claim, _ := req.Context().Value(claimKey{}).(string)
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", strings.TrimSpace(s.name+" "+claim))
	return s.RoundTripper.RoundTrip(req)
}

func (s signed) CloseIdleConnections() {
	s.RoundTripper.(*http.Transport).CloseIdleConnections()
}
