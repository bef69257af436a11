package engine

import (
	"context"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Status reads a grant's state. The error is ErrNone, or says why Redis did not answer.
func (g Grant) Status(ctx context.Context) (grant.Status, error) {
	a, err := g.read(ctx)
	if err != nil {
		return grant.Status{}, err
	}
	if a.damaged != nil {
		return grant.Status{}, a.damaged
	}
	if a.snap == nil {
		return grant.Status{}, grant.ErrNone
	}
	return g.key.Status(&a.snap.Record, a.now), nil
}
