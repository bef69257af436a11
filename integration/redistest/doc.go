// Package redistest gives tests a real Redis, and ways to make it fail.
//
//	func TestStoresIt(t *testing.T) {
//		rdb := redistest.Start(t).Client(t)
//		key := redistest.Prefix(t) + "greeting"
//		…
//	}
//
// [Start] is for tests which only need a Redis: it takes the one in REDIS_ADDR,
// never flushes it, and starts a private server otherwise: the binary in REDIS_SERVER,
// or redis-server from PATH. [Own] is for tests
// which pause, kill, flush or count commands: always a private server.
// [StartCluster] starts three masters. [NewProxy] stands between a client and
// a server and loses replies, freezes or cuts connections. [Miniredis] runs
// the same suite without Redis. [Commands] counts what a piece of code asked of
// a server, [Dump] shows everything that it stored.
//
// Private servers listen on loopback only, live in the test's temporary
// directory, and are ended by their own process id: at clean-up, and on Linux
// also when the test process is killed.
//
// Waiting is never a sleep of fixed length: it is a probe with a deadline.
package redistest
