package store

import (
	"cmp"
	"context" // as scripts have it
	"errors"
	"net"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Together runs a few reads about one key in one round trip, and asks for Redis' time if that is wanted.
// On a Cluster they all go to the node that has the key, whose time it is then. What is of another type is
// no error.
func (st *Store) Together(ctx context.Context, key string, askTime bool, reads func(redis.Pipeliner)) (now int64, err error) {
	var clock *redis.StringSliceCmd
	commands := func(p redis.Pipeliner) error {
		if reads(p); !askTime {
			return nil
		}
		clock = redis.NewStringSliceCmd(ctx, "time") // as text: a time.Time could be taken for this machine's
		return p.Process(ctx, clock)
	}
	cluster, ok := st.Redis.(*redis.ClusterClient)
	if !ok {
		err = firstError(st.Redis.Pipelined(ctx, commands))
	} else {
		var node *redis.Client
		if node, err = cluster.MasterForKey(ctx, key); err == nil {
			err = firstError(node.Pipelined(ctx, commands))
		}
		if err != nil && !timedOut(err) {
			err = firstError(cluster.TxPipelined(ctx, commands)) // follows a key that has moved to another node
		}
	}
	if err != nil || !askTime {
		return 0, err
	}
	return Millis(clock.Val())
}

// firstError is the first error of some commands that is not about a key's type. Of a transaction Redis
// says why it failed in the answer to one of its commands, and in the others no more than EXECABORT.
func firstError(commands []redis.Cmder, err error) error {
	var aborted error
	for _, cmd := range commands {
		switch err := cmd.Err(); {
		case redis.HasErrorPrefix(err, "EXECABORT"):
			aborted = err
		case err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE"):
			return err
		}
	}
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		err = nil
	}
	return cmp.Or(aborted, err)
}

func timedOut(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// Millis reads the answer of TIME: seconds, and microseconds in that second.
func Millis(answer []string) (int64, error) {
	if len(answer) != 2 {
		return 0, errors.New("TIME answered no time")
	}
	seconds, err := strconv.ParseInt(answer[0], 10, 64)
	if err != nil {
		return 0, errors.New("TIME answered no time")
	}
	micros, err := strconv.ParseInt(answer[1], 10, 64)
	if err != nil {
		return 0, errors.New("TIME answered no time")
	}
	return seconds*1000 + micros/1000, nil
}
