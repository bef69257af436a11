package cli

// Exit codes of every command.
const (
	ExitOK     = 0
	ExitFailed = 1 // it ran, and the answer is no
	ExitUsage  = 2 // it was not understood
)
