package provider

import (
	"maps"
	"slices"
	"strings"
)

// placeDepth is how far below the top a pair is looked for.
const placeDepth = 5

// pairNames are the members of a pair. A profile may rename them.
var pairNames = []string{"access_token", "refresh_token", "token_type", "scope", "expires_in"}

// place is where the pair of an answer is.
type place struct {
	own    members // the object that holds the access token
	around members // what is beside it at the top
	top    members
	whole  bool   // nothing of own was cut off
	below  bool   // own is not the top itself
	in     string // the member of the top that own is in
	rival  bool   // the top has an access token of its own
	names  map[string]string
}

// placeOf finds the pair: where the profile says, else at the top, else in the only object below that
// holds an access token. Of two nobody knows which is the grant's.
func placeOf(p Profile, m members, whole bool) (place, bool) {
	top := place{own: m, top: m, whole: whole, names: p.MemberNames}
	rival := top.text("access_token") != ""
	if head, _, _ := strings.Cut(p.PairIn, "."); head != "" {
		if at := below(top, member{name: head, value: m.at(p.PairIn)}); len(at) == 1 {
			return at[0].beside(head, rival), true
		}
	}
	if rival {
		return top, true
	}
	var all []place
	for i := 0; i < len(m) && len(all) < 2; i++ {
		all = append(all, below(top, m[i])...)
	}
	if len(all) != 1 {
		return place{}, false
	}
	return all[0].beside(all[0].in, false), true
}

// beside is a place with what is around it: all at the top but the member that it was found in.
func (at place) beside(in string, rival bool) place {
	at.around = slices.DeleteFunc(slices.Clone(at.top), func(mem member) bool { return sameName(mem.name, in) })
	at.rival = rival
	return at
}

// below returns the places of access tokens in a member of the top, two at most, not looking for further
// ones inside of those.
func below(top place, in member) (all []place) {
	var look func(v any, whole bool, depth int)
	object := func(m members, whole bool, depth int) {
		at := place{own: m, top: top.own, in: in.name, whole: whole, below: true, names: top.names}
		if at.text("access_token") == "" {
			for _, mem := range m {
				look(mem.value, whole, depth-1)
			}
			return
		}
		all = append(all, at)
	}
	look = func(v any, whole bool, depth int) {
		if len(all) > 1 {
			return
		}
		switch v := v.(type) {
		case map[string]any:
			if depth > 0 {
				object(membersOf(v), whole, depth)
			}
		case []any:
			for i := 0; depth > 0 && i < len(v); i++ {
				look(v[i], whole, depth-1)
			}
		case string: // e.g. the "body" of a function behind a gateway
			if v = strings.TrimSpace(v); depth > 0 && strings.HasPrefix(v, "{") {
				m, all := readJSON([]byte(v))
				object(m, whole && all, depth)
			}
		}
	}
	look(in.value, top.whole, placeDepth)
	return all
}

// find returns a member of a pair by its name in the standard. What is not beside the access token may
// be at the top.
func (at place) find(name string) any {
	where := []members{at.own, at.around}
	if at.rival { // what is around is about the other pair
		where = where[:1]
	}
	for _, m := range where {
		for _, called := range []string{at.names[name], name} {
			if v := m.at(called); called != "" && v != nil {
				return v
			}
		}
	}
	return nil
}

func (at place) text(name string) string { return text(at.find(name)) }

// refreshTokenElsewhere is the only refresh token of the answer that is in no object of another access
// token, and was not presented: a provider that rotates has spent that one.
func (at place) refreshTokenElsewhere(presented []string) string {
	own, found := at.text("access_token"), ""
	many := false
	var look func(v any, depth int)
	object := func(m members, depth int) {
		here := place{own: m, names: at.names}
		if token := here.text("access_token"); token != "" && token != own {
			return
		}
		if said := here.text("refresh_token"); said != "" && said != found && !slices.Contains(presented, said) {
			many = found != ""
			found = said
		}
		for i := 0; i < len(m) && !many; i++ {
			look(m[i].value, depth-1)
		}
	}
	look = func(v any, depth int) {
		switch v := v.(type) {
		case map[string]any:
			if depth > 0 {
				object(membersOf(v), depth)
			}
		case []any:
			for i := 0; depth > 0 && i < len(v) && !many; i++ {
				look(v[i], depth-1)
			}
		}
	}
	object(at.top, placeDepth+1)
	if object(at.own, placeDepth+1); many {
		return ""
	}
	return found
}

// echoes reports whether the access token is one that was presented, found below the top: an answer
// that says no may quote the request.
func (at place) echoes(secrets []string) bool {
	return at.below && slices.Contains(secrets, at.text("access_token"))
}

// without returns the members of other names, those beside the access token over those at the top; nil
// when there are none.
func (at place) without(names ...string) map[string]any {
	for _, called := range at.names {
		head, _, _ := strings.Cut(called, ".")
		names = append(names, called, head)
	}
	rest, own := at.around.without(names...), at.own.without(names...)
	if rest == nil {
		return own
	}
	maps.Copy(rest, own)
	return rest
}

// at returns the member at a path, such as "data.user".
func (m members) at(path string) any {
	if v := m.find(path); v != nil {
		return v
	}
	head, rest, deeper := strings.Cut(path, ".")
	object, ok := m.find(head).(map[string]any)
	if !deeper || !ok {
		return nil
	}
	return membersOf(object).at(rest)
}
