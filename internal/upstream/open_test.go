package upstream

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
)

// TestLeastTunnelsOnTheWire: tunnels go where there are fewest, and the places
// come back.
func TestLeastTunnelsOnTheWire(t *testing.T) {
	a, b, c := serve(t, "127.0.0.2"), serve(t, "127.0.0.3"), serve(t, "127.0.0.4")
	r := newRig(t, Config{Servers: servers(a, b, c)})
	got := map[string]int{}
	var last *conn
	for range 9 {
		last = r.open()
		last.echo("hello")
		got[last.server]++
	}
	if got[a.addr] != 3 || got[b.addr] != 3 || got[c.addr] != 3 {
		t.Errorf("tunnels: got %v, want 3 at each", got)
	}
	last.end(r)
	if next := r.open(); next.server != last.server {
		t.Errorf("got %s, want %s, where one has ended", next.server, last.server)
	}
	for _, s := range r.up.Load().Status() {
		if s.Tunnels != 3 || s.Pending != 0 || s.State != Up {
			t.Errorf("status: got %+v, want 3 tunnels, none pending, up", s)
		}
	}
}

// dead returns an address of that host at which nobody listens, and nobody else
// can while the test runs.
func dead(t *testing.T, host string) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: netip.MustParseAddr(host).As4()}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(host, ":", at.(*syscall.SockaddrInet4).Port)
}

// TestDeadServerIsLeft: a server that refuses connections costs no client its
// tunnel, and is ejected.
func TestDeadServerIsLeft(t *testing.T) {
	a := serve(t, "127.0.0.2")
	gone := dead(t, "127.0.0.3")
	r := newRig(t, Config{Servers: append(servers(a), ServerConfig{Address: gone}), Passive: Passive{Failures: 2}})
	for range 10 {
		if c := r.open(); c.server != a.addr {
			t.Errorf("got server %q, want %q", c.server, a.addr)
		}
	}
	r.event("app " + gone + " ejected")
	if s := r.up.Load().Stats(); s.Retries != 2 || s.Ejections != 1 || s.Tunnels != 10 || s.Pending != 0 {
		t.Errorf("got %+v, want 2 retries, 1 ejection, 10 tunnels", s)
	}
}

// TestAllDead: the client gets the last failure, and it is told once that all
// are used for want of a better one.
func TestAllDead(t *testing.T) {
	r := newRig(t, Config{Servers: []ServerConfig{{Address: dead(t, "127.0.0.2")}}, Passive: Passive{Failures: 1}, Retry: Retry{Attempts: -1}})
	for range 3 {
		_, res, err := r.try()
		if err == nil || res == nil || res.StatusCode != 502 {
			t.Fatalf("got %v, %v, want status 502", res, err)
		}
		r.refusal("502 connect-failed")
	}
	r.event("app " + r.up.Load().Status()[0].Name + " ejected")
	r.event("app panic true")
	if n := len(r.events); n != 0 {
		t.Errorf("got %d more events, want none", n)
	}
}

// TestSameServerAgain: with one server alone it is asked again after a moment.
func TestSameServerAgain(t *testing.T) {
	r := newRig(t, Config{Servers: []ServerConfig{{Address: dead(t, "127.0.0.2")}}})
	_, res, err := r.try()
	if err == nil || res == nil || res.StatusCode != 502 {
		t.Fatalf("got %v, %v, want status 502", res, err)
	}
	r.refusal("502 connect-failed")
	if s := r.up.Load().Stats(); s.Retries != 2 || s.Pending != 0 {
		t.Errorf("got %+v, want 2 retries, none pending", s)
	}
}
