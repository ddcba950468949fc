package load

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		url                   string
		version               int
		addr, path, authority string
		tls                   bool
		wrong                 string
	}{
		{"wss://127.0.0.1:8443/", 2, "127.0.0.1:8443", "/", "127.0.0.1:8443", true, ""},
		{"https://example.com", 1, "example.com:443", "/", "example.com", true, ""},
		{"ws://[::1]/chat?room=1", 2, "[::1]:80", "/chat?room=1", "[::1]", false, ""},
		{"http://h:81/a%2eb", 1, "h:81", "/a%2eb", "h:81", false, ""},
		{"ftp://h/", 2, "", "", "", false, "none of ws, wss, http, https"},
		{"wss:///x", 2, "", "", "", false, "no host"},
		{"wss://h/", 3, "h:443", "/", "h", true, ""},
		{"ws://h/", 3, "", "", "", false, "HTTP/3 has TLS always"},
		{"wss://h/", 4, "", "", "", false, "none of 1, 2 and 3"},
	} {
		got, err := ParseTarget(c.url, c.version)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: got error %v, want %q in it", c.url, err, c.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: got error %v, want none", c.url, err)
			continue
		}
		if got.Addr != c.addr || got.Path != c.path || got.authority() != c.authority || (got.TLS != nil) != c.tls {
			t.Errorf("%s: got %q %q %q TLS %v, want %q %q %q %v", c.url, got.Addr, got.Path, got.authority(), got.TLS != nil, c.addr, c.path, c.authority, c.tls)
		}
	}
}

func TestSources(t *testing.T) {
	target := &Target{Sources: netip.MustParsePrefix("127.0.0.0/8")}
	seen := make(map[string]bool)
	for n := range 1000 {
		seen[target.source(n).String()] = true
	}
	if len(seen) != 1000 || !seen["127.0.0.1:0"] || !seen["127.0.3.232:0"] {
		t.Errorf("got %d addresses, want 1000 from 127.0.0.1 to 127.0.3.232", len(seen))
	}
	one := &Target{Sources: netip.MustParsePrefix("127.0.0.4/30")}
	if got := one.source(5).String(); got != "127.0.0.6:0" {
		t.Errorf("got %s, want 127.0.0.6:0", got)
	}
	if got := (&Target{}).source(1); got != nil {
		t.Errorf("got %v without a prefix, want none", got)
	}
}

func TestCheck(t *testing.T) {
	h1, h2 := &Target{HTTP: 1}, &Target{HTTP: 2}
	for _, c := range []struct {
		target *Target
		o      Options
		wrong  string
	}{
		{h2, Options{Conns: 1, Tunnels: 10}, ""},
		{h1, Options{Conns: 10, Tunnels: 1}, ""},
		{h1, Options{Conns: 10, Tunnels: 2}, "a connection carries one"},
		{h2, Options{Conns: 0, Tunnels: 2}, "at least one of each"},
		{h2, Options{Conns: 1, Tunnels: 1, Size: -1}, "octets"},
		{h2, Options{Conns: 1, Tunnels: 1, Rate: -1}, "below 0"},
	} {
		err := c.o.Check(c.target)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%+v: got error %v, want %q", c.o, err, c.wrong)
		}
	}
}
