package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"wsgate/bridge"
)

// posts is a loop that runs what is posted when it is told to.
type posts struct {
	all    []func()
	timers []*bridge.Timer
}

func (p *posts) Post(f func())                          { p.all = append(p.all, f) }
func (p *posts) After(_ time.Duration, t *bridge.Timer) { p.timers = append(p.timers, t) }
func (p *posts) Now() time.Time                         { return time.Unix(1e9, 0) }
func (p *posts) TurnEnd(bridge.Flusher)                 {}
func (p *posts) Yield()                                 {}
func (p *posts) Buffer(n int) []byte                    { return make([]byte, 0, n) }
func (p *posts) Free([]byte)                            {}

func (p *posts) run() {
	all := p.all
	p.all = nil
	for _, f := range all {
		f()
	}
}

// TestPlaceForOneWhoLeft: a place that is on its way when the client leaves goes
// to the next one; one that is on its way when the time in the queue ends is taken.
func TestPlaceForOneWhoLeft(t *testing.T) {
	b := newBench(t, Config{Limits: Limits{MaxTunnels: 1}, QueueLength: 5}, 1)
	b.tunnel(want{})
	held := b.server("s0")
	l := &posts{}
	told := map[string]error{}
	open := func(name string) func() {
		return b.Open(l, &bridge.Handshake{}, func(_ bridge.Side, _ bridge.Fields, err error) { told[name] = err })
	}
	cancel := open("first")
	open("second")
	held.Release() // the place is posted to the first
	if s := b.Stats(); s.Pending != 1 || s.Waiting != 1 {
		t.Fatalf("got %+v, want a place on its way, one waiting", s)
	}
	cancel()
	l.run()
	if s := b.Stats(); s.Pending != 1 || s.Waiting != 0 {
		t.Errorf("got %+v, want the place on its way to the second", s)
	}
	l.timers[1].Fire() // its time is over, but the place is there
	l.run()            // the attempt begins, and this is no loop that can dial
	l.run()
	var r *bridge.Refusal
	if !errors.As(told["second"], &r) || r.Code != "internal" || len(told) != 1 {
		t.Errorf("got %v, want an attempt for the second alone", told)
	}
	if s := b.Stats(); s.Pending != 0 || s.Tunnels != 0 || s.QueueTimeouts != 0 {
		t.Errorf("got %+v, want nothing left", s)
	}
}

// TestRequestLeavesAsItsPlaceComes: whichever is first, no place is lost.
func TestRequestLeavesAsItsPlaceComes(t *testing.T) {
	b := newBench(t, Config{Limits: Limits{MaxRequests: 1}, QueueLength: 5}, 1)
	// One processor: the request sees both at once.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 100 {
		first, err := b.Visit(newRequest(t))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan *Visit)
		go func() {
			v, _ := b.Visit(newRequest(t).WithContext(ctx))
			got <- v
		}()
		until(t, "one waiting", func() bool { return b.Stats().Waiting == 1 })
		cancel()
		first.Leave()
		if v := <-got; v != nil {
			v.Leave()
		}
	}
	if s := b.Stats(); s.Requests != 0 || s.Waiting != 0 {
		t.Errorf("got %+v, want nothing left", s)
	}
}

// TestLateLookup: what an old generation learns after a reload changes nothing.
func TestLateLookup(t *testing.T) {
	b := newBench(t, Config{}, 1, 1)
	old := b.Upstream
	b.follow(old, Config{}, 1, 1, 1)
	old.mu.Lock()
	old.rebuild()
	old.mu.Unlock()
	for _, s := range b.Status() {
		if s.State != Up {
			t.Errorf("got %+v, want up", s)
		}
	}
	if n := len(b.Status()); n != 3 {
		t.Errorf("got %d servers, want 3", n)
	}
}

// TestQueueDuringReloads: who waits is told nothing while generations change.
func TestQueueDuringReloads(t *testing.T) {
	c := Config{Limits: Limits{MaxTunnels: 1}, QueueLength: 1}
	b := newBench(t, c, 1)
	b.tunnel(want{})
	told := make(chan error, 1)
	w := &waiter{want: &want{}, given: func(_ *endpoint, err error) { told <- err }}
	if !b.ledger.tunnels.join(w, 1) {
		t.Fatal("got no room in the queue")
	}
	q, stop, stopped := &b.ledger.tunnels, make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				q.wake()
			}
		}
	}()
	for range 10000 {
		u, err := New(b.config, b.env, b.Upstream)
		if err != nil {
			t.Fatal(err)
		}
		u.Start()
		b.Upstream.Close()
		b.Upstream = u
	}
	t.Cleanup(b.Upstream.Close)
	close(stop)
	<-stopped
	select {
	case err := <-told:
		t.Errorf("got %v, want the client to wait: its server is in every generation", err)
	default:
	}
}

// TestNameComesBetween: a client that finds no server because no name is looked
// up yet gets one that comes before it could join the queue.
func TestNameComesBetween(t *testing.T) {
	c := Config{Name: "app", Servers: []ServerConfig{{Address: "app.test:80"}}, ResolveInterval: time.Hour}
	var u *Upstream
	between := func() {}
	now := func() time.Time {
		f := between
		between = func() {}
		f()
		return time.Unix(1e9, 0)
	}
	u, err := New(c, Env{Now: now}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// As Start, without the lookup.
	u.ledger.current.Store(u)
	u.mu.Lock()
	u.rebuild()
	u.mu.Unlock()
	t.Cleanup(u.Close)
	between = func() {
		e := u.entries[0]
		u.mu.Lock()
		e.settled, e.addrs = true, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}
		u.rebuild()
		u.mu.Unlock()
	}
	v, err := u.Visit(newRequest(t))
	if err != nil {
		t.Fatalf("got %v, want a place at the server", err)
	}
	v.Leave()
}

// TestForgotten: nothing is kept of a server that is gone and holds nothing.
func TestForgotten(t *testing.T) {
	b := newBench(t, Config{}, 1, 1, 1)
	b.tunnel(want{})
	b.tunnel(want{})
	b.tunnel(want{})
	last := b.server("s2")
	b.follow(b.Upstream, Config{}, 1)
	if n := len(b.ledger.servers); n != 3 {
		t.Errorf("with tunnels: got %d servers, want 3", n)
	}
	last.Release()
	b.follow(b.Upstream, Config{}, 1)
	if n := len(b.ledger.servers); n != 2 {
		t.Errorf("one has none: got %d servers, want 2", n)
	}
}

// TestVisitAttempts: a request has as many attempts as a handshake, at different
// servers, and holds one place all the time.
func TestVisitAttempts(t *testing.T) {
	b := newBench(t, Config{Retry: Retry{Attempts: 3}, Passive: Passive{Failures: -1}}, 1, 1, 1, 1, 1)
	v, err := b.Visit(newRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{v.Server().String(): true}
	for range 3 {
		if !v.Again(t.Context(), errWhatever) {
			t.Fatalf("after %d servers: got no other attempt, want four in all", len(seen))
		}
		seen[v.Server().String()] = true
		if n := b.Stats().Requests; n != 1 {
			t.Errorf("got %d places, want 1", n)
		}
	}
	if v.Again(t.Context(), errWhatever) || len(seen) != 4 {
		t.Errorf("got %s and one more attempt, want four servers", fmt.Sprint(seen))
	}
	v.Leave()
	for _, s := range b.Status() {
		if s.Requests != 0 {
			t.Errorf("got %+v, want no request left", s)
		}
	}
}
