package e2e

import (
	"testing"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// TestTrustedScheme: the :scheme that a trusted proxy claims is what the backend
// hears; of others it is the transport's, or they are refused.
func TestTrustedScheme(t *testing.T) {
	for _, x := range []struct {
		name            string
		trusted, secure bool
		claim, want     string // want "": 421
	}{
		{"trusted, cleartext", true, false, "https", "https"},
		{"trusted, cleartext, http", true, false, "http", "http"},
		{"trusted, TLS", true, true, "http", "http"},
		{"untrusted, TLS", false, true, "http", "https"},
		{"untrusted, cleartext", false, false, "https", ""},
	} {
		r := start(t, func(c *gateway.Config) {
			if x.trusted {
				c.TrustedProxies = []string{"127.0.0.1/32"}
			}
		})
		c := r.h2()
		if !x.secure {
			var err error
			c, err = rawpeer.DialH2(r.http, nil)
			r.must(err)
			t.Cleanup(c.Close)
		}
		for kind, id := range map[string]uint32{
			"tunnel":  c.Headers(rawpeer.ConnectFields(x.claim, "localhost", "/chat"), false),
			"request": c.Headers(f(":method", "GET", ":scheme", x.claim, ":path", "/chat", ":authority", "localhost"), true),
		} {
			if x.want == "" {
				_, err := c.WantStatus(id, 421)
				r.check(x.name+", "+kind, err)
				continue
			}
			b := r.next()
			h, err := b.ReadHead()
			r.must(err)
			if got := h.Fields.Values("X-Forwarded-Proto"); len(got) != 1 || got[0] != x.want {
				t.Errorf("%s, %s: got X-Forwarded-Proto %q, want %q", x.name, h.Line, got, x.want)
			}
		}
		if x.want == "" {
			r.must(r.be.WantNone())
		}
	}
}
