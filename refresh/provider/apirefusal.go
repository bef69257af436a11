package provider

import (
	"errors"
	"fmt"
)

// APIRefusal describes a response by which an API of this provider refuses the access token without a 401
// (RFC 6750 §3.1). A response must match every field that is set.
type APIRefusal struct {
	Status int // 0: any
	// Challenge is the error in the Bearer challenge of WWW-Authenticate, e.g. "invalid_token".
	Challenge string
	// Member is where the body, which is JSON, has Value: names with dots between, as "error.code"; in
	// a list each element counts. Empty: Value stands anywhere in the body.
	Member string
	// Value is what the member is, a number also as text: "token_expired", "190".
	Value string
}

func (r APIRefusal) validate() error {
	wrong := func(why string) error { return fmt.Errorf("provider: APIRefusals: %s", why) }
	switch {
	case r.Status != 0 && (r.Status < 100 || r.Status > 599):
		return wrong(fmt.Sprintf("Status %d is none of HTTP's", r.Status))
	case r.Member != "" && r.Value == "":
		return wrong("Member " + oneLine(r.Member) + " needs the Value that it has")
	case r.Challenge == "" && r.Value == "" && r.Status < 400:
		return wrong("an entry must hold a Challenge, a Value, or a Status of 400 or more: it would match every answer")
	}
	return nil
}

func validateRefusals(list []APIRefusal) error {
	var broken []error
	for _, r := range list {
		broken = append(broken, r.validate())
	}
	return errors.Join(broken...)
}
