package engine

import (
	"context"

	"github.com/tokenlatch/tokenlatch/tokencache/grant"
)

// Status reads a grant's state. The error is ErrNone, or says why Redis did not answer.
func (g Grant) Status(ctx context.Context) (grant.Status, error) {
	a, err := g.in().Fetch(ctx)
	if err != nil {
		return grant.Status{}, err
	}
	if a.Damaged != nil {
		return grant.Status{}, a.Damaged
	}
	if a.Snap == nil {
		return grant.Status{}, grant.ErrNone
	}
	r := a.Snap.Record
	return grant.Status{
		Key: g.key, State: r.State, Reason: r.Reason, Generation: r.Generation, Epoch: grant.Time(r.Epoch),
		IssuedAt: grant.Time(r.IssuedAt), ExpiresAt: grant.Time(r.ExpiresAt), RefreshAt: grant.Time(r.RefreshAt),
		RefreshTokenExpiresAt: grant.Time(r.RefreshTokenExpiresAt),
		UsedAt:                grant.Time(r.UsedAt), WarnedAt: grant.Time(r.WarnedAt),
		AccessTokenFingerprint: r.AccessFP, RefreshTokenFingerprint: r.RefreshFP, By: r.By,
		ClaimBy: r.Claim.By, ClaimAt: grant.Time(r.Claim.At), ClaimUntil: grant.Time(r.Claim.Until),
		UnresolvedPresentations: r.Claim.N,
		Fails:                   r.Fails, RetryAt: grant.Time(r.RetryAt), ErrorAt: grant.Time(r.ErrorAt), Error: r.Error,
		Rejects: r.Rejects, RejectAt: grant.Time(r.RejectAt),
		Now: grant.Time(a.Now),
	}, nil
}
