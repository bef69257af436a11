package integration

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// staleFor is the most by which a token may be out of date when it is served, by a worker that
// neither stands still nor is cut off. Silence is noticed after 6 s; the rest is for slow machines.
const staleFor = 10 * time.Second

// sighting is an access token that a caller was given.
type sighting struct {
	worker, tenant, fp string
	asked              time.Time
}

// position is a pair's place among those of its grant.
type position struct{ epoch, gen int64 }

func (p position) before(q position) bool {
	return p.epoch < q.epoch || p.epoch == q.epoch && p.gen < q.gen
}

// change is a state of a grant that was stored, as the event about it says.
type change struct {
	position
	at time.Time // Redis' clock
	fp string    // of the access token
}

var (
	eventTenant = regexp.MustCompile(`\{` + app + `:([^}]*)\}`)
	eventHead   = regexp.MustCompile(`(?m)^[a-z_]+ (\d{13})$`)
	eventField  = regexp.MustCompile(`(?m)^(epoch|gen|at_fp) (\w+)$`)
)

// listen writes down the changes that are pushed, on every server there is, until ctx ends.
func (c *chaos) listen(ctx context.Context) {
	for _, server := range c.servers() {
		rdb := server.Client(c.t)
		ps := rdb.Subscribe(ctx, c.setup.Prefix+":events:"+app)
		c.listeners.Go(func() {
			defer ps.Close()
			for {
				select {
				case m := <-ps.Channel(redis.WithChannelSize(10_000)):
					c.pushed(m)
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

func (c *chaos) pushed(m *redis.Message) {
	if m == nil {
		return
	}
	tenant, head := eventTenant.FindStringSubmatch(m.Payload), eventHead.FindStringSubmatch(m.Payload)
	if tenant == nil || head == nil {
		return
	}
	ms, _ := strconv.ParseInt(head[1], 10, 64)
	one := change{at: time.UnixMilli(ms)}
	for _, field := range eventField.FindAllStringSubmatch(m.Payload, -1) {
		n, _ := strconv.ParseInt(field[2], 10, 64)
		switch field[1] {
		case "epoch":
			one.epoch = n
		case "gen":
			one.gen = n
		case "at_fp":
			one.fp = field[2]
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes[tenant[1]] = append(c.changes[tenant[1]], one)
}

// staleServed are the tokens that were served against law 6.
func (c *chaos) staleServed() (wrong []string) {
	if len(c.changes) == 0 {
		return []string{"no change of a grant was heard: nothing is known of staleness"}
	}
	for _, s := range c.sightings {
		changes := c.changes[s.tenant]
		served, known := position{}, false
		for _, ch := range changes {
			if ch.fp == s.fp {
				served, known = ch.position, true
			}
		}
		for _, ch := range changes {
			late := s.asked.Sub(ch.at)
			if known && served.before(ch.position) && late > staleFor && !c.apart(s.worker, s.asked) {
				wrong = append(wrong, fmt.Sprintf("%s served %s of %s, of generation %d, %.1f s after generation %d was stored at %s",
					s.worker, s.fp, s.tenant, served.gen, late.Seconds(), ch.gen, ch.at.Format("15:04:05.000")))
				break
			}
		}
	}
	return wrong
}

// apart reports whether the worker stood still, or could not reach Redis, shortly before.
func (c *chaos) apart(worker string, at time.Time) bool {
	for _, h := range c.story {
		lasted := !h.until.IsZero() && h.until.After(at.Add(-staleFor)) && h.at.Before(at)
		if lasted && (h.worker == worker || strings.HasPrefix(h.what, "redis: ")) {
			return true
		}
	}
	return false
}
