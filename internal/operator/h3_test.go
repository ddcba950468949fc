package operator

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"wsgate/internal/rawpeer"
)

// TestAltSvc: HTTP/3 is announced where it is served, for as long as the file says
// (RFC 7838 section 3). A reload that takes it away takes back what was announced,
// and lives on with the connections that are there; another one brings it back on
// the same port.
func TestAltSvc(t *testing.T) {
	s := serve(t, "one", "127.0.0.2")
	file := func(l string) string {
		return fmt.Sprintf("listeners: [{name: tls, address: \"127.0.0.5:0\", tls: true%s}, {name: plain, address: \"127.0.0.5:0\"}]\n", l) +
			"certificates: [{self_signed: a.test}]\nroutes: [{name: all, upstream: all}]\nupstreams: {all: {servers: [\"ws://" + s.addr + "\"]}}\n"
	}
	r := run(t, file(""))
	port := netip.MustParseAddrPort(r.at(0)).Port()
	h3 := func(ma int) string { return fmt.Sprintf("h3=\":%d\"; ma=%d", port, ma) }
	says := func(when, want string) {
		t.Helper()
		answer, body := r.get(ask{secure: true, host: "a.test", path: "/"})
		if got := answer.Header.Get("Alt-Svc"); got != want || body != "one" {
			t.Errorf("%s: got Alt-Svc %q and %q, want %q and one", when, got, body, want)
		}
		if answer, _ := r.get(ask{listener: 1, host: "a.test", path: "/"}); answer.Header.Get("Alt-Svc") != "" {
			t.Errorf("%s, in cleartext: got Alt-Svc %q, want none", when, answer.Header.Get("Alt-Svc"))
		}
	}
	trusting := &tls.Config{InsecureSkipVerify: true, ServerName: "a.test"}
	dial := func() (*rawpeer.H3, error) {
		c, err := rawpeer.DialH3(r.at(0), trusting)
		if err == nil {
			t.Cleanup(c.Close)
		}
		return c, err
	}
	fields := rawpeer.F(":method", "GET", ":scheme", "https", ":authority", "a.test", ":path", "/")
	asks := func(when string, c *rawpeer.H3) {
		t.Helper()
		f, err := c.WantStatus(c.Headers(fields, true), 200)
		if err != nil || f.Get("alt-svc") != "" {
			t.Errorf("%s, over HTTP/3: got %v and Alt-Svc %q, want 200 and none", when, err, f.Get("alt-svc"))
		}
	}
	says("by default", h3(600))
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	asks("by default", c)
	r.reload(file(", alt_svc: 5m"))
	says("for another time", h3(300))
	r.reload(file(", alt_svc: 0"))
	says("not announced", "")
	r.reload(file(", protocols: [h1, h2]"))
	says("taken away", "clear")
	asks("taken away", c)
	if _, err := dial(); err == nil {
		t.Error("a new connection after HTTP/3 was taken away: got one, want none")
	}
	r.reload(file(""))
	says("brought back", h3(600))
	if c, err = dial(); err != nil {
		t.Fatalf("a new connection after HTTP/3 was brought back: %v", err)
	}
	asks("brought back", c)

	// Never served, never announced nor taken back.
	r = run(t, file(", protocols: [h1, h2]"))
	says("never served", "")
}

// TestAnnounceH3: an extended CONNECT is announced where a route can take one over
// HTTP/3, and nowhere else (RFC 9220 section 3).
func TestAnnounceH3(t *testing.T) {
	s := serve(t, "one", "127.0.0.2")
	for _, c := range []struct {
		route string
		want  uint64
	}{
		{"{name: all, upstream: all}", 1},
		{"{name: all, upstream: all, match: {http: [3]}}", 1},
		{"{name: all, upstream: all, match: {http: [1, 2]}}", 0},
		{"{name: all, upstream: all, match: {listeners: [other]}}", 0},
		{"{name: all, answer: {status: 200, body: hello}}", 0},
	} {
		r := run(t, "listeners: [{name: tls, address: \"127.0.0.5:0\", tls: true}, {name: other, address: \"127.0.0.5:0\"}]\n"+
			"certificates: [{self_signed: a.test}]\nroutes: ["+c.route+"]\nupstreams: {all: {servers: [\"ws://"+s.addr+"\"]}}\n")
		x, err := rawpeer.DialH3(r.at(0), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.Close)
		if got, _ := x.Setting(0x08); got != c.want {
			t.Errorf("%s: got SETTINGS_ENABLE_CONNECT_PROTOCOL %d, want %d", strings.TrimSpace(c.route), got, c.want)
		}
	}
}
