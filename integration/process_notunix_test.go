//go:build !unix

package integration

func (p *process) stop() { p.t.Skip("processes cannot be stopped here") }
func (p *process) cont() {}
