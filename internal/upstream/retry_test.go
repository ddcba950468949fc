package upstream

import (
	"bufio"
	"crypto/tls"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wsgate/bridge"
)

// script is a raw server: it reads one head of each connection and then does
// what it is told.
func script(t *testing.T, host string, act func(net.Conn, string)) (addr string, asked *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	asked = new(atomic.Int64)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			go func() {
				defer c.Close()
				var head strings.Builder
				for b := bufio.NewReader(c); ; {
					line, err := b.ReadString('\n')
					head.WriteString(line)
					if err != nil || line == "\r\n" {
						break
					}
				}
				act(c, head.String())
			}()
		}
	}()
	return ln.Addr().String(), asked
}

// first makes a server the one that is chosen, by tunnels at the others.
func (r *rig) first(addr string) {
	r.t.Helper()
	for _, e := range r.up.Load().table.Load().list {
		if e.address != addr {
			e.count.n.Add(1000 * oneTunnel)
		}
	}
}

// TestRetry: what fails before an octet was written is tried at another server.
func TestRetry(t *testing.T) {
	a := serve(t, "127.0.0.2")
	deaf, err := net.Listen("tcp", "127.0.0.3:0") // shakes no hands
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	for name, x := range map[string]struct {
		addr string
		tls  bool
		c    Config
	}{
		"refused":     {dead(t, "127.0.0.3"), false, Config{}},
		"TLS refused": {a.addr, true, Config{TLS: &tls.Config{}}},
		"TLS timeout": {deaf.Addr().String(), true, Config{TLS: &tls.Config{}, TLSTimeout: 20 * time.Millisecond}},
	} {
		b := serve(t, "127.0.0.4")
		c := x.c
		c.Servers = append(servers(b), ServerConfig{Name: "bad", Address: x.addr, TLS: x.tls})
		r := newRig(t, c)
		r.first(x.addr)
		if got := r.open(); got.server != b.addr {
			t.Errorf("%s: got %s, want %s", name, got.server, b.addr)
		}
		if s := r.stats(); s.Retries != 1 || s.RetriesDenied != 0 || s.Pending != 0 || s.Tunnels != 1 {
			t.Errorf("%s: got %+v, want 1 retry, 1 tunnel", name, s)
		}
		c.Retry.Attempts = -1
		r = newRig(t, c)
		r.first(x.addr)
		if _, res, err := r.try(); err == nil || res == nil || res.StatusCode < 502 {
			t.Errorf("%s: without retries: got %v, %v, want 502 or 504", name, res, err)
		}
	}
}

// TestNoRetryAfterAnOctet: once the handshake was written nobody else is asked,
// however it ends.
func TestNoRetryAfterAnOctet(t *testing.T) {
	for name, x := range map[string]struct {
		act    func(net.Conn, string)
		status int
	}{
		"FIN":     {func(net.Conn, string) {}, 502},
		"RST":     {func(c net.Conn, _ string) { c.(*net.TCPConn).SetLinger(0) }, 502},
		"garbage": {func(c net.Conn, _ string) { c.Write([]byte("what?\r\n\r\n")) }, 502},
		"part":    {func(c net.Conn, _ string) { c.Write([]byte("HTTP/1.1 101 Switching")) }, 502},
		"503":     {func(c net.Conn, _ string) { c.Write([]byte("HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")) }, 503},
		"bad 101": {func(c net.Conn, _ string) {
			c.Write([]byte("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"))
		}, 502},
		"no word ": {func(c net.Conn, _ string) { c.Read(make([]byte, 1)) }, 504},
	} {
		b := serve(t, "127.0.0.4")
		addr, asked := script(t, "127.0.0.3", x.act)
		r := newRig(t, Config{Servers: append(servers(b), ServerConfig{Address: addr}), OpenTimeout: 200 * time.Millisecond})
		r.first(addr)
		_, res, err := r.try()
		if err == nil || res == nil || res.StatusCode != x.status {
			t.Errorf("%s: got %v, %v, want %d", name, res, err, x.status)
		}
		if s := r.stats(); asked.Load() != 1 || b.asked.Load() != 0 || s.Retries != 0 || s.Pending != 0 {
			t.Errorf("%s: got %d and %d handshakes at the servers, %+v; want 1, 0, no retries", name, asked.Load(), b.asked.Load(), s)
		}
	}
}

// TestFreshKeys: each handshake at a server has a key of its own, whatever the
// client sent.
func TestFreshKeys(t *testing.T) {
	a := serve(t, "127.0.0.2")
	r := newRig(t, Config{Servers: append(servers(a), ServerConfig{Address: dead(t, "127.0.0.3")})})
	for range 20 {
		r.open()
	}
	a.set(func(a *backend) {
		if len(a.keys) != 20 {
			t.Errorf("keys: got %d different ones of 20 handshakes", len(a.keys))
		}
	})
}

// TestRetryBudget: when a server is gone and nothing ejects it, retries are a
// fifth of the handshakes and three a second, of ten seconds at once.
func TestRetryBudget(t *testing.T) {
	b := newBench(t, Config{Passive: Passive{Failures: -1}}, 1, 1)
	retry := func() bool {
		w := want{}
		b.ledger.budget.earn(&b.config.Retry)
		e := b.take(&w)
		defer e.leave(tunnel)
		next, _, ok := b.retry(&w, e, 1, "tls-failed")
		if ok {
			next.exit(tunnel)
		}
		return ok
	}
	allowed := 0
	for range 1000 {
		if retry() {
			allowed++
		}
	}
	if allowed != 230 {
		t.Errorf("at once: got %d retries of 1000, want 230", allowed)
	}
	for range 10 {
		b.clock.t = b.clock.t.Add(time.Second)
		for range 5 {
			if retry() {
				allowed++
			}
		}
	}
	if allowed != 230+30+10 {
		t.Errorf("ten seconds, 5 each: got %d more, want 3 each and a fifth", allowed-230)
	}
	if s := b.Stats(); s.Retries != uint64(allowed) || s.RetriesDenied != 1050-uint64(allowed) {
		t.Errorf("got %+v, want %d retries, the rest denied", s, allowed)
	}
	if tunnels, pending := b.ledger.count.load(); tunnels != 0 || pending != 0 {
		t.Errorf("got %d tunnels, %d pending, want none", tunnels, pending)
	}
	for _, e := range b.table.Load().list {
		if e.load() != 0 {
			t.Errorf("%s: got load %d, want 0", e.id, e.load())
		}
	}
}

// TestOpenTimeoutIsOfAllAttempts: the second attempt has what the first left.
func TestOpenTimeoutIsOfAllAttempts(t *testing.T) {
	addr, asked := script(t, "127.0.0.3", func(c net.Conn, _ string) { c.Read(make([]byte, 1)) })
	deaf, err := net.Listen("tcp", "127.0.0.4:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	r := newRig(t, Config{
		Servers:    []ServerConfig{{Address: addr}, {Address: deaf.Addr().String(), TLS: true}},
		TLS:        &tls.Config{},
		TLSTimeout: 500 * time.Millisecond, OpenTimeout: 600 * time.Millisecond,
	})
	r.first(deaf.Addr().String())
	begin := time.Now()
	_, res, err := r.try()
	took := time.Since(begin)
	if err == nil || res == nil || res.StatusCode != 504 || asked.Load() != 1 {
		t.Errorf("got %v, %v, %d handshakes at the second; want 504, 1", res, err, asked.Load())
	}
	r.refusal("504 open-timeout")
	if took < 590*time.Millisecond || took > 1080*time.Millisecond {
		t.Errorf("got %v, want 600 ms in all, not 1100", took)
	}
}

// TestClientLeaves: a client that leaves takes its attempt along, wherever it is.
func TestClientLeaves(t *testing.T) {
	for name, c := range map[string]Config{
		"answer": {Servers: servers(held(t, "127.0.0.2"))},
		"pause":  {Servers: []ServerConfig{{Address: dead(t, "127.0.0.2")}}, Retry: Retry{Attempts: 100, MinPerSec: 1000}},
	} {
		r := newRig(t, c)
		client, err := rawHandshake(r.addr)
		if err != nil {
			t.Fatal(err)
		}
		until(t, "a handshake under way", func() bool { s := r.stats(); return s.Pending == 1 && (name != "pause" || s.Retries > 3) })
		client.(*net.TCPConn).SetLinger(0)
		client.Close()
		r.refusal("0 client-gone")
		if s := r.stats(); s.Pending != 0 || s.Tunnels != 0 {
			t.Errorf("%s: got %+v, want nothing left", name, s)
		}
		if st := r.up.Load().Status()[0]; st.Pending != 0 || st.Tunnels != 0 {
			t.Errorf("%s: got %+v, want nothing left", name, st)
		}
	}
}

// held is a backend that answers no handshake before the test ends.
func held(t *testing.T, host string) *backend {
	t.Helper()
	b := serve(t, host)
	hold := make(chan bool)
	b.set(func(b *backend) { b.hold = hold })
	t.Cleanup(func() { close(hold) })
	return b
}

// TestUnsent: what says that another server may be asked.
func TestUnsent(t *testing.T) {
	addr, _ := script(t, "127.0.0.3", func(net.Conn, string) {})
	for at, want := range map[string]bool{dead(t, "127.0.0.2"): true, addr: false} {
		r := newRig(t, Config{Servers: []ServerConfig{{Address: at}}, Retry: Retry{Attempts: -1}})
		_, _, err := r.direct(&bridge.Handshake{Major: 1, Scheme: "http", Authority: "x", Path: "/"})
		if f, ok := err.(*bridge.Refusal); !ok || f.Unsent != want {
			t.Errorf("got %v, want a refusal with Unsent %v", err, want)
		}
	}
}
