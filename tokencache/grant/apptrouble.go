package grant

// AppTrouble is what the state of an app says about its grants: the fields of the key tl:app:… under the
// same names. Times are Redis' clock, unix ms; 0 means none.
type AppTrouble struct {
	Open     bool   // the circuit: the provider refuses the client
	Error    string // class/code/status of the last refusal, of the one that opened the circuit, or of a pause
	OpenedAt int64
	Probes   int64 // refusals in a row since the circuit opened
	ProbeAt  int64 // before it nobody tries again; while a process does, when that has ended for sure
	// Brake, with Open, are the digests of the profiles with which the provider's successes
	// cannot be read. Nobody probes; only the tenants that were refused go on.
	Brake          string
	DownAt         int64 // since when the provider fails for so many tenants that it fails for all
	MassAt         int64 // since when more grants have died than is believed
	MassTryAt      int64 // before it none of those is tried again
	ThrottledUntil int64 // before it there are no exchanges
	// Refused are the fingerprints of the tenants that were refused in a row, with no acceptance in between; of
	// hosts, where tenants have token endpoints at several.
	Refused string
	ByHost  map[string]*AppTrouble // what it says about each host of which there is a doubt, by name; nil for none
	LostAt  int64                  // since then a tenant without a grant may have had one; 0 once that is accepted
}
