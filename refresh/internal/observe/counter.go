package observe

import (
	"sync/atomic"
	"unsafe"
)

// stripes are as many as keep callers on different cores apart, mostly. A power of two.
const stripes = 32

// Counter counts what many goroutines do at the same time, often, and is read seldom. Nil counts nothing.
type Counter struct {
	stripes [stripes]stripe
}

// stripe has a cache line, and its neighbour, which CPUs fetch with it, for itself.
type stripe struct {
	n atomic.Uint64
	_ [120]byte
}

// Add counts one more.
func (c *Counter) Add() {
	if c != nil {
		c.add()
	}
}

// add takes the stripe by where the goroutine's stack is: goroutines that run at the same time have different
// ones, and to ask for that costs nothing.
func (c *Counter) add() {
	var here byte
	at := uintptr(unsafe.Pointer(&here))
	c.stripes[(at>>11^at>>16)%stripes].n.Add(1)
}

// Sum returns how much was counted.
func (c *Counter) Sum() (n uint64) {
	for i := range c.stripes {
		n += c.stripes[i].n.Load()
	}
	return n
}
