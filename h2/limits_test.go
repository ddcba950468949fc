package h2

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/internal/enginetest"
)

// calmly ends a test of a flood: the connection is gone with ENHANCE_YOUR_CALM,
// counted once.
func (p *peer) wantCalm(count int64) {
	p.t.Helper()
	all := p.frames()
	if len(all) == 0 || all[len(all)-1].kind != frameGoaway || !strings.HasSuffix(all[len(all)-1].String(), "ENHANCE_YOUR_CALM") {
		if len(all) > 5 {
			all = all[len(all)-5:]
		}
		p.t.Fatalf("got [... %s], want GOAWAY ENHANCE_YOUR_CALM", show(all))
	}
	if count != 1 {
		p.t.Errorf("got %d counted, want 1", count)
	}
	if len(p.c.streams) != 0 {
		p.t.Errorf("got %d streams left, want none", len(p.c.streams))
	}
}

// flood repeats f until the server had enough; it fails after n times.
func (p *peer) flood(n int, f func(i int)) int {
	p.t.Helper()
	for i := range n {
		if p.c.phase >= phaseClosing {
			return i
		}
		f(i)
	}
	if p.c.phase < phaseClosing {
		p.t.Fatalf("got no end after %d times, want one", n)
	}
	return n
}

// TestFloods reaches each abuse bound that ends in ENHANCE_YOUR_CALM: rows 53,
// 126, 127, 128.
func TestFloods(t *testing.T) {
	reset := func(id uint32) []byte { return rawFrame(frameRSTStream, 0, id, 0, 0, 0, 8) }
	cases := []struct {
		name  string
		n     int
		setup func(p *peer)
		step  func(p *peer, id uint32)
		count func(c *Counters) int64
	}{
		{"rapid reset", 10000, nil, func(p *peer, id uint32) {
			p.headers(id, false, connectFields...)
			p.send(reset(id))
		}, func(c *Counters) int64 { return c.RapidReset.Load() }},
		{"made reset: WINDOW_UPDATE 0", 10000, nil, func(p *peer, id uint32) {
			p.headers(id, false, connectFields...)
			p.frame(frameWindowUpdate, 0, id, 0, 0, 0, 0)
		}, func(c *Counters) int64 { return c.MadeReset.Load() }},
		{"made reset: overflow", 10000, nil, func(p *peer, id uint32) {
			p.headers(id, false, connectFields...)
			p.frame(frameWindowUpdate, 0, id, 0x7f, 0xff, 0xff, 0xff)
		}, func(c *Counters) int64 { return c.MadeReset.Load() }},
		{"made reset: DATA after END_STREAM", 10000, nil, func(p *peer, id uint32) {
			p.headers(id, false, connectFields...)
			p.data(id, true, "x")
			p.data(id, true, "x")
		}, func(c *Counters) int64 { return c.MadeReset.Load() }},
		{"made reset: bad PRIORITY", 10000, nil, func(p *peer, id uint32) {
			p.headers(id, false, connectFields...)
			p.frame(framePriority, 0, id, 1)
		}, func(c *Counters) int64 { return c.MadeReset.Load() }},
		{"made reset: malformed", 10000, nil, func(p *peer, id uint32) {
			p.headers(id, false, "X", "y")
		}, func(c *Counters) int64 { return c.MadeReset.Load() }},
		{"streams over the limit", 10000, func(p *peer) { p.c.sh.lim.streams = 0 }, func(p *peer, id uint32) {
			p.headers(id, false, connectFields...)
		}, func(c *Counters) int64 { return c.RefusedFlood.Load() }},
		{"SETTINGS", 1000, nil, func(p *peer, id uint32) { p.settings() }, func(c *Counters) int64 { return c.SettingsFlood.Load() }},
		{"PING", 1000, nil, func(p *peer, id uint32) { p.frame(framePing, 0, 0, make([]byte, 8)...) }, func(c *Counters) int64 { return c.PingFlood.Load() }},
		{
			"empty DATA", 1000, func(p *peer) { p.tunnel(1, newRecorder()) }, func(p *peer, id uint32) { p.data(1, false, "") },
			func(c *Counters) int64 { return c.EmptyData.Load() },
		},
		{"WINDOW_UPDATE of 1", 5000, func(p *peer) { p.tunnel(1, newRecorder()) }, func(p *peer, id uint32) {
			p.frame(frameWindowUpdate, 0, 1, 0, 0, 0, 1)
		}, func(c *Counters) int64 { return c.WindowUpdate.Load() }},
		{
			"PRIORITY", 20000, nil, func(p *peer, id uint32) { p.frame(framePriority, 0, 1, 0, 0, 0, 3, 1) },
			func(c *Counters) int64 { return c.OtherFrames.Load() },
		},
		{"unknown frames", 20000, nil, func(p *peer, id uint32) { p.frame(0xaa, 0, 0) }, func(c *Counters) int64 { return c.OtherFrames.Load() }},
		{
			"DATA on a reset stream", 100000, func(p *peer) { p.tunnel(1, newRecorder()).Reset(bridge.ReasonFarSide) },
			func(p *peer, id uint32) { p.data(1, false, "x") }, func(c *Counters) int64 { return c.OtherFrames.Load() },
		},
		{"CONTINUATION, empty", 100, func(p *peer) { p.frame(frameHeaders, 0, 1, 0x82) }, func(p *peer, id uint32) {
			p.frame(frameContinuation, 0, 1)
		}, func(c *Counters) int64 { return c.Continuation.Load() }},
		{"CONTINUATION, full", 20, func(p *peer) { p.frame(frameHeaders, 0, 1, 0x82) }, func(p *peer, id uint32) {
			p.frame(frameContinuation, 0, 1, make([]byte, 16384)...)
		}, func(c *Counters) int64 { return c.HeaderBomb.Load() }},
		{"header blocks over the limit", 100, nil, func(p *peer, id uint32) {
			p.headers(id, true, enginetest.Edit(getFields, "x-big", strings.Repeat("a", 70000))...)
		}, func(c *Counters) int64 { return c.HeaderBomb.Load() }},
		{"HPACK bomb", 2, nil, func(p *peer, id uint32) {
			b := p.block("x-big", strings.Repeat("~", 4000)) // one entry of the table, then 16000 times its index
			p.frame(frameHeaders, flagEndHeaders, id, append(b, strings.Repeat("\xbe", 12000)...)...)
		}, func(c *Counters) int64 { return c.HeaderBomb.Load() }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, nil)
			if c.setup != nil {
				c.setup(p)
			}
			n := p.flood(c.n, func(i int) { c.step(p, uint32(2*i+1)) })
			p.wantCalm(c.count(p.srv.Counters))
			if p.loop.Held > 512 {
				t.Errorf("got %d octets held after the end, want none", p.loop.Held)
			}
			if c.name == "rapid reset" && len(p.offers) > 500 {
				t.Errorf("got %d offers, want at most 500", len(p.offers))
			}
			t.Logf("ended after %d", n)
		})
	}
}

// TestOneLongField: a field far over the limit ends the connection; memory does
// not follow it.
func TestOneLongField(t *testing.T) {
	p := newPeer(t, nil)
	// A literal that announces 200000 octets.
	p.frame(frameHeaders, flagEndHeaders, 1, append([]byte{0x00, 1, 'x'}, 0x7f, 0xc1, 0x99, 0x0c)...)
	p.wantCalm(p.srv.Counters.HeaderBomb.Load())
}

// TestHonestLoads must not reach any bound: row 230 and full speed.
func TestHonestLoads(t *testing.T) {
	t.Run("closing tab", func(t *testing.T) {
		p := newPeer(t, nil)
		for round := range 5 {
			base := uint32(round*400 + 1)
			for i := range uint32(200) {
				p.tunnel(base+2*i, newRecorder())
			}
			for i := range uint32(200) {
				p.frame(frameRSTStream, 0, base+2*i, 0, 0, 0, 8)
			}
		}
		p.alive()
	})
	t.Run("page left while loading", func(t *testing.T) {
		p := newPeer(t, nil)
		for i := range uint32(200) {
			p.connectWS(2*i + 1)
		}
		for i := range uint32(200) {
			p.frame(frameRSTStream, 0, 2*i+1, 0, 0, 0, 8)
		}
		p.alive()
	})
	t.Run("WINDOW_UPDATE for each DATA", func(t *testing.T) {
		p := newPeer(t, nil)
		far := newRecorder()
		s := p.tunnel(1, far)
		for range 20000 {
			s.Write([]byte("a message"))
			p.frames()
			p.frame(frameWindowUpdate, 0, 1, u32(9)...)
			p.frame(frameWindowUpdate, 0, 0, u32(9)...)
		}
		p.alive()
	})
	t.Run("open and close at full speed", func(t *testing.T) {
		p := newPeer(t, nil)
		for i := range uint32(20000) {
			id := 2*i + 1
			far := newRecorder()
			s := p.tunnel(id, far)
			p.data(id, true, "x")
			s.CloseWrite()
			// The client's last words cross the end of the stream.
			p.frame(frameWindowUpdate, 0, id, u32(9)...)
			p.frame(frameRSTStream, 0, id, 0, 0, 0, 0)
		}
		p.alive()
	})
	t.Run("a backend restarts under 200 busy tunnels", func(t *testing.T) {
		p := newPeer(t, nil)
		var sides []bridge.Side
		for i := range uint32(200) {
			sides = append(sides, p.tunnel(2*i+1, newRecorder()))
		}
		for _, s := range sides {
			s.Reset(bridge.ReasonFarSide)
		}
		p.frames()
		for k := range 60 {
			for i := range uint32(200) {
				p.data(2*i+1, k == 59, strings.Repeat("x", 1000))
			}
		}
		p.alive()
	})
	t.Run("PRIORITY for each stream", func(t *testing.T) {
		p := newPeer(t, nil)
		for i := range uint32(15000) {
			p.frame(framePriority, 0, 2*i+1, 0, 0, 0, 0, 9)
			p.headers(2*i+1, true, "X", "y")
			p.loop.Sleep(100 * time.Millisecond)
			p.side.out = p.side.out[:0]
		}
		p.alive()
	})
	t.Run("pings and settings over time", func(t *testing.T) {
		p := newPeer(t, nil)
		p.tunnel(1, newRecorder())
		for range 5000 {
			p.frame(framePing, 0, 0, make([]byte, 8)...)
			p.settings()
			p.loop.Sleep(100 * time.Millisecond)
			p.frames()
		}
		p.alive()
	})
}

// TestStreamLimits is rows 123 and 124.
func TestStreamLimits(t *testing.T) {
	release := make(chan bool)
	p := newPeer(t, func(s *Server) {
		serveFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				<-release
			}
		})(s)
		s.MaxStreams, s.MaxTunnels = 4, 2
	})
	p.connectWS(1)
	p.connectWS(3)
	p.headers(5, false, connectFields...)
	all := p.frames()
	if got, want := show(all), "HEADERS 5 503, DATA 5 len=49 end, RST_STREAM 5 NO_ERROR"; got != want {
		t.Fatalf("got [%s], want [%s]", got, want)
	}
	if all[0].get("retry-after") != "5" || p.client.Tunnels != 2 {
		t.Errorf("got fields %v and %d tunnels, want retry-after 5 and 2", all[0].fields, p.client.Tunnels)
	}
	p.headers(7, true, getFields...) // an ordinary request still runs
	p.loop.Wait(func() bool { return p.c.slots == 2 })
	p.wantStatus(p.frames(), 7, "200")
	for id := uint32(9); id < 13; id += 2 {
		p.headers(id, false, enginetest.Edit(getFields, ":method", "POST")...)
	}
	p.headers(13, true, getFields...)
	p.want("RST_STREAM 13 REFUSED_STREAM")
	close(release)
	if c := p.srv.Counters; c.StreamLimit.Load() != 1 || c.TunnelLimit.Load() != 1 {
		t.Errorf("got %d and %d counted, want 1 and 1", c.StreamLimit.Load(), c.TunnelLimit.Load())
	}
	p.loop.Wait(func() bool { return p.c.slots == 2 })
	p.alive()
}

// TestHeaderLimit is row 51.
func TestHeaderLimit(t *testing.T) {
	for _, fields := range [][]string{{"x-big", strings.Repeat("a", 70000)}, {"x-big", strings.Repeat("~", 66000)}, manyFields(2000)} {
		p := newPeer(t, nil)
		p.headers(1, false, append(append([]string(nil), connectFields...), fields...)...)
		p.want("HEADERS 1 431", "DATA 1 len=54 end", "RST_STREAM 1 NO_ERROR")
		o := p.connectWS(3) // the HPACK state is right
		if got, want := o.Handshake().Path, "/chat"; got != want {
			t.Errorf("got path %q, want %q", got, want)
		}
		if n := p.srv.Counters.HeaderLimit.Load(); n != 1 {
			t.Errorf("got %d counted, want 1", n)
		}
	}
}

func manyFields(n int) (f []string) {
	for range n {
		f = append(f, "x-a", "1234567890")
	}
	return f
}

// TestMemoryFull: with the budget of the process used up streams get 503.
func TestMemoryFull(t *testing.T) {
	mem := NewMemory(1000)
	p := newPeer(t, func(s *Server) { s.BufferMemory = mem })
	mem.add(1000)
	p.headers(1, false, connectFields...)
	p.want("HEADERS 1 503", `DATA 1 "503 service unavailable: memory-limit\n" end`, "RST_STREAM 1 NO_ERROR")
	if n := p.srv.Counters.MemoryLimit.Load(); n != 1 {
		t.Errorf("got %d counted, want 1", n)
	}
	mem.add(-1000)
	p.connectWS(3)
}

// TestNeverReads: control output that the client does not read stops reading,
// and ends the connection after 10 s.
func TestNeverReads(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	p.tunnel(1, far)
	p.side.room = 0
	for range 300 { // each refused request costs us an answer
		var b []byte
		for range 20 {
			b = append(b, rawFrame(framePing, 0, 0, make([]byte, 8)...)...)
		}
		p.send(b)
		p.loop.Clock = p.loop.Clock.Add(time.Second / 2)
		if p.side.far.Want() == 0 {
			break
		}
	}
	if p.side.far.Want() != 0 || p.c.ctlQueued() > outCtlMax+100 {
		t.Fatalf("got want %d with %d octets queued, want 0 soon after %d", p.side.far.Want(), p.c.ctlQueued(), outCtlMax)
	}
	// It begins to read again in time: nothing happens.
	p.side.room = -1
	p.side.far.Writable()
	if p.side.resume != 1 || p.c.stuck != 0 {
		t.Fatalf("got %d resumes, want 1", p.side.resume)
	}
	p.pump()
	p.frames()
	p.side.room = 0
	for p.side.far.Want() > 0 {
		p.send(rawFrame(framePing, 0, 0, make([]byte, 8)...))
		p.loop.Clock = p.loop.Clock.Add(time.Second / 40)
		p.c.outStall = 0
	}
	p.loop.Sleep(stuckTime + time.Millisecond)
	if n := p.srv.Counters.NeverReads.Load(); n != 1 || far.brokens != 1 || p.c.phase != phaseClosing {
		t.Errorf("got %d counted, %d breaks, phase %d, want 1, 1, closing", n, far.brokens, p.c.phase)
	}
	p.loop.Sleep(closeTime + time.Millisecond)
	if !p.side.reset || p.loop.Held != 0 {
		t.Errorf("got reset %v and %d held, want true and 0", p.side.reset, p.loop.Held)
	}
}

// TestTimeouts is row 129 and the clocks of section 6.
func TestTimeouts(t *testing.T) {
	cases := []struct {
		name  string
		setup func(p *peer)
		after time.Duration
		want  string
		count func(c *Counters) int64
	}{
		{"no preface", func(p *peer) {}, 10 * time.Second, "GOAWAY 0 PROTOCOL_ERROR", func(c *Counters) int64 { return c.PrefaceTimeout.Load() }},
		{
			"no SETTINGS", func(p *peer) { p.send([]byte(clientPreface)) }, 10 * time.Second, "GOAWAY 0 PROTOCOL_ERROR",
			func(c *Counters) int64 { return c.PrefaceTimeout.Load() },
		},
		{"slow header block", func(p *peer) {
			p.send([]byte(clientPreface))
			p.settings()
			p.frame(frameHeaders, 0, 1, 0x82)
			p.frames()
		}, 10 * time.Second, "GOAWAY 0 ENHANCE_YOUR_CALM", func(c *Counters) int64 { return c.HeaderTimeout.Load() }},
		{"slow frame", func(p *peer) {
			p.send([]byte(clientPreface))
			p.settings()
			p.send(rawFrame(frameHeaders, 0, 1, 0x82)[:9])
			p.frames()
		}, 10 * time.Second, "GOAWAY 0 ENHANCE_YOUR_CALM", func(c *Counters) int64 { return c.HeaderTimeout.Load() }},
		{"idle", func(p *peer) {
			p.send([]byte(clientPreface))
			p.settings()
			p.frames()
		}, 3 * time.Minute, "GOAWAY 0 NO_ERROR", func(c *Counters) int64 { return c.IdleTimeout.Load() }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := rawPeer(t, func(s *Server) { s.KeepAlive = time.Hour })
			p.frames()
			c.setup(p)
			p.loop.Sleep(c.after - time.Millisecond)
			p.want()
			p.loop.Sleep(2 * time.Millisecond)
			p.want(c.want)
			if n := c.count(p.srv.Counters); n != 1 {
				t.Errorf("got %d counted, want 1", n)
			}
			p.loop.Sleep(closeTime)
			if p.srv.Connections() != 0 {
				t.Errorf("got %d connections, want 0", p.srv.Connections())
			}
		})
	}
}

// TestShortIdle: an idle time below the header time holds all the same.
func TestShortIdle(t *testing.T) {
	p := newPeer(t, func(s *Server) { s.IdleTimeout = time.Second })
	p.loop.Sleep(time.Second - time.Millisecond)
	p.want()
	p.loop.Sleep(2 * time.Millisecond)
	p.want("GOAWAY 0 NO_ERROR")
}

// TestKeepAlive: a quiet connection with a tunnel is asked, and dead without an
// answer; one that answers lives for ever.
func TestKeepAlive(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	p.tunnel(1, far)
	for range 20 {
		p.loop.Sleep(30*time.Second + time.Millisecond)
		p.want("PING 0")
		p.frame(framePing, flagAck, 0, []byte(alivePayload)...)
	}
	p.loop.Sleep(30*time.Second + time.Millisecond)
	p.want("PING 0")
	p.loop.Sleep(30*time.Second + time.Millisecond)
	if far.brokens != 1 || far.broken.Reason != bridge.ReasonGone || !p.side.reset || p.srv.Connections() != 0 {
		t.Errorf("got %v, reset %v, %d connections, want gone, true, 0", far.broken, p.side.reset, p.srv.Connections())
	}
	if n := p.srv.Counters.KeepAlive.Load(); n != 1 {
		t.Errorf("got %d counted, want 1", n)
	}
}

// TestKeepAliveWithoutStreams: a quiet connection without streams is asked as
// well. Its answers do not keep it: the idle time ends it.
func TestKeepAliveWithoutStreams(t *testing.T) {
	p := newPeer(t, func(s *Server) { s.IdleTimeout = 100 * time.Second })
	for range 3 {
		p.loop.Sleep(30*time.Second + time.Millisecond)
		p.want("PING 0")
		p.frame(framePing, flagAck, 0, []byte(alivePayload)...)
	}
	p.loop.Sleep(9 * time.Second)
	p.want()
	p.loop.Sleep(time.Second)
	p.want("GOAWAY 0 NO_ERROR")
	if n := p.srv.Counters.IdleTimeout.Load(); n != 1 {
		t.Errorf("got %d counted, want 1", n)
	}

	p = newPeer(t, nil) // gone, and nobody said so
	p.loop.Sleep(30*time.Second + time.Millisecond)
	p.want("PING 0")
	p.loop.Sleep(30*time.Second + time.Millisecond)
	if n := p.srv.Counters.KeepAlive.Load(); n != 1 || !p.side.reset || p.srv.Connections() != 0 {
		t.Errorf("got %d counted, reset %v, %d connections, want 1, true, 0", n, p.side.reset, p.srv.Connections())
	}

	// A tunnel that has come and gone changes nothing; a time below the header
	// time holds.
	p = newPeer(t, func(s *Server) { s.KeepAlive = time.Second })
	p.loop.Sleep(time.Second + time.Millisecond)
	p.want("PING 0")
	p.frame(framePing, flagAck, 0, []byte(alivePayload)...)
	p.connectWS(1)
	p.frame(frameRSTStream, 0, 1, u32(8)...)
	p.frames()
	p.loop.Sleep(time.Second + time.Millisecond)
	p.want("PING 0")

	// Nobody is asked before the connection stands.
	p = rawPeer(t, func(s *Server) { s.KeepAlive = time.Second })
	p.frames()
	p.loop.Sleep(9 * time.Second)
	p.want()
}

// TestStall: waiting octets without progress end a tunnel, progress does not.
func TestStall(t *testing.T) {
	answer := func(p *peer) { p.frame(framePing, flagAck, 0, make([]byte, 8)...) }
	for _, way := range []string{"in", "out"} {
		p := newPeer(t, nil)
		far, other := newRecorder(), newRecorder()
		far.take = 0
		s := p.tunnel(1, far)
		p.tunnel(3, other)
		stop := func() {
			if way == "in" {
				p.data(1, false, "stuck")
			} else {
				for s.Write(make([]byte, 10000)) > 0 {
				}
			}
		}
		stop()
		p.loop.Sleep(40 * time.Second)
		answer(p)
		if way == "in" {
			far.take = 2
			s.Resume()
			p.loop.Turn()
		} else {
			p.frame(frameWindowUpdate, 0, 0, u32(1<<20)...)
			p.frame(frameWindowUpdate, 0, 1, u32(5)...)
			stop()
		}
		p.loop.Sleep(40 * time.Second)
		answer(p)
		if far.brokens != 0 {
			t.Errorf("%s: got a break though there was progress, want none", way)
		}
		p.frames()
		p.loop.Sleep(25 * time.Second)
		if got := show(p.frames()); far.brokens != 1 || far.broken.Reason != bridge.ReasonTimeout || far.broken.Remote || !strings.Contains(got, "RST_STREAM 1 CANCEL") {
			t.Errorf("%s: got %v and [%s], want a timeout and CANCEL", way, far.broken, got)
		}
		if n := p.srv.Counters.StallTimeout.Load(); n != 1 || other.brokens != 0 {
			t.Errorf("%s: got %d counted and %d breaks of the other, want 1 and 0", way, n, other.brokens)
		}
	}
}

// TestOutputStall: a transport that takes nothing for so long is given up.
func TestOutputStall(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	s := p.tunnel(1, far)
	p.side.room = 0
	s.Write([]byte("never"))
	for range 5 {
		p.loop.Sleep(15 * time.Second)
		p.frame(framePing, flagAck, 0, make([]byte, 8)...)
	}
	if n := p.srv.Counters.OutputStall.Load(); n != 1 || far.brokens != 1 || !p.side.reset || p.loop.Held != 0 {
		t.Errorf("got %d counted, %d breaks, reset %v, %d held, want 1, 1, true, 0", n, far.brokens, p.side.reset, p.loop.Held)
	}
}
