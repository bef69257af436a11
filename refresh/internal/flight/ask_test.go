package flight

import "testing"

// What replicas have acknowledged is not guessed at: Redis is not asked how old it is.
func TestWithReplicasNoServerIsDoubted(t *testing.T) {
	f := &flight{Flights: &Flights{Config: Config{Replicas: 1}}}
	if judged, left, doubtful, err := f.mayHaveLost(nil); judged != nil || left != 0 || doubtful || err != nil {
		t.Errorf("%v %v %v", left, doubtful, err)
	}
}
