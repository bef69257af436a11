package provider

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// sentAt is the Date of an answer, by a clock that is nobody's here.
var sentAt = time.Date(2015, 10, 21, 7, 28, 0, 0, time.UTC)

func jwtOf(claims string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"none"}`)) + "." + enc([]byte(claims)) + ".c2ln"
}

func lifeSaid(t *testing.T, p Profile, body string, date bool) Pair {
	t.Helper()
	a := Answer{Status: 200, Header: http.Header{}, Body: []byte(body)}
	if date {
		a.Header.Set("Date", sentAt.Format(http.TimeFormat))
	}
	pair, err := Classify(p, a)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return pair
}

func TestALifetimeIsReadInEachOfItsForms(t *testing.T) {
	end := sentAt.Add(30 * day)
	s, ms := end.Unix(), end.UnixMilli()
	millis := Profile{ExpiresInUnit: time.Millisecond}
	for _, c := range []struct {
		p       Profile
		members string
		want    time.Duration
		undated time.Duration // without the answer's Date
	}{
		// Square: a date, and nothing else.
		{Profile{}, `"expires_at":"2015-11-20T07:28:00Z"`, 30 * day, 0},
		{Profile{}, `"expires_at":"2015-11-20T07:28:00.000Z"`, 30 * day, 0},
		{Profile{}, `"expires_at":"2015-11-20T09:28:00+02:00"`, 30 * day, 0},
		{Profile{}, `"expires_at":"2015-11-20T09:28:00+0200"`, 30 * day, 0},
		{Profile{}, `"expires_at":"2015-11-20T07:28:00"`, 30 * day, 0},
		{Profile{}, `"expires_at":"2015-11-20 07:28:00"`, 30 * day, 0},
		{Profile{}, `"expires_at":"2015-11-20 07:28:00 UTC"`, 30 * day, 0},
		{Profile{}, `".expires":"Fri, 20 Nov 2015 07:28:00 GMT"`, 30 * day, 0},
		{Profile{}, fmt.Sprintf(`"expires_at":%d`, s), 30 * day, 0},
		{Profile{}, fmt.Sprintf(`"expires_at":"%d"`, s), 30 * day, 0},
		{Profile{}, fmt.Sprintf(`"expires_at":%d`, ms), 30 * day, 0},
		{Profile{}, fmt.Sprintf(`"expires_at":%d.5`, s), 30*day + time.Second/2, 0},
		{Profile{}, fmt.Sprintf(`"expiresAt":%d`, ms), 30 * day, 0},
		{Profile{}, fmt.Sprintf(`"expires_on":"%d"`, s), 30 * day, 0},
		{Profile{}, fmt.Sprintf(`"expires":%d`, s), 30 * day, 0},
		{Profile{}, `"expires":3600`, time.Hour, time.Hour}, // as Facebook once said
		{Profile{}, `"expires_in":"3600s"`, time.Hour, time.Hour},
		{millis, `"expires_in":"3600s"`, time.Hour, time.Hour},
		{Profile{}, `"expireTime":"2015-11-20T07:28:00Z"`, 30 * day, 0},
		{Profile{}, `"expire_in":3600`, time.Hour, time.Hour},
		{Profile{}, `"expiresIn":3600`, time.Hour, time.Hour},
		{Profile{}, fmt.Sprintf(`"expires_in":%d`, s), 30 * day, maxLife}, // a date by mistake
		{Profile{}, fmt.Sprintf(`"expires_in":%d`, ms), 30 * day, maxLife},
		{Profile{}, `"expires_in":"2015-11-20T07:28:00Z"`, 30 * day, 0},
		{Profile{}, fmt.Sprintf(`"expires_in":3600,"expires_at":%d`, s), time.Hour, time.Hour},
		{Profile{}, fmt.Sprintf(`"expires_in":0,"expires_at":%d`, s), 30 * day, 0},
		{Profile{}, fmt.Sprintf(`"expires_at":%d`, sentAt.Unix()-1), 0, 0}, // over
		{Profile{}, `"expires_at":"9999-12-31T23:59:59Z"`, maxLife, 0},
		{Profile{}, `"expires_at":1e300`, maxLife, 0},
		{Profile{}, `"expires_at":"soon"`, 0, 0},
		{Profile{}, `"expires_at":null`, 0, 0},
		// Units.
		{millis, `"expires_in":1799000`, 1799 * time.Second, 1799 * time.Second}, // Fiserv
		{millis, `"expires_in":5184000000`, 60 * day, 60 * day},
		{Profile{AccessTokenLife: 30 * time.Minute}, `"expires_in":1799000`, 1799 * time.Second, 1799 * time.Second},
		{Profile{}, fmt.Sprintf(`"expires_in":3600000,"expires_at":%d`, sentAt.Add(time.Hour).Unix()), time.Hour, 3600000 * time.Second},
		{Profile{AccessTokenLife: 2 * time.Hour}, `"expires_in":1799000`, 1799000 * time.Second, 1799000 * time.Second},
		{Profile{AccessTokenLife: time.Minute, ExpiresInUnit: time.Second}, `"expires_in":60000`, 60000 * time.Second, 60000 * time.Second},
	} {
		body := `{"access_token":"a","refresh_token":"r",` + c.members + `}`
		if got := lifeSaid(t, c.p, body, true).ExpiresIn; got != c.want {
			t.Errorf("%s: got %s, want %s", c.members, got, c.want)
		}
		if got := lifeSaid(t, c.p, body, false).ExpiresIn; got != c.undated {
			t.Errorf("%s, without a Date: got %s, want %s", c.members, got, c.undated)
		}
	}
}

func TestAJWTSaysWhenItEnds(t *testing.T) {
	in := func(d time.Duration) int64 { return sentAt.Add(d).Unix() }
	for _, c := range []struct {
		token, members string
		want, undated  time.Duration
	}{
		{jwtOf(fmt.Sprintf(`{"exp":%d}`, in(time.Hour))), ``, time.Hour, 0},
		{jwtOf(fmt.Sprintf(`{"iat":%d,"exp":%d}`, in(-time.Minute), in(time.Hour))), ``, time.Hour, 61 * time.Minute},
		{jwtOf(fmt.Sprintf(`{"iat":%d.25,"exp":%d.75}`, in(0), in(time.Hour))), ``, time.Hour + 750*time.Millisecond, time.Hour + 500*time.Millisecond},
		{jwtOf(fmt.Sprintf(`{"exp":%d}`, in(time.Hour))), `,"expires_in":60`, time.Minute, time.Minute},
		{jwtOf(fmt.Sprintf(`{"iat":%d,"exp":%d}`, in(0), in(time.Hour))), `,"expires_in":3600000`, time.Hour, time.Hour},
		{jwtOf(fmt.Sprintf(`{"exp":%d}`, in(-time.Hour))), ``, 0, 0},
		{jwtOf(`{"exp":3600}`), ``, 0, 0},
		{jwtOf(`{"exp":"soon"}`), ``, 0, 0},
		{jwtOf(`[]`), ``, 0, 0},
		{"a.%%%.c", ``, 0, 0},
		{"a.b.c.d.e", ``, 0, 0}, // encrypted
	} {
		body := `{"access_token":"` + c.token + `","refresh_token":"r"` + c.members + `}`
		if got := lifeSaid(t, Profile{}, body, true).ExpiresIn; got != c.want {
			t.Errorf("%s%s: got %s, want %s", c.token, c.members, got, c.want)
		}
		if got := lifeSaid(t, Profile{}, body, false).ExpiresIn; got != c.undated {
			t.Errorf("%s%s, without a Date: got %s, want %s", c.token, c.members, got, c.undated)
		}
	}
}

func TestARefreshTokensEndMayBeADate(t *testing.T) {
	for members, want := range map[string]time.Duration{
		`"refresh_token_expires_at":"2016-01-19T07:28:00Z"`:                         90 * day,
		fmt.Sprintf(`"refresh_token_expires_in":%d`, sentAt.Add(90*day).Unix()):     90 * day,
		fmt.Sprintf(`"refreshTokenExpiresAt":%d`, sentAt.Add(90*day).UnixMilli()):   90 * day,
		`"refresh_token_expires_in":60,"refresh_token_expires_at":"2016-01-19"`:     time.Minute,
		`"refreshTokenExpiresIn":60`:                                                time.Minute,
		`"refresh_token_expires_at":"never"`:                                        0,
		`"data":{"refresh_token_expires_at":"2016-01-19T07:28:00Z"}`:                0,
		fmt.Sprintf(`"refresh_token_expires_at":%d`, sentAt.Add(-time.Hour).Unix()): 0,
	} {
		if got := lifeSaid(t, Profile{}, `{"access_token":"a","refresh_token":"r",`+members+`}`, true).RefreshTokenExpiresIn; got != want {
			t.Errorf("%s: got %s, want %s", members, got, want)
		}
	}
}

func TestNoLifetimeIsBelievedBeyondTheLargest(t *testing.T) {
	p := Profile{MaxAccessTokenLife: time.Hour}
	for said, want := range map[time.Duration]time.Duration{time.Minute: time.Minute, 20 * day: time.Hour, 0: 5 * time.Minute} {
		if got := p.Lifetime(said); got != want {
			t.Errorf("%s: %s, want %s", said, got, want)
		}
	}
}

// FuzzLifetime holds lifetimes to their bounds, and to one reading in every spelling.
func FuzzLifetime(f *testing.F) {
	for _, s := range []string{"3600", "1e999", "-1", "NaN", "2015-11-20T07:28:00Z", "1447918080", "1447918080000", "9e18", "0x10p4", "0001-01-01", ""} {
		f.Add(s, int64(0), int64(1))
		f.Add(s, sentAt.Unix(), int64(time.Second))
	}
	f.Fuzz(func(t *testing.T, said string, at, unit int64) {
		when := time.Time{}
		if at != 0 {
			when = time.Unix(at, 0)
		}
		p := Profile{ExpiresInUnit: time.Duration(max(0, unit))}
		for _, name := range []string{"expires_in", "expires_at", "refresh_token_expires_at"} {
			for _, token := range []string{"opaque", jwtOf(`{"exp":` + said + `}`), jwtOf(said), said} {
				member := func(n string) any {
					if n == name {
						return said
					}
					return nil
				}
				life, renewal := p.AccessTokenLifetime(token, member, when), p.RefreshTokenLifetime(member, when)
				if life < 0 || life > maxLife || renewal < 0 || renewal > maxLife {
					t.Errorf("%s %q: %s, %s", name, said, life, renewal)
				}
				spelled := func(n string) any { return member(strings.ReplaceAll(n, camel(name), name)) }
				if again := p.AccessTokenLifetime(token, spelled, when); again != life {
					t.Errorf("%s in camelCase: %s, %s", name, again, life)
				}
			}
		}
	})
}
