package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"
)

// deaf hides the end of the ctx from the transport: of the two things that are ready when a
// stopped process goes on, the end and the connection, it always sees the connection.
type deaf struct{ base http.RoundTripper }

func (d deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	return d.base.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
}

func TestNothingIsPresentedAfterTheDeadline(t *testing.T) {
	for name, after := range map[string]time.Duration{"at it": 0, "past it": time.Nanosecond, "long past it": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				ep := endpoint(t, "https://token.invalid", Profile{})
				ep.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
					time.Sleep(time.Second + after) // DNS, dial, TLS
					got, err := io.ReadAll(r.Body)
					if len(got) > 0 {
						t.Errorf("%d bytes leave %s after the deadline", len(got), after)
					}
					return nil, err
				})
				e := refuses(t, ep, ctx, Unsent)
				if !errors.Is(e, context.DeadlineExceeded) || !strings.Contains(e.Error(), "deadline passed before the request was sent") {
					t.Error(e)
				}
			})
		})
	}
}

func TestARequestThatBeganBeforeTheDeadlineLeavesWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ep := endpoint(t, "https://token.invalid", Profile{})
		ep.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second - time.Nanosecond)
			if got, err := io.ReadAll(r.Body); !strings.Contains(string(got), canaryRefresh) || err != nil {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			return nil, io.EOF
		})
		refuses(t, ep, ctx, Ambiguous)
	})
}

// The rest of a body that has begun to leave stays, and nobody calls that unsent.
func TestABodyThatIsCutByTheDeadlineIsAmbiguous(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ep := endpoint(t, "https://token.invalid", Profile{})
		ep.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if _, err := r.Body.Read(make([]byte, 3)); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			rest, err := io.ReadAll(r.Body)
			if len(rest) > 0 {
				t.Errorf("%d bytes leave after the deadline", len(rest))
			}
			return nil, err
		})
		refuses(t, ep, ctx, Ambiguous)
	})
}

func TestAHandshakeThatOutlastsTheDeadlineSendsNoBody(t *testing.T) {
	key := signingKey(t)
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			var bodies, shakes atomic.Int32
			var outlasts atomic.Value // a ctx's Done
			outlasts.Store((<-chan struct{})(nil))
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if body, _ := io.ReadAll(r.Body); len(body) > 0 {
					bodies.Add(1)
				}
				fmt.Fprint(w, `{"access_token":"a","refresh_token":"r"}`)
			}))
			s.EnableHTTP2 = version == "HTTP/2"
			s.Config.ErrorLog = silent
			s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				shakes.Add(1)
				if ended := outlasts.Load().(<-chan struct{}); ended != nil {
					<-ended
				}
				return nil, nil
			}}
			s.StartTLS()
			defer s.Close()
			endpoints := map[string]*TokenEndpoint{"OAuth2": endpoint(t, s.URL, Profile{})}
			for name, maker := range map[string]func() (Provider, error){
				"ClientCredentials": func() (Provider, error) {
					return ClientCredentials(&clientcredentials.Config{ClientID: "id", TokenURL: s.URL}, header)
				},
				"JWTBearer": func() (Provider, error) {
					return JWTBearer(&jwt.Config{Email: "e", PrivateKey: key, TokenURL: s.URL}, Profile{})
				},
			} {
				p, err := maker()
				if err != nil {
					t.Fatal(err)
				}
				endpoints[name] = p.Exchanger.(*TokenEndpoint)
			}
			for name, ep := range endpoints {
				base := s.Client().Transport.(*http.Transport).Clone()
				ep.Transport = deaf{base}
				before := shakes.Load()
				for d := 20 * time.Millisecond; shakes.Load() == before; d *= 2 { // a busy machine may not even have dialed
					ctx := ctxFor(t, d)
					outlasts.Store(ctx.Done())
					refuses(t, ep, ctx, Unsent)
				}
				if bodies.Load() != 0 {
					t.Errorf("%s: %d bodies in %d handshakes", name, bodies.Load(), shakes.Load()-before)
				}
				outlasts.Store((<-chan struct{})(nil))
				// The same way with time enough brings the pair, and is the only one whose body arrives.
				if _, err := ep.Exchange(ctxFor(t, 10*time.Second), grant); err != nil || bodies.Swap(0) != 1 {
					t.Errorf("%s: %v", name, err)
				}
				base.CloseIdleConnections()
			}
		})
	}
}
