package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// answer is what a client of its own goroutine got.
type answer struct {
	conn *websocket.Conn
	res  *http.Response
	name string
}

// later opens a tunnel on a goroutine.
func (r *rig) later(name string, out chan answer) {
	go func() {
		c, res, _ := r.try()
		if c != nil {
			r.t.Cleanup(func() { c.Close() })
		}
		out <- answer{c, res, name}
	}()
}

func (r *rig) stats() Stats { return r.up.Load().Stats() }

// waiting waits until that many are in the queue.
func (r *rig) waiting(n int) {
	r.t.Helper()
	until(r.t, fmt.Sprint(n, " waiting"), func() bool { return r.stats().Waiting == n })
}

// TestLimits: the upstream's and the servers' limits on tunnels; what ends makes
// room; the answer over them is 503 with Retry-After.
func TestLimits(t *testing.T) {
	a, b := serve(t, "127.0.0.2"), serve(t, "127.0.0.3")
	one := servers(a, b)
	one[0].Limits.MaxTunnels, one[1].Limits.MaxTunnels = 1, 2
	for name, x := range map[string]struct {
		c    Config
		want int
	}{
		"upstream": {Config{Servers: servers(a, b), Limits: Limits{MaxTunnels: 3}}, 3},
		"servers":  {Config{Servers: one}, 3},
		"both":     {Config{Servers: one, Limits: Limits{MaxTunnels: 2}}, 2},
	} {
		r := newRig(t, x.c)
		var all []*conn
		for range x.want {
			all = append(all, r.open())
		}
		for range 2 {
			_, res, err := r.try()
			if err == nil || res == nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
				t.Fatalf("%s: got %v, %v, want 503 with Retry-After", name, res, err)
			}
			body, _ := io.ReadAll(res.Body)
			if string(body) != "503 service unavailable: upstream-full\n" {
				t.Errorf("%s: got body %q", name, body)
			}
			r.refusal("503 upstream-full")
		}
		if s := r.stats(); s.Full != 2 || s.Tunnels != x.want || s.Pending != 0 {
			t.Errorf("%s: got %+v, want 2 full, %d tunnels", name, s, x.want)
		}
		all[0].end(r)
		if got := r.open(); name == "servers" && got.server != all[0].server {
			t.Errorf("%s: got %s, want %s, which has room", name, got.server, all[0].server)
		}
	}
}

// TestPendingLimits: handshakes under way are bounded, of the upstream and of a
// server; a tunnel that stands is none.
func TestPendingLimits(t *testing.T) {
	a, b := serve(t, "127.0.0.2"), serve(t, "127.0.0.3")
	each := servers(a, b)
	each[0].Limits.MaxPending, each[1].Limits.MaxPending = 1, 1
	for name, c := range map[string]Config{
		"upstream": {Servers: servers(a, b), Limits: Limits{MaxPending: 2}},
		"servers":  {Servers: each},
	} {
		r := newRig(t, c)
		for range 4 {
			r.open()
		}
		hold := make(chan bool)
		for _, s := range []*backend{a, b} {
			s.set(func(s *backend) { s.hold = hold })
		}
		out := make(chan answer, 2)
		r.later("first", out)
		r.later("second", out)
		until(t, "two pending", func() bool { return r.stats().Pending == 2 })
		if _, res, err := r.try(); err == nil || res == nil || res.StatusCode != 503 {
			t.Errorf("%s: got %v, %v, want 503", name, res, err)
		}
		for _, s := range []*backend{a, b} {
			s.set(func(s *backend) { s.hold = nil })
		}
		close(hold)
		for range 2 {
			if x := <-out; x.conn == nil {
				t.Errorf("%s: %s: got %v, want a tunnel", name, x.name, x.res)
			}
		}
		r.open()
	}
}

// TestQueue: over the limit clients wait, first come first served; over the
// queue's length they are told at once; one that leaves makes room in it.
func TestQueue(t *testing.T) {
	a := serve(t, "127.0.0.2")
	r := newRig(t, Config{Servers: servers(a), Limits: Limits{MaxTunnels: 2}, QueueLength: 3, QueueTime: time.Minute})
	first, second := r.open(), r.open()
	out := make(chan answer, 10)
	r.later("third", out)
	r.waiting(1)
	gone, err := rawHandshake(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	r.waiting(2)
	r.later("fourth", out)
	r.waiting(3)
	_, res, err := r.try()
	if err == nil || res == nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("queue is full: got %v, %v, want 503 with Retry-After", res, err)
	}
	r.refusal("503 upstream-full")
	gone.(*net.TCPConn).SetLinger(0) // a reset: half a connection would still wait
	gone.Close()
	r.refusal("0 client-gone")
	r.waiting(2)
	r.later("fifth", out)
	r.waiting(3)
	if n := a.asked.Load(); n != 2 {
		t.Errorf("handshakes at the server: got %d, want 2, as long as clients wait", n)
	}
	var last *conn
	for i, want := range []string{"third", "fourth", "fifth"} {
		switch i {
		case 0:
			first.leave()
		case 1:
			second.leave()
		default:
			last.leave()
		}
		x := <-out
		if x.name != want || x.conn == nil {
			t.Fatalf("got %s, %v, want a tunnel for the %s", x.name, x.res, want)
		}
		last = &conn{Conn: x.conn, t: t}
		last.echo("hello")
	}
	if s := r.stats(); s.Waiting != 0 || s.Tunnels != 2 || s.Pending != 0 || s.Full != 1 {
		t.Errorf("got %+v, want 2 tunnels, nobody waiting, 1 full", s)
	}
}

// TestQueueTime: who waits too long is told so.
func TestQueueTime(t *testing.T) {
	a := serve(t, "127.0.0.2")
	r := newRig(t, Config{Servers: servers(a), Limits: Limits{MaxTunnels: 1}, QueueLength: 3, QueueTime: 30 * time.Millisecond})
	r.open()
	_, res, err := r.try()
	if err == nil || res == nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("got %v, %v, want 503 with Retry-After", res, err)
	}
	r.refusal("503 queue-timeout")
	v, err := r.up.Load().Visit(newRequest(t)) // requests have no limit here
	if err != nil {
		t.Fatal(err)
	}
	v.Leave()
	if s := r.stats(); s.QueueTimeouts != 1 || s.Waiting != 0 {
		t.Errorf("got %+v, want 1 timeout, nobody waiting", s)
	}
}

// TestQueueMoves: what makes room lets those that wait go on: a limit that a
// reload lifts, a server that a reload adds, one that the operator lets in.
func TestQueueMoves(t *testing.T) {
	a, b := serve(t, "127.0.0.2"), serve(t, "127.0.0.3")
	full := servers(a, b)
	full[0].Limits.MaxTunnels, full[1].Limits.MaxTunnels = 1, 1
	base := Config{Servers: full, QueueLength: 3, QueueTime: time.Minute}
	for name, move := range map[string]func(*rig){
		"limit": func(r *rig) {
			c := base
			c.Servers = servers(a, b)
			r.reload(c)
		},
		"server": func(r *rig) {
			c := base
			c.Servers = append(c.Servers[:2:2], servers(serve(t, "127.0.0.4"))...)
			r.reload(c)
		},
		"drain": func(r *rig) {
			r.up.Load().SetDrain(b.addr, false)
		},
	} {
		r := newRig(t, base)
		if name == "drain" {
			r.up.Load().SetDrain(b.addr, true)
		} else {
			r.open()
		}
		r.open()
		out := make(chan answer, 1)
		r.later(name, out)
		r.waiting(1)
		move(r)
		if x := <-out; x.conn == nil {
			t.Errorf("%s: got %v, want a tunnel", name, x.res)
		}
	}
}

// TestQueueOfRequests: ordinary requests have a queue of their own.
func TestQueueOfRequests(t *testing.T) {
	a := serve(t, "127.0.0.2")
	r := newRig(t, Config{
		Servers: servers(a), Limits: Limits{MaxRequests: 1, MaxTunnels: 1}, QueueLength: 1, QueueTime: time.Minute,
	})
	r.open()
	u := r.up.Load()
	first, err := u.Visit(newRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() {
		second, err := u.Visit(newRequest(t))
		if err == nil {
			second.Leave()
		}
		got <- err
	}()
	r.waiting(1)
	if _, err := u.Visit(newRequest(t)); err == nil || err.Error() != codeFull {
		t.Errorf("queue is full: got %v, want %s", err, codeFull)
	}
	first.Leave()
	if err := <-got; err != nil {
		t.Errorf("second: got %v, want a place", err)
	}
	if s := r.stats(); s.Requests != 0 || s.Waiting != 0 {
		t.Errorf("got %+v, want no requests, nobody waiting", s)
	}
}

// TestQueueTimeOfRequests: as that of handshakes; and a client that leaves.
func TestQueueTimeOfRequests(t *testing.T) {
	b := newBench(t, Config{Limits: Limits{MaxRequests: 1}, QueueLength: 5, QueueTime: 10 * time.Millisecond}, 1)
	v, err := b.Visit(newRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Leave()
	if _, err := b.Visit(newRequest(t)); err == nil || err.Error() != codeLate {
		t.Errorf("got %v, want %s", err, codeLate)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Visit(newRequest(t).WithContext(ctx)); err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if s := b.Stats(); s.QueueTimeouts != 1 || s.Waiting != 0 || s.Requests != 1 {
		t.Errorf("got %+v, want 1 timeout, nobody waiting", s)
	}
}
