package provider

import "strings"

// WithoutRefreshTokens returns a copy of v, a value as encoding/json decodes it, without
// the members named refresh_token at any depth, in any case, also spelled refreshToken.
// Callers get to see what is in [Pair.Extra]; a refresh token is not for them.
func WithoutRefreshTokens(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return pick(v, WithoutRefreshTokens)
	case map[string]string:
		return pick(v, func(s string) string { return s })
	case []any:
		return each(v, WithoutRefreshTokens)
	case []map[string]any:
		return each(v, func(m map[string]any) map[string]any { return pick(m, WithoutRefreshTokens) })
	default:
		return v
	}
}

func pick[V any](m map[string]V, inner func(V) V) map[string]V {
	if m == nil {
		return nil
	}
	out := make(map[string]V, len(m))
	for name, v := range m {
		if !namesRefreshToken(name) {
			out[name] = inner(v)
		}
	}
	return out
}

func each[V any](list []V, inner func(V) V) []V {
	if list == nil {
		return nil
	}
	out := make([]V, len(list))
	for i, v := range list {
		out[i] = inner(v)
	}
	return out
}

func namesRefreshToken(name string) bool {
	return sameName(name, "refresh_token") || strings.EqualFold(name, "refresh_token")
}
