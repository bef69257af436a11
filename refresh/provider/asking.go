package provider

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"
)

// Option changes how the provider is asked, in addition to what its [Profile] says. All options are
// applied before anything is sent: an error of one of them is [Unsent].
type Option func(*asking)

// asking is how one app asks its provider.
type asking struct {
	Request
	shapes   []func(*draft) error             // make the request what it is to be, in this order
	proves   []func(*draft) error             // come last: they sign what is sent
	hears    []func(*draft, http.Header) bool // see each answer's header; true: ask again, knowing it
	tls      *tls.Config
	keyed    bool // the client authenticates by a key: its secret is not sent
	signs    bool // … but a JWT is signed by the secret
	unstyled bool // the client need not say how it shows its secret: it shows none
	broken   []error
}

func newAsking(p Profile, opts []Option) (asking, error) {
	a := asking{Request: p.Request.clone()}
	for _, o := range opts {
		if o != nil {
			o(&a)
		}
	}
	return a, errors.Join(append(a.broken, a.Request.validate())...)
}

// Authenticate lets a function of yours change a request just before it is sent: form will be its body,
// header its header. It is for clients that authenticate as no standard says, e.g. with a secret that is
// itself a signed token (Apple), or with a digest over the parameters. What set writes as client_secret,
// client_assertion or in Authorization never comes back in an error's code. If set returns an error,
// nothing is sent, and no error of this package quotes that error's text.
func Authenticate(set func(ctx context.Context, g Grant, form url.Values, header http.Header) error) Option {
	return func(a *asking) {
		if set == nil {
			a.broken = append(a.broken, errors.New("provider: Authenticate: the function is missing"))
			return
		}
		a.unstyled = true
		a.shapes = append(a.shapes, func(d *draft) error {
			if err := set(d.ctx, d.grant, d.form, d.header); err != nil {
				return errors.Join(errUnshaped, err)
			}
			d.hide(d.form.Get("client_secret"), d.form.Get("client_assertion"), d.header.Get("Authorization"))
			return nil
		})
	}
}

// MutualTLS presents a client certificate (RFC 8705). Set Certificates in cfg, or GetClientCertificate if
// they are renewed while the process lives. cfg becomes the TLS configuration of the first Transport of
// the [TokenEndpoint]; a Transport of your own needs one of its own. The client names itself by client_id
// in the body, and shows its secret only if it has one.
func MutualTLS(cfg *tls.Config) Option {
	return func(a *asking) {
		if cfg == nil || len(cfg.Certificates) == 0 && cfg.GetClientCertificate == nil {
			a.broken = append(a.broken, errors.New("provider: MutualTLS: the client's certificate is missing: set Certificates or GetClientCertificate"))
			return
		}
		a.tls, a.unstyled = cfg.Clone(), true
	}
}

// credentials are those of a client, and where it shows them.
type credentials struct {
	id, secret string
	url        string
	style      oauth2.AuthStyle
	scopes     []string
}

// draft is a request that can still be changed.
type draft struct {
	ctx     context.Context
	grant   Grant
	client  credentials
	form    url.Values
	header  http.Header
	secrets []string // that it shows, besides those known beforehand
	nonce   any      // of its DPoP proof; nil for none
}

func (d *draft) hide(secrets ...string) {
	for _, s := range secrets {
		if s != "" {
			_, credentials, _ := strings.Cut(s, " ") // of an Authorization
			d.secrets = append(d.secrets, s, credentials)
		}
	}
}

// style returns how the client shows its secret, if it shows one.
func (a asking) style(field, secret string, styles ...oauth2.AuthStyle) (oauth2.AuthStyle, error) {
	if a.keyed {
		return oauth2.AuthStyleInParams, nil
	}
	if a.unstyled && (secret == "" || !slices.ContainsFunc(styles, explicit)) {
		return oauth2.AuthStyleInParams, nil
	}
	return authStyle(field, styles...)
}

func errNoKey(call string) error {
	return errors.New("provider: " + call + ": ClientAssertion has no Key, and there is no ClientSecret to sign with")
}

// shownSecret is the secret as far as it is sent.
func (a asking) shownSecret(secret string) string {
	if a.keyed {
		return ""
	}
	return secret
}

// shape makes of a request that x/oauth2 has written the one that is sent. The body that is wrapped
// is the one that leaves, so nobody having read it still proves that nothing left.
func (a asking) shape(req *http.Request, d *draft) error {
	body, err := io.ReadAll(req.Body)
	_ = req.Body.Close()
	if err != nil {
		return errors.Join(errUnshaped, err)
	}
	if d.form, err = url.ParseQuery(string(body)); err != nil {
		return errors.Join(errUnshaped, err)
	}
	d.header = req.Header
	if err := a.fill(d); err != nil {
		return err
	}
	for old, name := range a.Names {
		if values, ok := d.form[old]; ok {
			delete(d.form, old)
			d.form[name] = values
		}
	}
	body, media, err := a.encode(d.form)
	if err != nil {
		return errors.Join(errUnshaped, err)
	}
	if req.Header.Get("Content-Type") == "" || a.JSON && len(a.Header["Content-Type"]) == 0 {
		req.Header.Set("Content-Type", media)
	}
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}

// fill sets parameters and headers, then asks the options for theirs.
func (a asking) fill(d *draft) error {
	if a.Scopes && len(d.client.scopes) > 0 {
		d.form.Set("scope", strings.Join(d.client.scopes, " "))
	}
	for name, values := range a.Params {
		delete(d.form, name)
		for _, v := range values {
			if hasTenantMark(v) && d.grant.Tenant == "" {
				return errNoTenant
			}
			d.form.Add(name, strings.ReplaceAll(v, tenantMark, d.grant.Tenant))
		}
	}
	for name, values := range a.Header {
		d.header[name] = slices.Clone(values)
		if !slices.Contains(plainHeaders, name) {
			d.hide(values...)
		}
	}
	for _, do := range slices.Concat(a.shapes, a.proves) {
		if err := do(d); err != nil {
			return err
		}
	}
	return nil
}

// plainHeaders hold no secrets, but words that an error's code may share.
var plainHeaders = []string{"Accept", "Accept-Language", "Content-Type", "User-Agent"}

func (a asking) encode(form url.Values) (body []byte, media string, err error) {
	if !a.JSON {
		return []byte(form.Encode()), "application/x-www-form-urlencoded", nil
	}
	object := make(map[string]any, len(form))
	for name, values := range form {
		object[name] = values
		if len(values) == 1 {
			object[name] = values[0]
		}
	}
	body, err = json.Marshal(object)
	return body, "application/json", err
}

// hear tells the options what an answer's header says. An answer that they need before they can ask
// properly has refused the request: the refresh token was not looked at. A 5xx never proves that.
func (a asking) hear(d *draft, answer Answer, err error) error {
	again := false
	for _, hear := range a.hears {
		again = hear(d, answer.Header) || again
	}
	var e *Error
	if again && answer.Status/100 == 4 && errors.As(err, &e) && e.Code == codeWantsNonce {
		e.Class, e.again = Busy, true
	}
	return err
}

// codeWantsNonce is RFC 9449 §8's.
const codeWantsNonce = "use_dpop_nonce"
