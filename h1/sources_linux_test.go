package h1

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsgate/bridge"
)

// TestSources: connections come from the sources in turn, with TLS and without.
func TestSources(t *testing.T) {
	for _, secure := range []bool{false, true} {
		from := make(chan string, 10)
		s := httptest.NewUnstartedServer(http.HandlerFunc(gorillaEcho))
		s.Config.ConnState = func(c net.Conn, st http.ConnState) {
			if st == http.StateNew {
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				from <- host
			}
		}
		b := &Backend{Sources: []netip.Addr{netip.MustParseAddr("127.0.0.11"), netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.12")}}
		if secure {
			s.StartTLS()
			b.TLS = &tls.Config{InsecureSkipVerify: true}
		} else {
			s.Start()
		}
		defer s.Close()
		b.Address = s.Listener.Addr().String()
		g := newGateway(t, b, nil)
		got := map[string]int{}
		for range 6 {
			c, _, err := websocket.DefaultDialer.Dial("ws://"+g.addr, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got[<-from]++
		}
		if got["127.0.0.11"]+got["127.0.0.12"] != 6 || got["127.0.0.11"] < 2 || got["127.0.0.12"] < 2 {
			t.Errorf("TLS %v: got %v, want both of its family", secure, got)
		}
	}
}

// TestSourceTurns: each source of the target's family once, beginning with the
// one whose turn it is.
func TestSourceTurns(t *testing.T) {
	all := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:10.0.0.2")}
	b := &Backend{Sources: all}
	turn := func(to target) (out []string) {
		s := b.sources(to)
		for {
			out = append(out, s.now.String())
			if !s.next(b.Sources) {
				return out
			}
		}
	}
	v4 := target{network: "tcp", addr: netip.MustParseAddrPort("192.0.2.1:80")}
	for _, want := range [][]string{{"10.0.0.2", "10.0.0.1"}, {"10.0.0.2", "10.0.0.1"}, {"10.0.0.1", "10.0.0.2"}} {
		if got := turn(v4); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	for to, want := range map[target]string{
		{network: "tcp", addr: netip.MustParseAddrPort("[2001:db8::2]:80")}:      "[2001:db8::1]",
		{network: "tcp", addr: netip.MustParseAddrPort("[::ffff:192.0.2.1]:80")}: "[10.0.0.1 10.0.0.2]",
		{network: "unix", path: "/s"}:                                            "[invalid IP]",
	} {
		got := turn(to)
		slices.Sort(got)
		if fmt.Sprint(got) != want {
			t.Errorf("%v: got %v, want %s", to, got, want)
		}
	}
	b.Sources = all[1:2]
	if got := turn(v4); !slices.Equal(got, []string{"invalid IP"}) {
		t.Errorf("none of the family: got %v, want the kernel's choice", got)
	}
}

// TestNoPort: without a port at any source the client is asked to come again;
// nothing was sent.
func TestNoPort(t *testing.T) {
	o := &opening{}
	a := &attempt{b: &Backend{}, l: newFakeLoop(), done: func(_ bridge.Side, _ bridge.Fields, err error) { o.calls, o.err = 1, err }}
	a.connectFailed(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)})
	r, ok := o.err.(*bridge.Refusal)
	if !ok || r.Status != 503 || r.Code != "ports-exhausted" || r.Fields.Get("Retry-After") == "" || !r.Unsent {
		t.Errorf("got %+v, want 503 ports-exhausted with Retry-After, unsent", o.err)
	}
}

// TestUnsent: only a failure before the first octet lets another backend be asked.
func TestUnsent(t *testing.T) {
	mute, conns := silent(t)
	short := 50 * time.Millisecond
	for _, x := range []struct {
		b    *Backend
		want bool
	}{
		{&Backend{Address: closedPort(t)}, true},
		{&Backend{Address: mute, TLS: &tls.Config{}, TLSTimeout: short}, true},
		{&Backend{Address: mute, OpenTimeout: short}, false},
	} {
		g := newGateway(t, x.b, nil)
		done := make(chan error, 1)
		g.loop.Post(func() {
			h := &bridge.Handshake{Major: 1, Scheme: "http", Authority: "a", Path: "/"}
			x.b.Open(g.loop, h, func(_ bridge.Side, _ bridge.Fields, err error) { done <- err })
		})
		if r, ok := (<-done).(*bridge.Refusal); !ok || r.Unsent != x.want {
			t.Errorf("%s: got %+v, want unsent %v", x.b.Address, r, x.want)
		}
	}
	for range 2 {
		(<-conns).Close()
	}
}
