package refreshtest

import (
	"slices"
	"time"
)

// faults are what the tests have planned for exchanges. Guarded by world.mu.
type faults struct {
	script []*Step
	gates  []*Gate
	before time.Duration // latency before the commit
	after  time.Duration // latency after the commit
}

// add queues steps.
func (f *faults) add(steps ...Step) {
	for _, step := range steps {
		if step.Times == 0 {
			step.Times = 1
		}
		f.script = append(f.script, &step)
	}
}

// takeStep returns the step of an exchange that arrives. Call with mu held.
func (f *faults) takeStep(tenant string) Step {
	for i, step := range f.script {
		if step.Tenant != "" && step.Tenant != tenant {
			continue
		}
		if step.Times > 0 {
			step.Times--
		}
		if step.Times == 0 {
			f.script = slices.Delete(f.script, i, i+1)
		}
		return *step
	}
	return Step{}
}

// takeGate returns the gate that stops a tenant's exchange n at the point, or nil. Call with mu held.
func (f *faults) takeGate(at Point, tenant string, n int) *Gate {
	for i, g := range f.gates {
		if g.at == at && (len(g.tenants) == 0 || slices.Contains(g.tenants, tenant)) {
			f.gates = slices.Delete(f.gates, i, i+1)
			g.caught = n
			return g
		}
	}
	return nil
}

// latency returns how long an exchange takes at a point. Call with mu held.
func (f *faults) latency(at Point) time.Duration {
	if at == AfterCommit {
		return f.after
	}
	return f.before
}
