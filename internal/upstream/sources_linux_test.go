package upstream

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"wsgate/bridge"
	"wsgate/internal/loop"
	"wsgate/internal/ownnet"
	"wsgate/wskey"
)

// TestSources: connections of tunnels, requests and checks come from the sources
// in turn; for a server of another family the kernel chooses.
func TestSources(t *testing.T) {
	from := make(chan string, 1000)
	note := func(b *backend) {
		b.server.ConnState = func(c net.Conn, s http.ConnState) {
			if s == http.StateNew {
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				from <- host
			}
		}
	}
	for name, x := range map[string]struct {
		host string
		want map[string]int
	}{
		"IPv4": {"127.0.0.2", map[string]int{"127.0.0.11": 4, "127.0.0.12": 4}},
		"IPv6": {"[::1]", map[string]int{"::1": 8}},
	} {
		b := serveNoted(t, x.host+":0", note)
		r := newRig(t, Config{Servers: servers(b), Sources: addrs("127.0.0.11", "127.0.0.12")})
		for range 4 {
			r.open()
		}
		u := r.up.Load()
		for range 4 {
			v, err := u.Visit(newRequest(t))
			if err != nil {
				t.Fatal(err)
			}
			c, err := v.Server().Dial(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			c.Close()
			v.Leave()
		}
		got := map[string]int{}
		for range 8 {
			got[<-from]++
		}
		if fmt.Sprint(got) != fmt.Sprint(x.want) {
			t.Errorf("%s: got %v, want %v", name, got, x.want)
		}
		c := checks(Active{}, servers(b)...)
		c.Sources = addrs("127.0.0.11")
		r = newRig(t, c)
		if got := <-from; got != "127.0.0.11" && name == "IPv4" {
			t.Errorf("%s: check: got %s, want 127.0.0.11", name, got)
		}
		r.up.Load().Close()
		for len(from) > 0 {
			<-from
		}
	}
}

// TestForeignSource: a source that is no address of this machine is an error of
// the connect and no lack of ports.
func TestForeignSource(t *testing.T) {
	a := serve(t, "127.0.0.2")
	r := newRig(t, Config{Servers: servers(a), Sources: addrs("192.0.2.1"), Retry: Retry{Attempts: -1}})
	_, _, err := r.direct(&bridge.Handshake{Major: 1, Scheme: "http", Authority: "x", Path: "/"})
	if f, ok := err.(*bridge.Refusal); !ok || f.Status != 502 || f.Code != codeConnectFailed || !strings.Contains(f.Cause.Error(), "bind") {
		t.Errorf("got %v, want 502 %s with bind in its cause", err, codeConnectFailed)
	}
}

// TestPortsExhausted runs in a network of its own with four ports for outgoing
// connections: each source has four towards each server, then the client is
// answered 503, and that is told once.
func TestPortsExhausted(t *testing.T) { ownnet.Run(t, "40000 40003", portsExhausted) }

func portsExhausted(t *testing.T) {
	a, b := serve(t, "127.0.0.2:9000"), serve(t, "127.0.0.3:9000")
	c := Config{Servers: servers(a), Sources: addrs("127.0.0.11")}
	r := newRig(t, c)
	h := func() *bridge.Handshake {
		return &bridge.Handshake{Major: 1, Scheme: "http", Authority: "x", Path: "/"}
	}
	open := func(n int) (sides []bridge.Side, last *bridge.Handshake) {
		for i := range n {
			last = h()
			s, _, err := r.direct(last)
			if err != nil {
				t.Fatalf("tunnel %d: %v", i, err)
			}
			sides = append(sides, s)
		}
		return sides, last
	}
	open(4)
	c.Sources = addrs("127.0.0.11", "127.0.0.12")
	r.reload(c)
	for range 2 { // the first source has none, the second has four
		v, err := r.up.Load().Visit(newRequest(t))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := v.Server().Dial(t.Context())
		if err != nil {
			t.Fatalf("request: %v, want a port of the second source", err)
		}
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
		v.Leave()
	}
	sides, last := open(4)
	for range 5 {
		_, _, err := r.direct(h())
		f, ok := err.(*bridge.Refusal)
		if !ok || f.Status != 503 || f.Code != codePorts || f.Fields.Get("Retry-After") == "" {
			t.Fatalf("got %v, want 503 %s with Retry-After", err, codePorts)
		}
	}
	r.event("app ports " + a.addr)
	if got := r.drainEvents(); len(got) != 0 {
		t.Errorf("events: got %q, want no more", got)
	}
	if s := r.stats(); s.PortsExhausted != 5 || s.Tunnels != 8 || s.Pending != 0 || s.Ejections != 0 {
		t.Errorf("got %+v, want 5 times without a port, nobody ejected", s)
	}
	v, err := r.up.Load().Visit(newRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Server().Dial(t.Context()); !loop.PortsExhausted(err) {
		t.Errorf("dial of a request: got %v, want no port", err)
	}
	v.Leave()

	// Another server has the same ports, and is asked instead.
	c.Servers = servers(a, b)
	r.reload(c)
	open(8)
	if s := r.stats(); s.Tunnels != 16 {
		t.Errorf("got %+v, want 16 tunnels", s)
	}
	// A port that comes free is used.
	r.loop.Post(func() { sides[3].Reset(bridge.ReasonReset); last.Server.Release() })
	until(t, "a tunnel less", func() bool { return r.stats().Tunnels == 15 })
	open(1)
}

// plainServer answers every handshake with 101 and ends when the client does.
func plainServer(t testing.TB, host string) string {
	t.Helper()
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := bufio.NewReaderSize(c, 512)
				r, err := http.ReadRequest(b)
				if err != nil {
					return
				}
				fmt.Fprintf(c, "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", wskey.Accept(r.Header.Get("Sec-WebSocket-Key")))
				b.ReadByte()
			}()
		}
	}()
	return ln.Addr().String()
}

// TestThirtyThousand: so many tunnels one after the other, each closed by the
// gateway, so that its port stays taken for a minute (TIME-WAIT), find a port at
// two sources.
func TestThirtyThousand(t *testing.T) {
	const all, atOnce = 30_000, 20
	r := newRig(t, Config{Servers: []ServerConfig{{Address: plainServer(t, "127.0.0.2")}}, Sources: addrs("127.0.0.11", "127.0.0.12")})
	done := make(chan error, 1)
	r.loop.Post(func() {
		c := &crowd{l: r.loop, to: r.up.Load(), left: all, done: done}
		for range atOnce {
			c.next()
		}
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if s := r.stats(); s.Tunnels != 0 || s.Pending != 0 || s.PortsExhausted != 0 || s.Retries != 0 {
		t.Errorf("got %+v, want nothing left and no lack of ports", s)
	}
}

// crowd opens and closes tunnels in a row, on the loop.
type crowd struct {
	l          *loop.Loop
	to         bridge.Backend
	left, open int
	reset      bool // the gateway cuts them
	done       chan error
}

func (c *crowd) next() {
	if c.left == 0 {
		if c.open == 0 {
			c.tell(nil)
		}
		return
	}
	c.left--
	c.open++
	h := &bridge.Handshake{Major: 1, Scheme: "http", Authority: "x", Path: "/"}
	c.to.Open(c.l, h, func(s bridge.Side, _ bridge.Fields, err error) {
		if err != nil {
			c.tell(err)
			return
		}
		e := &ending{quiet{}, c, h.Server}
		s.Bind(e)
		if c.reset {
			s.Reset(bridge.ReasonReset)
			c.l.Post(e.End)
			return
		}
		s.CloseWrite()
	})
}

func (c *crowd) tell(err error) {
	select {
	case c.done <- err:
	default:
	}
}

// ending waits for the server's end.
type ending struct {
	quiet
	c      *crowd
	server bridge.Server
}

func (e *ending) End() {
	if e.server != nil {
		e.server.Release()
	}
	e.c.open--
	e.c.next()
}
