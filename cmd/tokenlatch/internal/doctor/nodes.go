package doctor

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// node is one server that takes writes: the only one, or a master of a Cluster.
type node struct {
	addr string
	rdb  redis.Cmdable
	info map[string]string
	err  error // of INFO
}

// askNodes asks each node by INFO.
func (x *exam) askNodes() {
	x.nodes = nodesOf(x.ctx, x.Redis, x.Place)
	var asked sync.WaitGroup
	for _, n := range x.nodes {
		asked.Go(func() {
			text, err := n.rdb.Info(x.ctx).Result()
			n.info, n.err = infoOf(text), err
		})
	}
	asked.Wait()
}

func nodesOf(ctx context.Context, rdb redis.UniversalClient, place string) []*node {
	cluster, is := rdb.(*redis.ClusterClient)
	if !is {
		return []*node{{addr: place, rdb: rdb}}
	}
	var mu sync.Mutex
	var all []*node
	_ = cluster.ForEachMaster(ctx, func(_ context.Context, master *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, &node{addr: master.Options().Addr, rdb: master})
		return nil
	})
	slices.SortFunc(all, func(a, b *node) int { return strings.Compare(a.addr, b.addr) })
	if len(all) == 0 {
		return []*node{{addr: place, rdb: rdb}}
	}
	return all
}

// infoOf reads the name:value lines of INFO.
func infoOf(text string) map[string]string {
	fields := map[string]string{}
	for row := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(row), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

func number(info map[string]string, name string) int64 {
	n, _ := strconv.ParseInt(info[name], 10, 64)
	return n
}

// each is the worst of what is found of each node.
func (x *exam) each(judge func(n *node) verdict) verdict {
	var all []verdict
	for _, n := range x.nodes {
		v := judge(n)
		if len(x.nodes) > 1 && v.result != OK {
			v.text = n.addr + ": " + v.text
		}
		all = append(all, v)
	}
	v := worst(all)
	if len(x.nodes) > 1 && v.result == OK {
		v.text += " (each of " + strconv.Itoa(len(x.nodes)) + " nodes)"
	}
	return v
}

// byInfo is each for what INFO tells.
func (x *exam) byInfo(judge func(info map[string]string) verdict) verdict {
	return x.each(func(n *node) verdict {
		if n.err != nil {
			return skip("INFO is not answered: %s", line(n.err))
		}
		return judge(n.info)
	})
}

// setting returns what CONFIG GET says; false where nobody may ask.
func (n *node) setting(ctx context.Context, name string) (string, bool) {
	found, err := n.rdb.ConfigGet(ctx, name).Result()
	value, has := found[name]
	return value, err == nil && has
}
