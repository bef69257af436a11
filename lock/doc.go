// Package lock gives one process at a time a lease on a key in Redis.
//
//	locker := lock.New(lock.Config{}, rdb)
//	lease, err := locker.Try(ctx, "tl:{zoom:acme}:lock")
//	if errors.Is(err, lock.ErrHeld) {
//		return err // somebody else works; a *HeldError says who and for how long
//	}
//	if err != nil {
//		return err // Redis did not answer
//	}
//	defer lease.Release(ctx)
//	work(lease.Context())
//
// It is a thin coat over Redsync:
//
//  1. Try sets the key once, with an expiry, if nobody has it. It never waits
//     for a holder and never tries again behind the caller's back.
//  2. A goroutine extends the lease every third of its TTL until Release.
//  3. When no extension succeeded in time, a local timer ends the trust:
//     Context is cancelled with cause [ErrLost]. The timer counts from before the
//     last successful request was sent, so it fires before the key can expire.
//  4. Release deletes the key if it is still this lease's.
//
// With several independent Redis servers a majority decides. One that is dead or hangs holds the others up
// for a fortieth of the TTL, once. Where contenders split the votes, each gives back what it has and asks
// again after a short random time.
//
// What is not promised: that the holder notices in time. A process can be paused
// between a look at Context and the next line, for longer than the TTL. A lease
// saves work; whatever must not happen twice needs a check where it is stored.
package lock
