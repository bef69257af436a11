// Package grant has the values that a grant is made of: its key, record, claim, token pair, and the
// message that tells of a change. It knows neither Redis nor memory, and starts nothing.
//
// (epoch, generation, rev) orders the states of a grant, see [Record.Compare]. Times are Redis' clock,
// unix ms; 0 is none.
package grant
