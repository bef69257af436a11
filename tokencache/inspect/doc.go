// Package inspect reads grants for people: for a command, a page, a sidecar.
//
//	in, err := inspect.New(rdb, inspect.Config{})
//	for row, err := range in.List(ctx, "zoom") {
//		…
//	}
//
// An Inspector needs neither the keyset nor the app's configuration. It reads no token: the keys of the
// sealed pairs are not asked for, and its Redis user needs no right to them. It writes nothing. It
// works on one server, with Sentinel, and on a Cluster.
//
// What it cannot read of one grant, such as a damaged record, is said of that grant, and what it cannot
// read of one node is said of that node: the others are listed all the same.
package inspect
