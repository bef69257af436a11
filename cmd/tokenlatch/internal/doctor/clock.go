package doctor

import "time"

// offAt is how far clocks may be apart.
const offAt = 2 * time.Second

var clock = []Check{{
	ID: "clock.offset", What: "Redis' clock and this machine's are less than 2 s apart", Remedy: "run NTP on both: no deadline of a grant goes by a worker's clock, but logs, certificates and the Expiry that Connect is given do",
	Wrong: "it is this machine's clock that is off, and no worker runs here", examine: func(x *exam) verdict {
		return x.each(func(n *node) verdict {
			before := time.Now()
			at, err := n.rdb.Time(x.ctx).Result()
			if err != nil {
				return unknown(err)
			}
			return offset(at.Sub(before), time.Since(before))
		})
	},
}}

// offset judges a clock that was ahead by so much of what it was when it was asked, which took a while.
func offset(ahead, took time.Duration) verdict {
	off := ahead - took/2
	text := "ahead of"
	if off < 0 {
		text, off = "behind", -off
	}
	if off > offAt {
		return warn("Redis' clock is %s %s this machine's", off.Round(100*time.Millisecond), text)
	}
	return ok("Redis' clock is %s %s this machine's", ms(off), text)
}
