package demo

import "math"

// histogram counts durations in milliseconds, in buckets that are 5 % wide, from 10 µs
// to some hours. The largest is exact.
type histogram struct {
	buckets [400]int
	n       int
	max     float64
}

const (
	finest = 0.01
	growth = 1.05
)

func (h *histogram) add(ms float64) {
	i := 0
	if ms > finest {
		i = int(math.Log(ms/finest)/math.Log(growth)) + 1
	}
	h.buckets[min(i, len(h.buckets)-1)]++
	h.n++
	h.max = max(h.max, ms)
}

// quantile is the value that the share q of all stays under; 0 of nothing.
func (h *histogram) quantile(q float64) float64 {
	rank := int(math.Ceil(q * float64(h.n)))
	for i, n := range h.buckets {
		if rank -= n; rank <= 0 && h.n > 0 {
			return min(finest*math.Pow(growth, float64(i)), h.max)
		}
	}
	return h.max
}
