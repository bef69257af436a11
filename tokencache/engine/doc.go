// Package engine keeps grants in Redis: the record, the sealed pair, every
// change of state, and the events by which all workers learn of it at once.
// Package refresh decides and drives it; this package stores. It follows refresh,
// and not semantic versioning. What lies below the handles is in tokencache/internal: what a process
// remembers (memory), what it believes and gives back (inbox), an app as a whole (apps), what is due (due).
// How a grant changes:
//
//  1. Connect stores the first pair of a consent under a new epoch.
//  2. Claim notes, durably, that one process presents generation N until a deadline.
//  3. Commit stores the pair which that brought, as generation N+1. Fail notes that
//     none came, and why.
//  4. Each of them is one Lua script: it checks, writes, appends to the journal and
//     publishes in one step, by Redis' clock. Each is safe to run twice.
//  5. Every process that holds the grant in memory is subscribed to its channel and
//     has the new state, pair included, one push later. Memory is trusted only while
//     that subscription stands and the process's own heartbeat comes back ([Grant.Peek]).
//
// (epoch, generation) orders the pairs of a grant, and in a process's eyes it never
// goes backwards: a record older than memory is repaired from memory. What a server that
// has only just begun may have lost is doubted ([Grant.MayHaveLost]).
//
// What is believed: Redis, as far as its numbers can be true; a push only if its sender proves that it
// can read the grants, and only for seconds. A process gives back to Redis what it has
// read, made, or been sent with a pair that opens, never what it has merely heard of.
//
// Records, sealed pairs and messages carry a version. A process leaves what a later one wrote alone
// ([ErrNewer]), and reads again where it does not understand a message: two neighbouring versions in
// one fleet cost reads, not grants.
//
// What is not promised: that a token on its way cannot be revoked by the provider,
// and that grants survive a Redis which loses its data while no worker remembers them.
package engine
