package h3

import (
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/internal/enginetest"
)

// flood repeats f until the server had enough; it fails after n times.
func (p *peer) flood(n int, f func(i int)) int {
	p.t.Helper()
	for i := range n {
		if p.q.ends > 0 {
			return i
		}
		f(i)
		maps.DeleteFunc(p.streams, func(id uint64, _ *fakeStream) bool { return id > 0 })
	}
	if p.q.ends == 0 {
		p.t.Fatalf("got no end after %d times, want one", n)
	}
	return n
}

// TestFloods reaches each abuse bound that ends in H3_EXCESSIVE_LOAD: rows 126, 127,
// 128, 158.
func TestFloods(t *testing.T) {
	cases := []struct {
		name  string
		most  int // times before the end, at most
		setup func(p *peer)
		step  func(p *peer, id uint64)
		count func(c *Counters) int64
	}{
		{"requests given up: RESET_STREAM", 500, nil, func(p *peer, id uint64) {
			p.headers(id, false, connectFields...)
			p.reset(id, errRequestCancelled)
		}, func(c *Counters) int64 { return c.RapidReset.Load() }},
		{"requests given up: STOP_SENDING", 500, nil, func(p *peer, id uint64) {
			p.headers(id, false, connectFields...)
			p.stopSending(id, errRequestCancelled)
		}, func(c *Counters) int64 { return c.RapidReset.Load() }},
		{"requests given up: without a head", 500, nil, func(p *peer, id uint64) {
			p.reset(id, errRequestCancelled)
		}, func(c *Counters) int64 { return c.RapidReset.Load() }},
		{"malformed", 300, nil, func(p *peer, id uint64) { p.headers(id, false, "X", "y") }, func(c *Counters) int64 { return c.MadeReset.Load() }},
		{"incomplete", 300, nil, func(p *peer, id uint64) { p.fin(id) }, func(c *Counters) int64 { return c.MadeReset.Load() }},
		{
			"requests after GOAWAY", 1200, func(p *peer) { p.tunnel(0, newRecorder()); p.srv.Drain(); p.control(); p.loop.Sleep(drainTime) },
			func(p *peer, id uint64) { p.headers(id, false, connectFields...) }, func(c *Counters) int64 { return c.RejectFlood.Load() },
		},
		{"empty DATA", 600, func(p *peer) { p.tunnel(0, newRecorder()) }, func(p *peer, id uint64) {
			p.frame(0, frameData)
		}, func(c *Counters) int64 { return c.EmptyData.Load() }},
		{"unknown frames on a stream", 12000, func(p *peer) { p.tunnel(0, newRecorder()) }, func(p *peer, id uint64) {
			p.frame(0, 0x21, 1)
		}, func(c *Counters) int64 { return c.OtherFrames.Load() }},
		{"unknown frames on the control stream", 12000, nil, func(p *peer, id uint64) {
			p.sends(p.ctl, rawFrame(0x21))
		}, func(c *Counters) int64 { return c.OtherFrames.Load() }},
		{"MAX_PUSH_ID", 12000, nil, func(p *peer, id uint64) {
			p.sends(p.ctl, rawFrame(frameMaxPushID, appendVarint(nil, id)...))
		}, func(c *Counters) int64 { return c.OtherFrames.Load() }},
		{"encoder instructions", 12000, func(p *peer) { p.ctl = p.uni(streamEncoder) }, func(p *peer, id uint64) {
			p.sends(p.ctl, []byte{0x20})
		}, func(c *Counters) int64 { return c.OtherFrames.Load() }},
		{"stream cancellations", 12000, func(p *peer) { p.ctl = p.uni(streamDecoder) }, func(p *peer, id uint64) {
			p.sends(p.ctl, []byte{0x41})
		}, func(c *Counters) int64 { return c.OtherFrames.Load() }},
		{"streams of unknown types", 150, nil, func(p *peer, id uint64) { p.uni(0x21) }, func(c *Counters) int64 { return c.UniStreams.Load() }},
		{"streams without a type", 150, nil, func(p *peer, id uint64) { p.ends(p.rawUni()) }, func(c *Counters) int64 { return c.UniStreams.Load() }},
		{"streams reset before their type", 150, nil, func(p *peer, id uint64) {
			p.rawUni().to.wasReset(errNone)
		}, func(c *Counters) int64 { return c.UniStreams.Load() }},
		{"field sections over the limit", 60, nil, func(p *peer, id uint64) {
			p.headers(id, true, enginetest.Edit(getFields, "x-big", strings.Repeat("a", 70000))...)
		}, func(c *Counters) int64 { return c.HeaderBomb.Load() }},
		{"QPACK bomb", 2, nil, func(p *peer, id uint64) {
			p.frame(id, frameHeaders, append([]byte{0, 0}, strings.Repeat("\xd7", 100000)...)...) // :scheme https
		}, func(c *Counters) int64 { return c.HeaderBomb.Load() }},
		{"long field section", 2, nil, func(p *peer, id uint64) {
			p.headers(id, false, enginetest.Edit(getFields, "x-big", strings.Repeat("a", 250000))...)
		}, func(c *Counters) int64 { return c.HeaderLength.Load() }},
		{"field sections that stay incomplete", 20, nil, func(p *peer, id uint64) {
			b := rawFrame(frameHeaders, make([]byte, 2*64<<10)...)
			p.raw(id, b[:len(b)-1])
		}, func(c *Counters) int64 { return c.HeaderMemory.Load() }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, nil)
			id := uint64(0)
			if c.setup != nil {
				c.setup(p)
				id = 4
			}
			n := p.flood(c.most, func(i int) { c.step(p, id); id += 4 })
			p.wantClosed(errExcessiveLoad)
			if got := c.count(p.srv.Counters); got != 1 {
				t.Errorf("got %d counted, want 1", got)
			}
			if c.name == "requests after GOAWAY" && len(p.offers) != 1 {
				t.Errorf("got %d offers, want the one before the drain", len(p.offers))
			}
			t.Logf("ended after %d", n)
		})
	}
}

// TestHonestLoads must not reach any bound: row 230 and full speed.
func TestHonestLoads(t *testing.T) {
	t.Run("closing tab", func(t *testing.T) {
		p := newPeer(t, nil)
		for round := range uint64(5) {
			base := round * 800
			for i := range uint64(200) {
				p.tunnel(base+4*i, newRecorder())
			}
			for i := range uint64(200) {
				p.reset(base+4*i, errRequestCancelled)
				p.stopSending(base+4*i, errRequestCancelled)
			}
		}
		p.nothingLeft()
		p.alive()
	})
	t.Run("page left while loading", func(t *testing.T) {
		p := newPeer(t, nil)
		for i := range uint64(200) {
			p.connectWS(4 * i)
		}
		for i := range uint64(200) {
			p.reset(4*i, errRequestCancelled)
		}
		p.alive()
	})
	t.Run("open and close at full speed", func(t *testing.T) {
		p := newPeer(t, nil)
		for i := range uint64(20000) {
			s := p.tunnel(4*i, newRecorder())
			p.data(4*i, true, "x")
			s.CloseWrite()
			clear(p.streams)
		}
		p.alive()
	})
	t.Run("a backend restarts under 200 busy tunnels", func(t *testing.T) {
		p := newPeer(t, nil)
		var sides []bridge.Side
		for i := range uint64(200) {
			sides = append(sides, p.tunnel(4*i, newRecorder()))
		}
		for _, s := range sides {
			s.Reset(bridge.ReasonFarSide)
		}
		p.nothingLeft()
		p.alive()
	})
	t.Run("grease on each stream", func(t *testing.T) {
		p := newPeer(t, nil)
		for i := range uint64(5000) {
			p.frame(4*i, 0x21, 1, 2)
			p.headers(4*i, true, enginetest.Edit(getFields, ":method", "HEAD")...)
			clear(p.streams)
			p.loop.Sleep(10 * time.Millisecond)
		}
		p.alive()
	})
}

// TestTunnelLimit is row 124: tunnels leave slots for ordinary requests.
func TestTunnelLimit(t *testing.T) {
	p := newPeer(t, func(s *Server) {
		serveFunc(func(w http.ResponseWriter, r *http.Request) {})(s)
		s.MaxTunnels = 2
	})
	s := p.tunnel(0, newRecorder())
	p.connectWS(4)
	p.headers(8, false, connectFields...)
	all := p.frames(8)
	if f := p.wantStatus(all, "503"); f.get("retry-after") != "5" {
		t.Errorf("got fields %v, want retry-after 5", f.fields)
	}
	if got := fmt.Sprint(p.rejected); got != "[503 connection-tunnel-limit]" || p.srv.Counters.TunnelLimit.Load() != 1 {
		t.Errorf("got told %s and %d counted, want connection-tunnel-limit and 1", got, p.srv.Counters.TunnelLimit.Load())
	}
	p.headers(12, true, getFields...)
	p.loop.Wait(func() bool { return p.c.slots == 2 })
	p.want(12, "HEADERS 200, FIN")
	s.Reset(bridge.ReasonFarSide)
	p.connectWS(16)
	p.alive()
}

// TestHeaderLimit is row 51 and 158: a section over the limit is answered and the
// connection goes on.
func TestHeaderLimit(t *testing.T) {
	many := make([]string, 0, 4000)
	for range 2000 {
		many = append(many, "x-a", "1234567890")
	}
	for _, fields := range [][]string{{"x-big", strings.Repeat("a", 70000)}, {"x-big", strings.Repeat("~", 66000)}, many} {
		p := newPeer(t, nil)
		p.headers(0, false, append(append([]string(nil), connectFields...), fields...)...)
		p.want(0, `HEADERS 431, DATA "431 request header fields too large: fields-too-large\n", FIN, STOP 0x100`)
		o := p.connectWS(4)
		if got, want := o.Handshake().Path, "/chat"; got != want {
			t.Errorf("got path %q, want %q", got, want)
		}
		if n := p.srv.Counters.HeaderLimit.Load(); n != 1 {
			t.Errorf("got %d counted, want 1", n)
		}
	}
}

// TestManySettings: SETTINGS costs no more than its octets.
func TestManySettings(t *testing.T) {
	p := rawPeer(t, nil)
	var b []byte
	for id := uint64(0x4000); len(b) < maxControlFrame-8; id++ {
		b = append(appendVarint(b, id), 0)
	}
	p.sends(p.uni(streamControl), rawFrame(frameSettings, b...))
	p.alive()
}

// TestIdle is row 129: a connection without requests ends in order, one with a
// tunnel is not idle, and a request that crosses the GOAWAY is served.
func TestIdle(t *testing.T) {
	p := newPeer(t, nil)
	p.tunnel(0, newRecorder())
	p.loop.Sleep(time.Hour)
	p.wantControl("")
	p.data(0, false, "x")
	p.reset(0, errRequestCancelled)
	p.loop.Sleep(3*time.Minute - time.Millisecond)
	p.wantControl("")
	p.loop.Sleep(2 * time.Millisecond)
	p.wantControl("GOAWAY 4611686018427387900")
	if n := p.srv.Counters.IdleTimeout.Load(); n != 1 {
		t.Errorf("got %d counted, want 1", n)
	}
	s := p.tunnel(4, newRecorder())
	p.loop.Sleep(drainTime)
	p.wantControl("GOAWAY 8")
	p.loop.Sleep(time.Hour)
	if p.q.ends != 0 {
		t.Fatalf("got an end with a tunnel open, want none")
	}
	s.Reset(bridge.ReasonFarSide)
	p.loop.Sleep(time.Second)
	p.wantClosed(errNone)
}

// TestDrain is rows 131, 132, 156 and 157.
func TestDrain(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	s := p.tunnel(0, far)
	p.srv.Drain()
	p.srv.Drain()
	p.wantControl("GOAWAY 4611686018427387900")
	o := p.connectWS(4) // was under way
	p.loop.Sleep(drainTime - time.Millisecond)
	p.wantControl("")
	p.loop.Sleep(time.Millisecond)
	p.wantControl("GOAWAY 8")
	p.headers(8, false, connectFields...)
	p.want(8, "RESET 0x10b, STOP 0x10b")
	p.open(12)
	p.want(12, "RESET 0x10b, STOP 0x10b")
	if len(p.offers) != 2 {
		t.Errorf("got %d offers, want 2", len(p.offers))
	}
	o.Refuse(&bridge.Refusal{Status: 503})
	p.want(4, "HEADERS 503, FIN, STOP 0x100")
	p.data(0, true, "end")
	s.Write([]byte("end"))
	s.CloseWrite()
	p.want(0, `DATA "end", FIN`)
	if far.ended != 1 || far.brokens != 0 {
		t.Errorf("got %d ends, %d breaks, want 1, 0", far.ended, far.brokens)
	}
	// What was written arrives before the end: something still goes out.
	for range 5 {
		p.q.octets += 1000
		p.loop.Sleep(250 * time.Millisecond)
		if p.q.ends != 0 {
			t.Fatal("got the end while octets still go out, want it behind them")
		}
	}
	p.loop.Sleep(time.Second)
	p.wantClosed(errNone)
	p.nothingLeft()
}

// TestDrainIdle: a connection without streams ends soon; one that is born while
// draining hears of it at once.
func TestDrainIdle(t *testing.T) {
	p := newPeer(t, nil)
	p.srv.Drain()
	p.wantControl("GOAWAY 4611686018427387900")
	p.loop.Sleep(40 * time.Millisecond)
	p.wantControl("GOAWAY 0")
	p.loop.Sleep(500 * time.Millisecond)
	p.wantClosed(errNone)

	p.q = &fakeQUIC{p: p, at: p.client.Remote}
	p.c = p.srv.serve(p.loop, p.q, p.client)
	p.wantControl("SETTINGS 8=1 6=65536 374=0, GOAWAY 4611686018427387900")
	p.loop.Sleep(time.Second)
	p.wantClosed(errNone)

	// Octets that never stop going out do not keep it.
	p = newPeer(t, nil)
	p.srv.Drain()
	p.control()
	for range 100 {
		p.q.octets++
		p.loop.Sleep(200 * time.Millisecond)
	}
	p.wantClosed(errNone)
}

// TestDrainWaits: octets that the client has not taken hold the drain up.
func TestDrainWaits(t *testing.T) {
	p := newPeer(t, nil)
	s := p.tunnel(0, newRecorder())
	p.data(0, true, "")
	s.Write([]byte("tail"))
	p.at(0).waits = 4
	s.CloseWrite()
	p.srv.Drain()
	p.loop.Sleep(drainTime)
	p.loop.Sleep(20 * time.Second)
	if p.q.ends != 0 {
		t.Fatalf("got an end with octets that wait, want none")
	}
	p.at(0).give(4)
	p.want(0, `DATA "tail", FIN`)
	p.loop.Sleep(time.Second)
	p.wantClosed(errNone)
}

// TestDrainLate is row 137: no GOAWAY before the last tunnel of a connection has
// ended, or the time is up.
func TestDrainLate(t *testing.T) {
	for _, forced := range []bool{false, true} {
		p := newPeer(t, nil)
		s := p.tunnel(0, newRecorder())
		p.srv.DrainLate()
		p.wantControl("")
		if forced {
			p.srv.Drain()
		} else {
			p.data(0, true, "end")
			s.CloseWrite()
		}
		p.wantControl("GOAWAY 4611686018427387900")
	}
	p := newPeer(t, nil)
	p.srv.DrainLate()
	p.wantControl("GOAWAY 4611686018427387900") // it has no tunnels
}

// echo is an owner that sends back what it gets.
type echo struct{ s bridge.Side }

func (e *echo) Want() int                 { return e.s.Room() }
func (e *echo) Data(p []byte) int         { return e.s.Write(p) }
func (e *echo) End()                      { e.s.CloseWrite() }
func (e *echo) Broken(*bridge.ResetError) {}
func (e *echo) Writable()                 { e.s.Resume() }

// sink is a stream that drops what it gets.
type sink struct{ fakeStream }

func (s *sink) room() int    { return maxPayload + maxFrameHead }
func (s *sink) write([]byte) {}
func (s *sink) unsent() bool { return false }
func (s *sink) end()         {}

// TestRelayAllocates: no allocation per message in steady state.
func TestRelayAllocates(t *testing.T) {
	for _, size := range []int{1, 64, 1024, 40000} {
		p := newPeer(t, nil)
		r := p.c.bidi(0, &sink{fakeStream{p: p}})
		r.data(rawFrame(frameHeaders, block(t, connectFields...)...), false)
		e := &echo{s: p.offers[0].Accept(nil)}
		e.s.Bind(e)
		p.loop.Turn()
		in := rawFrame(frameData, make([]byte, size)...)
		once := func() {
			if n := r.data(in, false); n != len(in) {
				t.Fatalf("got %d octets taken, want %d", n, len(in))
			}
		}
		once()
		if n := testing.AllocsPerRun(200, once); n != 0 {
			t.Errorf("got %v allocations for a message of %d octets, want 0", n, size)
		}
	}
}

// TestIdleCost: what the engine holds for an idle tunnel and an idle connection.
func TestIdleCost(t *testing.T) {
	const conns, tunnels = 50, 100
	p := newPeer(t, nil)
	p.srv.Offer = func(o bridge.Offer) {
		e := &echo{s: o.Accept(nil)}
		e.s.Bind(e)
	}
	head := rawFrame(frameHeaders, block(t, connectFields...)...)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	null := &sink{}
	p.q.control = nil
	before := heap()
	all := make([]*conn, conns)
	for i := range all {
		all[i] = p.srv.serve(p.loop, p.q, p.client)
		p.q.control = nil
	}
	perConn := (heap() - before) / conns
	before = heap()
	for _, c := range all {
		for i := range uint64(tunnels) {
			c.bidi(4*i, null).data(head, false)
			p.loop.Turn()
		}
	}
	perTunnel := (heap() - before) / (conns * tunnels)
	t.Logf("%d octets for an idle connection, %d for an idle tunnel with its owner of 16", perConn, perTunnel)
	if perTunnel > 400 {
		t.Errorf("got %d octets for an idle tunnel, want at most 400", perTunnel)
	}
	if perConn > 3000 {
		t.Errorf("got %d octets for an idle connection, want at most 3000", perConn)
	}
	runtime.KeepAlive(all)
}
