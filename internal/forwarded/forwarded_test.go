package forwarded

import (
	"net/netip"
	"strings"
	"testing"

	"wsgate/bridge"
)

// next records the handshake that reaches the backend.
type next struct{ h *bridge.Handshake }

func (n *next) Open(_ bridge.Loop, h *bridge.Handshake, _ func(bridge.Side, bridge.Fields, error)) func() {
	n.h = h
	return func() {}
}

func apply(p *Policy, major int, remote string, fields ...bridge.Field) bridge.Fields {
	n := &next{}
	c := &bridge.Client{}
	if remote != "" {
		c.Remote = netip.AddrPortFrom(netip.MustParseAddr(remote), 7)
	}
	(&Backend{p, n}).Open(nil, &bridge.Handshake{Major: major, Scheme: "https", Authority: "front.example", Fields: fields, Client: c}, nil)
	return n.h.Fields
}

func want(t *testing.T, f bridge.Fields, name string, values ...string) {
	t.Helper()
	if got := strings.Join(f.Values(name), "|"); got != strings.Join(values, "|") {
		t.Errorf("%s: got %q, want %q", name, got, values)
	}
}

// TestUntrusted: row 202, the values of an untrusted peer are replaced.
func TestUntrusted(t *testing.T) {
	f := apply(&Policy{Pseudonym: "gw-1"}, 2, "192.0.2.1",
		bridge.Field{Name: "x-forwarded-for", Value: "10.0.0.1"}, bridge.Field{Name: "X-Forwarded-For", Value: "10.0.0.2"},
		bridge.Field{Name: "x-forwarded-proto", Value: "ftp"}, bridge.Field{Name: "x-forwarded-host", Value: "evil"},
		bridge.Field{Name: "forwarded", Value: "for=evil"}, bridge.Field{Name: "via", Value: "1.1 other"}, bridge.Field{Name: "x", Value: "y"})
	want(t, f, "X-Forwarded-For", "192.0.2.1")
	want(t, f, "X-Forwarded-Proto", "https")
	want(t, f, "X-Forwarded-Host", "front.example")
	want(t, f, "Forwarded")
	want(t, f, "Via", "1.1 other", "2 gw-1")
	want(t, f, "x", "y")
}

// TestTrusted: row 202, a trusted proxy's are appended to and believed.
func TestTrusted(t *testing.T) {
	p := &Policy{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	f := apply(p, 1, "::ffff:192.0.2.1",
		bridge.Field{Name: "X-Forwarded-For", Value: "198.51.100.1"}, bridge.Field{Name: "X-Forwarded-Proto", Value: "http"})
	want(t, f, "X-Forwarded-For", "198.51.100.1, 192.0.2.1")
	want(t, f, "X-Forwarded-Proto", "http")
	want(t, f, "X-Forwarded-Host", "front.example")
	want(t, f, "Via")
}

func TestUnixPeer(t *testing.T) {
	want(t, apply(&Policy{}, 1, ""), "X-Forwarded-For", "unknown")
}

// TestLoop: row 199.
func TestLoop(t *testing.T) {
	p := &Policy{Pseudonym: "gw-1"}
	for line, loops := range map[string]bool{"1.1 gw-1": true, "2 other, 1.1 gw-1 (comment)": true, "1.1 gw-12": false, "": false} {
		if got := p.Loops([]string{line}); got != loops {
			t.Errorf("Via %q: got %v, want %v", line, got, loops)
		}
	}
}
