// Package interop runs fleets against authorization servers that nobody here wrote, on loopback. It is a module of its own,
// so that those who use tokenlatch get none of these servers; make interop runs it.
package interop
