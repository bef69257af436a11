package provider

import (
	"net/http"
	"net/url"
	"slices"
)

// Params adds to [Request.Params]. It wins over the profile's parameters of the same name.
func Params(params url.Values) Option {
	return func(a *asking) {
		if a.Params == nil {
			a.Params = url.Values{}
		}
		for name, values := range params {
			a.Params[name] = slices.Clone(values)
		}
	}
}

// Header adds to [Request.Header]. It wins over the profile's headers of the same name.
func Header(header http.Header) Option {
	return func(a *asking) {
		if a.Header == nil {
			a.Header = http.Header{}
		}
		for name, values := range header {
			a.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		}
	}
}

// JSONBody is the [Option] that sets [Request.JSON].
func JSONBody(a *asking) { a.JSON = true }
