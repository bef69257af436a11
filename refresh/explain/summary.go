package explain

import (
	"fmt"
	"slices"
)

// Summary says what is the matter with an app as a whole.
type Summary struct {
	Grants  int     `json:"grants"`
	Trouble int     `json:"trouble"` // of which the level is warning or error
	Counts  []Count `json:"counts"`  // the most frequent code first
	// Cause is the most frequent code of those in trouble, of several the one that does not pass by itself; or what
	// stops the app as a whole, see [Summary.Under]. Who acts about it. Both are empty where there is no trouble.
	Cause string `json:"cause"`
	Who   string `json:"who"`
	Title string `json:"title"` // one line
	said  string // of its grants
}

// Count is how many grants have a code.
type Count struct {
	Code  string `json:"code"`
	Count int    `json:"count"`
}

// Sum sums up the codes of an app's grants: whether the trouble is one tenant's, or everybody's. Codes
// that are none are left out.
func Sum(app string, grants map[string]int) Summary {
	s := Summary{Counts: []Count{}}
	most := 0
	for _, k := range kinds {
		n := grants[k.code]
		if n <= 0 {
			continue
		}
		s.Grants += n
		s.Counts = append(s.Counts, Count{k.code, n})
		if k.level != Warning && k.level != Error {
			continue
		}
		if s.Trouble += n; n > most || n == most && k.level == Error && kindOf(s.Cause).level != Error {
			most, s.Cause, s.Who = n, k.code, k.who
		}
	}
	slices.SortStableFunc(s.Counts, func(a, b Count) int { return b.Count - a.Count })
	s.said = s.says(most)
	s.Title = oneLine(app + ": " + s.said)
	return s
}

// Under puts the trouble of the app as a whole before that of its grants. code is what it makes of a grant
// that needs a new pair, and why names the app and says in one line what is the matter.
func (s Summary) Under(code, why string) Summary {
	switch { // the app's trouble is theirs, sooner or later
	case s.Trouble == 0 && s.Grants == 1:
		s.said = "its one grant is not in trouble yet"
	case s.Trouble == 0 && s.Grants > 1:
		s.said = fmt.Sprintf("none of its %d grants is in trouble yet", s.Grants)
	}
	s.Cause, s.Who = code, kindOf(code).who
	s.Title = oneLine(fmt.Sprintf("%s (%s): %s acts; %s", why, code, s.Who, s.said))
	return s
}

func (s Summary) says(most int) string {
	switch {
	case s.Grants == 0:
		return "there is no grant"
	case s.Trouble == 0 && s.Grants == 1:
		return "all is well with its one grant"
	case s.Trouble == 0:
		return fmt.Sprintf("all is well with its %d grants", s.Grants)
	}
	share := fmt.Sprintf("most of them (%d)", most)
	if 2*most <= s.Trouble {
		share = fmt.Sprintf("%d of them", most)
	}
	return fmt.Sprintf("%d of %d grants are in trouble, %s for one reason (%s): %s acts", s.Trouble, s.Grants, share, s.Cause, s.Who)
}
