package grant

import (

	// as scripts have it
	"errors"
)

// ErrNone says that Redis has no such grant and this process remembers none.
var ErrNone = errors.New("tokencache: no such grant")

// ErrNotReplicated says that a change is stored, and that fewer replicas than wanted have
// acknowledged it in time: a failover could lose it.
var ErrNotReplicated = errors.New("tokencache: not acknowledged by the replicas of Redis: they are away or lag, see INFO replication")

// ErrUnfit is in the chain of the error about a Redis that cannot do what is needed: its version, the
// rights of its user, a proxy in front of it. Trying again does not help.
var ErrUnfit = errors.New("tokencache: this Redis cannot do what is needed")
