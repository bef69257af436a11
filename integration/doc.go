// Package integration holds the tests of the whole: real processes on a real Redis,
// which are killed, stopped and cut off at named points.
//
// A worker process is the test binary itself, started again. It takes its configuration
// and its orders as JSON lines on stdin and answers on stdout; secrets never stand in its
// arguments. The points at which a process can die are reached through a seam around the
// Redis client and the exchanger (seam_test.go): production code knows nothing of them.
package integration
