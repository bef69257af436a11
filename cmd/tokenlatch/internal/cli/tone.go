package cli

// Tone is how a thing is to be taken; package term turns it into colour.
type Tone uint8

const (
	Plain Tone = iota
	Calm       // as it should be
	Busy       // under way
	Alarm      // somebody must act
	Faint      // unimportant
	Bold
)
