// Package lock gives one process at a time a lease on a key in Redis.
//
//	locker := lock.New(lock.Config{}, rdb)
//	lease, err := locker.Try(ctx, "tl:{zoom:acme}:lock")
//	if errors.Is(err, lock.ErrHeld) {
//		return err // another process works; a *HeldError says which, and for how long
//	}
//	if err != nil {
//		return err // Redis did not answer
//	}
//	defer lease.Release(ctx)
//	work(lease.Context())
//
// A lease is a lock that runs out. The package is a thin layer over Redsync:
//
//  1. Try sets the key once, with an expiry, if nobody has it. It never waits
//     for a holder and never tries again behind the caller's back.
//  2. A goroutine extends the lease every third of its TTL until Release.
//  3. If no extension succeeds in time, a local timer ends the trust in the lease:
//     Context is cancelled with cause [ErrLost]. The timer counts from before the
//     last successful request was sent, so it fires before the key can expire.
//  4. Release deletes the key if it is still this lease's.
//
// With several independent Redis servers a majority decides. A server that is dead or hangs delays the
// answer of the others by a fortieth of the TTL, once. If several processes split the votes, each gives
// back what it has, and asks again after a short random time.
//
// What is not promised: that the holder notices in time that its lease has ended. A process can be
// paused between a look at Context and the next line, for longer than the TTL. A lease saves work. What
// must not happen twice needs a check in the store itself.
package lock
