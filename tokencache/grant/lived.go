package grant

import (
	"cmp"
	"time"
)

// LearnedLife returns how long access tokens live, whatever the provider says, of a grant with that Record.Lived: they were
// refused at that age again and again. 0 where nothing was learned.
func LearnedLife(lived string) time.Duration {
	n, err := ParseNumber(cmp.Or(lived, "0"), century/1000)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// LivedAfter is Record.Lived once a pair is stored whose access token lives so many ms, as commit.lua has it.
// refused says that an API refused the token before.
func LivedAfter(lived string, refused bool, life int64) string {
	learned := LearnedLife(lived).Milliseconds()
	if learned > 0 && life > 0 && life < learned || learned == 0 && !refused {
		return ""
	}
	return lived
}
