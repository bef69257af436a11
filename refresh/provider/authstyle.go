package provider

import (
	"errors"

	"golang.org/x/oauth2"
)

// authStyle refuses auto-detection, which asks a second time after any error of
// the first.
func authStyle(field string, styles ...oauth2.AuthStyle) (oauth2.AuthStyle, error) {
	for _, s := range styles {
		if explicit(s) {
			return s, nil
		}
		if s != oauth2.AuthStyleAutoDetect {
			break
		}
	}
	return 0, errors.New("provider: " + field + " must be explicit, auto-detection asks a second time after an error and may present a refresh token twice: " +
		"write oauth2.AuthStyleInHeader (client_secret_basic) or oauth2.AuthStyleInParams (client_secret_post), as your provider's documentation says")
}

func explicit(s oauth2.AuthStyle) bool {
	return s == oauth2.AuthStyleInHeader || s == oauth2.AuthStyleInParams
}
