package redistest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cluster is a private Redis Cluster: three masters, with or without replicas.
type Cluster struct {
	// Nodes are the masters, in the order of their slots. Tests may pause and
	// kill them one by one.
	Nodes []*Server
	// Replicas are those of the masters, in the same order, after [Cluster.AddReplicas].
	Replicas []*Server
}

// slots of the three masters; together all 16384.
var slots = [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}}

// StartCluster returns a Cluster which answers on every node for every slot,
// and which is stopped when the test ends. The test is skipped where no redis-server is installed.
func StartCluster(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	c := &Cluster{}
	for range slots {
		c.Nodes = append(c.Nodes, node(t, opts...))
	}
	for i := range c.Nodes {
		c.join(t, i)
	}
	await(t, "the cluster to form", func() bool { return !slices.ContainsFunc(c.Nodes, c.apart) })
	return c
}

func node(t testing.TB, opts ...Option) *Server {
	t.Helper()
	return Own(t, append(opts,
		func(s *Server) { s.cluster = true },
		Set("cluster-announce-ip", loopback),
		Set("cluster-node-timeout", "5000"),
		Set("repl-diskless-sync-delay", "0"),
	)...)
}

// StartClusterWithReplicas returns a Cluster each of whose masters has a replica, which takes its
// place some five seconds after it is gone. Meanwhile the other nodes go on.
func StartClusterWithReplicas(t testing.TB) *Cluster {
	t.Helper()
	// After all else: go-redis goes on dialing a server that has gone for a second after its client is closed.
	t.Cleanup(func() { time.Sleep(1200 * time.Millisecond) })
	c := StartCluster(t)
	c.AddReplicas(t)
	for _, node := range c.all() {
		for name, value := range map[string]string{"cluster-require-full-coverage": "no", "cluster-replica-no-failover": "no"} {
			if err := node.Client(t).ConfigSet(context.Background(), name, value).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return c
}

// AddReplicas gives each master a replica, and returns when all nodes know all others, and which has what
// slots: a replica that does not know its master's takes its place and gets none. They do not take its
// place by themselves: see [Cluster.TakeOver].
func (c *Cluster) AddReplicas(t testing.TB) {
	t.Helper()
	ids := make([]string, len(c.Nodes))
	for i, master := range c.Nodes {
		replica := node(t)
		c.Replicas, ids[i] = append(c.Replicas, replica), master.id(t)
		rdb := replica.Client(t)
		if err := rdb.ConfigSet(context.Background(), "cluster-replica-no-failover", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		for j := range c.Nodes {
			c.meet(t, rdb, j)
		}
	}
	for i, replica := range c.Replicas {
		rdb := replica.Client(t)
		await(t, "the replica to know its master", func() bool { return rdb.ClusterReplicate(context.Background(), ids[i]).Err() == nil })
	}
	for _, replica := range c.Replicas {
		await(t, "the replica to follow", replica.follows)
	}
	await(t, "all nodes to know each other", func() bool { return !slices.ContainsFunc(c.all(), c.apart) })
}

// all are the masters and the replicas.
func (c *Cluster) all() []*Server { return slices.Concat(c.Nodes, c.Replicas) }

func (s *Server) id(t testing.TB) string {
	t.Helper()
	text, err := s.Client(t).Do(context.Background(), "CLUSTER", "MYID").Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Part takes the replica of master i from it, once it has all that was written before: what is
// written from now on is lost with the master.
func (c *Cluster) Part(t testing.TB, i int) {
	t.Helper()
	Part(t, c.Nodes[i], c.Replicas[i])
}

// Fail kills master i, and returns when its replica has taken its place.
func (c *Cluster) Fail(t testing.TB, i int) {
	t.Helper()
	c.Nodes[i].Kill(t)
	c.promoted(t, i)
}

// Silence stops master i without a word, as if its host had gone, and returns when its replica has
// taken its place.
func (c *Cluster) Silence(t testing.TB, i int) {
	t.Helper()
	c.Nodes[i].Pause(t)
	c.promoted(t, i)
}

// promoted waits until all nodes that live know that the replica of master i has its place: news of that
// take up to three seconds.
func (c *Cluster) promoted(t testing.TB, i int) {
	t.Helper()
	_, port := split(c.Replicas[i].addr)
	for _, node := range c.all() {
		if node == c.Nodes[i] {
			continue
		}
		rdb := node.Client(t)
		await(t, "the nodes to know who has taken over", func() bool {
			known, err := rdb.ClusterShards(context.Background()).Result()
			return err == nil && slices.ContainsFunc(known, func(s redis.ClusterShard) bool {
				has := slices.ContainsFunc(s.Slots, func(r redis.SlotRange) bool { return r.Start == int64(slots[i][0]) })
				return has && slices.ContainsFunc(s.Nodes, func(n redis.Node) bool {
					return n.Role == "master" && n.Port == int64(port) && n.Health == "online"
				})
			})
		})
	}
}

// Remove gives the slots of master i to the one after it and has it leave the Cluster, as redis-cli
// --cluster del-node does: it goes on, alone.
func (c *Cluster) Remove(t testing.TB, i int) {
	t.Helper()
	ctx := context.Background()
	leaving, to := c.Nodes[i], c.Nodes[(i+1)%len(c.Nodes)]
	gone, target := leaving.id(t), to.id(t)
	source := leaving.Client(t)
	if err := source.ConfigSet(ctx, "cluster-allow-replica-migration", "no").Err(); err != nil {
		t.Fatal(err) // else it becomes a replica when it gives away its last slot
	}
	host, port := split(to.addr)
	step := func(node *redis.Client, args ...any) {
		t.Helper()
		if err := node.Do(ctx, args...).Err(); err != nil {
			t.Fatalf("redistest: %v: %v", args, err)
		}
	}
	for slot := slots[i][0]; slot <= slots[i][1]; slot++ {
		keys, err := source.ClusterGetKeysInSlot(ctx, slot, 1000).Result()
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) > 0 {
			step(to.Client(t), "CLUSTER", "SETSLOT", slot, "IMPORTING", gone)
			step(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target)
			step(source, append([]any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}, anys(keys)...)...)
			step(to.Client(t), "CLUSTER", "SETSLOT", slot, "NODE", target)
		}
	}
	for _, node := range []*Server{to, leaving, c.Nodes[(i+2)%len(c.Nodes)]} {
		_, err := node.Client(t).Pipelined(ctx, func(p redis.Pipeliner) error {
			for slot := slots[i][0]; slot <= slots[i][1]; slot++ {
				p.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", target)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("redistest: give away the slots: %v", err)
		}
	}
	for _, node := range c.Nodes {
		if node != leaving {
			step(node.Client(t), "CLUSTER", "FORGET", gone)
		}
	}
	step(source, "CLUSTER", "RESET", "SOFT")
}

func anys(texts []string) []any {
	out := make([]any, len(texts))
	for i, text := range texts {
		out[i] = text
	}
	return out
}

// TakeOver kills master i, puts its replica in its place, and returns when all nodes know that.
func (c *Cluster) TakeOver(t testing.TB, i int) {
	t.Helper()
	c.Nodes[i].Kill(t)
	rdb := c.Replicas[i].Client(t)
	await(t, "the replica to take over", func() bool {
		_ = rdb.Do(context.Background(), "CLUSTER", "FAILOVER", "TAKEOVER").Err()
		info, err := probe(c.Replicas[i].addr)
		return err == nil && info["role"] == "master"
	})
	c.promoted(t, i)
}

// Owner returns which of the masters has the slot of a key.
func (c *Cluster) Owner(t testing.TB, key string) int {
	t.Helper()
	slot, err := c.Nodes[0].Client(t).ClusterKeySlot(context.Background(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return slices.IndexFunc(slots, func(s [2]int) bool { return int64(s[0]) <= slot && slot <= int64(s[1]) })
}

// join gives node i its slots and an epoch of its own (equal ones collide, and
// sorting that out takes seconds), then introduces it to all before it: waiting for
// gossip to do so takes seconds too.
func (c *Cluster) join(t testing.TB, i int) {
	t.Helper()
	steps := [][]any{
		{"CLUSTER", "SET-CONFIG-EPOCH", i + 1},
		{"CLUSTER", "ADDSLOTSRANGE", slots[i][0], slots[i][1]},
	}
	ctx, rdb := context.Background(), c.Nodes[i].Client(t)
	for _, step := range steps {
		if err := rdb.Do(ctx, step...).Err(); err != nil {
			t.Fatalf("redistest: node %d: %v: %v", i, step, err)
		}
	}
	for j := range c.Nodes[:i] {
		c.meet(t, rdb, j)
	}
}

// meet introduces a node to master j.
func (c *Cluster) meet(t testing.TB, rdb *redis.Client, j int) {
	t.Helper()
	other := c.Nodes[j]
	host, port := split(other.addr)
	_, bus := split(other.busAddr)
	if err := rdb.Do(context.Background(), "CLUSTER", "MEET", host, port, bus).Err(); err != nil {
		t.Fatalf("redistest: meet master %d: %v", j, err)
	}
}

// apart says that the node does not see the whole cluster in good order yet.
func (c *Cluster) apart(s *Server) bool {
	rdb := redis.NewClient(&redis.Options{Addr: s.addr})
	defer rdb.Close()
	text, err := rdb.ClusterInfo(context.Background()).Result()
	info := infoFields(text)
	return err != nil || info["cluster_state"] != "ok" || info["cluster_slots_ok"] != "16384" ||
		info["cluster_known_nodes"] != fmt.Sprint(len(c.Nodes)+len(c.Replicas))
}

// Addrs are the host:port of all masters.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, node := range c.Nodes {
		addrs = append(addrs, node.addr)
	}
	return addrs
}

// Client returns a new client of the cluster, closed when the test ends.
func (c *Cluster) Client(t testing.TB) *redis.ClusterClient {
	t.Helper()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addrs()})
	t.Cleanup(func() { _ = rdb.Close() }) // the test may have closed it
	return rdb
}

// Move gives the slot of a key to the node after the one that has it, key by key, as
// redis-cli --cluster reshard does. Clients are redirected meanwhile.
func (c *Cluster) Move(t testing.TB, key string) {
	t.Helper()
	c.Migrate(t, key)()
}

// Migrate is [Cluster.Move] until all keys are at their new node and the slot is still the old
// one's: clients are told to ask there. finish ends it.
func (c *Cluster) Migrate(t testing.TB, key string) (finish func()) {
	t.Helper()
	ctx := context.Background()
	rdb := c.Nodes[0].Client(t)
	slot := rdb.ClusterKeySlot(ctx, key).Val()
	ids := make([]string, len(c.Nodes))
	from := -1
	for i, node := range c.Nodes {
		text, err := node.Client(t).Do(ctx, "CLUSTER", "MYID").Text()
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = text
		if n, err := node.Client(t).Exists(ctx, key).Result(); err == nil && n == 1 {
			from = i
		}
	}
	if from < 0 {
		t.Fatalf("redistest: no node has %s", key)
	}
	to := (from + 1) % len(c.Nodes)
	source, target := c.Nodes[from].Client(t), c.Nodes[to].Client(t)
	step := func(node *redis.Client, args ...any) {
		t.Helper()
		if err := node.Do(ctx, args...).Err(); err != nil {
			t.Fatalf("redistest: %v: %v", args, err)
		}
	}
	step(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[from])
	step(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to])
	host, port := split(c.Nodes[to].addr)
	for {
		keys, err := source.ClusterGetKeysInSlot(ctx, int(slot), 1).Result()
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) == 0 {
			break
		}
		step(source, "MIGRATE", host, port, keys[0], 0, 5000)
		time.Sleep(20 * time.Millisecond) // while clients see half of a grant here and half there
	}
	return func() {
		t.Helper()
		for _, i := range []int{to, from, (to + 1) % len(c.Nodes)} {
			step(c.Nodes[i].Client(t), "CLUSTER", "SETSLOT", slot, "NODE", ids[to])
		}
	}
}
