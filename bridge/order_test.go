package bridge

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// place is a server in the test's hands.
type place struct {
	name     string
	released int
}

func (p *place) String() string { return p.name }
func (p *place) Release()       { p.released++ }

func named(name string) Match {
	return func(t *Tunnel) bool { return t.Server != nil && t.Server.String() == name }
}

func closeCodeAt(s *fakeSide) int {
	w := newWatch(false)
	w.feed(s.got)
	return w.closeCode()
}

// TestEnd: an order ends the tunnels that match, late and with its own code.
func TestEnd(t *testing.T) {
	r := newRig(t, &Service{Name: "chat"})
	r.offer.h.Server = &place{name: "a"}
	r.open()
	if r.opened.Server.String() != "a" || r.opened.Service.Name != "chat" {
		t.Errorf("tunnel: got server %v, service %q; want a, chat", r.opened.Server, r.opened.Service.Name)
	}
	r.b.End(Ending{Code: 1012, Reason: "moved", Why: "server-removed", Time: 10 * time.Second, Late: true}, named("b"))
	r.loop.advance(time.Minute)
	if len(r.client.got) > 0 || r.b.Stats().Tunnels != 1 {
		t.Fatalf("an order for another server: got %q at the client", r.client.got)
	}
	r.b.End(Ending{Code: 1012, Reason: "moved", Why: "server-removed", Time: 10 * time.Second, Late: true}, named("a"))
	r.loop.advance(9 * time.Second)
	if len(r.client.got) > 0 {
		t.Fatalf("before its time: got %q at the client", r.client.got)
	}
	r.loop.advance(2 * time.Second)
	if code := closeCodeAt(r.client); code != 1012 {
		t.Errorf("at its time: got Close %d, want 1012", code)
	}
	r.loop.advance(10 * time.Second) // nobody answers
	r.want("gateway", "server-removed", true)
	if p := r.opened.Server.(*place); p.released != 1 {
		t.Errorf("place at the server: released %d times, want 1", p.released)
	}
}

// TestSpare: an order is taken back before its Close frame is out.
func TestSpare(t *testing.T) {
	r := newRig(t, &Service{})
	r.offer.h.Server = &place{name: "a"}
	r.open()
	r.b.End(Ending{Time: 10 * time.Second, Late: true}, named("a"))
	r.loop.run()
	r.b.Spare(named("a"))
	r.loop.advance(time.Minute)
	if len(r.client.got) > 0 || r.b.Stats().Tunnels != 1 {
		t.Errorf("spared: got %q at the client, %d tunnels; want nothing, 1", r.client.got, r.b.Stats().Tunnels)
	}
	// A drain is not taken back, and ends sooner than an order that is later.
	r.b.End(Ending{Time: time.Hour, Late: true}, named("a"))
	r.b.startDrain(Ending{Time: 10 * time.Second})
	r.loop.run()
	r.b.Spare(named("a"))
	r.loop.advance(10 * time.Second)
	r.want("gateway", "drain", true)
}

// TestWalk: orders and counts reach every tunnel, however many turns it takes.
func TestWalk(t *testing.T) {
	r := newRig(t, &Service{})
	const n = 2*aTurn + 7
	for range n {
		o := r.newOffer()
		o.side = &fakeSide{loop: r.loop, room: 1 << 10}
		o.h.Server = &place{name: "a"}
		r.b.Serve(o, r.s)
		r.be.done(&fakeSide{loop: r.loop, room: 1 << 10}, nil, nil)
	}
	r.loop.run()
	count := func() int {
		got := make(chan int, 1)
		go func() {
			c, err := r.b.Count(context.Background(), named("a"))
			if err != nil {
				t.Error(err)
			}
			got <- c
		}()
		for {
			select {
			case c := <-got:
				return c
			case <-r.loop.posted:
				r.loop.run()
			}
		}
	}
	if got := count(); got != n {
		t.Errorf("tunnels: got %d, want %d", got, n)
	}
	r.b.End(Ending{Time: time.Second}, named("a"))
	r.loop.advance(time.Minute)
	if s := r.b.Stats(); s.Tunnels != 0 || len(r.done) != n {
		t.Errorf("after the order: got %d tunnels, %d ends; want 0, %d", s.Tunnels, len(r.done), n)
	}
}

// TestCloseWords: an order without words of its own says those of the service.
func TestCloseWords(t *testing.T) {
	r := newRig(t, &Service{CloseCode: 4000, CloseReason: "later"}).open()
	r.b.End(Ending{Time: time.Second}, func(*Tunnel) bool { return true })
	r.loop.advance(time.Second)
	if code := closeCodeAt(r.client); code != 4000 || !bytes.Contains(r.client.got, []byte("later")) {
		t.Errorf("close to the client: got %q, want 4000 later", r.client.got)
	}
}

// TestOpenTimeout: a service's own time for handshakes.
func TestOpenTimeout(t *testing.T) {
	r := newRig(t, &Service{Times: Times{Open: time.Second}})
	r.b.Serve(r.offer, r.s)
	r.loop.advance(time.Second)
	if o := r.offer.refused; o == nil || o.Status != 504 || o.Code != "open-timeout" || r.be.canceled != 1 {
		t.Errorf("got %+v, %d dials cancelled; want 504 open-timeout, 1", o, r.be.canceled)
	}
	if s := r.b.Stats(); s.Pending != 0 {
		t.Errorf("pending: got %d, want 0", s.Pending)
	}
	r = newRig(t, &Service{Times: Times{Open: time.Second}}).open()
	r.loop.advance(time.Minute)
	if s := r.b.Stats(); s.Tunnels != 1 {
		t.Errorf("in time: got %d tunnels, want 1", s.Tunnels)
	}
}

// TestRefuse2xx: an answer of a route, too, does not look like an open tunnel
// (RFC 9110 section 9.3.6).
func TestRefuse2xx(t *testing.T) {
	for major, want := range map[int]int{1: 200, 2: 502, 3: 502} {
		r := newRig(t, &Service{})
		r.offer.h.Major = major
		r.b.Refuse(r.offer, "maintenance", &Refusal{Status: 200, Body: []byte("soon")})
		if o := r.offer.refused; o == nil || o.Status != want {
			t.Errorf("HTTP/%d: got %+v, want %d", major, o, want)
		}
	}
}

// TestSpread: the Close frames of an order are spread over its time, each in its
// own place.
func TestSpread(t *testing.T) {
	r := newRig(t, &Service{})
	var clients []*fakeSide
	for range 50 {
		o := r.newOffer()
		o.side = &fakeSide{loop: r.loop, room: 1 << 10}
		clients = append(clients, o.side)
		r.b.Serve(o, r.s)
		r.be.done(&fakeSide{loop: r.loop, room: 1 << 10}, nil, nil)
	}
	r.loop.run()
	r.b.startDrain(Ending{Time: 100 * time.Second})
	closed := func() (n int) {
		for _, c := range clients {
			if len(c.got) > 0 {
				n++
			}
		}
		return n
	}
	last := 0
	for q := range 4 {
		r.loop.advance(94 * time.Second / 4) // the answers have 6 s more
		n := closed()
		if n-last < 1 || n-last > 35 {
			t.Errorf("quarter %d: got %d Close frames of 50, want some 12", q+1, n-last)
		}
		last = n
	}
	if last != 50 {
		t.Errorf("at the end of the spread: got %d closed, want 50", last)
	}
}
