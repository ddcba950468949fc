package h2

import (
	"fmt"
	"runtime"
	"testing"

	"wsgate/bridge"
)

// echo is an owner that sends back what it gets.
type echo struct{ s bridge.Side }

func (e *echo) Want() int                 { return e.s.Room() }
func (e *echo) Data(p []byte) int         { return e.s.Write(p) }
func (e *echo) End()                      { e.s.CloseWrite() }
func (e *echo) Broken(*bridge.ResetError) {}
func (e *echo) Writable()                 { e.s.Resume() }

// sink is a transport that drops what it gets.
type sink struct{ far bridge.Far }

func (s *sink) Bind(far bridge.Far) { s.far = far }
func (s *sink) Room() int           { return 64 << 10 }
func (s *sink) Write(p []byte) int  { return len(p) }
func (s *sink) Resume()             {}
func (s *sink) CloseWrite()         {}
func (s *sink) Reset(bridge.Reason) {}

// relay opens n tunnels with echo behind them and returns a function that
// sends one message of size octets through each, with the client's credit.
func relay(t testing.TB, n, size int) func() {
	p := newPeer(t, nil)
	var in []byte
	total := 0
	for i := range uint32(n) {
		id := 2*i + 1
		o := p.connectWS(id)
		e := &echo{s: o.Accept(nil)}
		e.s.Bind(e)
		for left := size; left > 0; left -= maxFrame {
			in = append(in, rawFrame(frameData, 0, id, make([]byte, min(left, maxFrame))...)...)
		}
		in = append(in, rawFrame(frameWindowUpdate, 0, id, u32(uint32(size))...)...)
		total += size
	}
	in = append(in, rawFrame(frameWindowUpdate, 0, 0, u32(uint32(total))...)...)
	p.loop.Turn()
	c := p.c
	c.t = &sink{}
	return func() {
		c.Data(in)
		for _, f := range p.loop.Ends {
			f.Flush()
		}
		p.loop.Ends = p.loop.Ends[:0]
	}
}

// TestRelayAllocates: no allocation per message in steady state.
func TestRelayAllocates(t *testing.T) {
	for _, size := range []int{1, 64, 1024, 20000} {
		once := relay(t, 10, size)
		for range 100 {
			once()
		}
		if n := testing.AllocsPerRun(200, once); n != 0 {
			t.Errorf("got %v allocations for 10 messages of %d octets, want 0", n, size)
		}
	}
}

func BenchmarkEcho(b *testing.B) {
	for _, c := range []struct{ tunnels, size int }{{1, 64}, {100, 64}, {10, 1024}, {1, 16384}} {
		b.Run(fmt.Sprintf("%dx%d", c.tunnels, c.size), func(b *testing.B) {
			once := relay(b, c.tunnels, c.size)
			once()
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.tunnels), "ns/message")
		})
	}
}

func BenchmarkOpenClose(b *testing.B) {
	p := newPeer(b, nil)
	p.srv.Offer = func(o bridge.Offer) {
		e := &echo{s: o.Accept(nil)}
		e.s.Bind(e)
	}
	p.headers(1, false, connectFields...)
	block := p.block(connectFields...) // all of it indexed by now
	p.c.t = &sink{}
	id := uint32(3)
	b.ReportAllocs()
	for b.Loop() {
		in := rawFrame(frameHeaders, flagEndHeaders, id, block...)
		p.side.far.Data(in)
		p.loop.Turn()
		p.side.far.Data(rawFrame(frameData, flagEndStream, id))
		p.loop.Turn()
		id += 2
	}
	if p.c.phase != phaseOpen {
		b.Fatalf("got phase %d, want open", p.c.phase)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestIdleCost: what an idle tunnel and an idle connection hold.
func TestIdleCost(t *testing.T) {
	const conns, tunnels = 50, 100
	p := newPeer(t, nil)
	p.srv.Offer = func(o bridge.Offer) {
		e := &echo{s: o.Accept(nil)}
		e.s.Bind(e)
	}
	hello := append([]byte(clientPreface), settingsFrameOf()...)
	var all []*sink
	before := heap()
	for range conns {
		s := &sink{}
		all = append(all, s)
		p.srv.Serve(p.loop, s, new(bridge.Client))
		s.far.Data(hello)
		p.loop.Turn()
	}
	perConn := (heap() - before) / conns
	before = heap()
	// The client does not index: the decoder's table is not the tunnels' cost.
	var block []byte
	for i := 0; i < len(connectFields); i += 2 {
		block = append(block, 0, byte(len(connectFields[i])))
		block = append(block, connectFields[i]...)
		block = append(block, byte(len(connectFields[i+1])))
		block = append(block, connectFields[i+1]...)
	}
	for _, s := range all {
		for i := range uint32(tunnels) {
			s.far.Data(rawFrame(frameHeaders, flagEndHeaders, 2*i+1, block...))
			p.loop.Turn()
			s.far.Data(rawFrame(frameData, 0, 2*i+1, []byte("hello")...))
			p.loop.Turn()
		}
	}
	perTunnel := (heap() - before) / (conns * tunnels)
	t.Logf("%d octets for an idle connection, %d for an idle tunnel with its owner of 16", perConn, perTunnel)
	if perTunnel > 300 {
		t.Errorf("got %d octets for an idle tunnel, want at most 300", perTunnel)
	}
	if perConn > 3000 {
		t.Errorf("got %d octets for an idle connection, want at most 3000", perConn)
	}
	runtime.KeepAlive(all)
	runtime.KeepAlive(p)
}
