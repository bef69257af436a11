package engine

import (
	"github.com/tokenlatch/tokenlatch/tokencache/internal/apps"
)

// What the fleet shares of an app, and who is told of changes, is in internal/apps; package refresh knows it by these
// names.
type (
	// AppState is what the whole fleet knows of one app, at one moment.
	AppState = apps.State
	// AppChange is one change of an app's state.
	AppChange = apps.StateChange
	// Change is one state change of a grant, as the journal calls it.
	Change = apps.Change
	// Refusal is an exchange that the provider refused as if it refused the client.
	Refusal = apps.Refusal
	// Acceptance is what Accept notes.
	Acceptance = apps.Acceptance
	// Deaths is how many deaths of grants are believed, within how long, and for how long they are doubted once there
	// are more.
	Deaths = apps.Deaths
)

// RampStep is how long after a pause twice as many exchanges may be made at once, and so on.
const RampStep = apps.RampStep
