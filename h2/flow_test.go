package h2

import (
	"bytes"
	"testing"

	"wsgate/bridge"
)

func dataOf(all []frame, id uint32) (b []byte, end bool) {
	for _, f := range all {
		if f.kind == frameData && f.id == id {
			b = append(b, f.payload...)
			end = end || f.flags&flagEndStream != 0
		}
	}
	return b, end
}

// TestCredit: the client gets back exactly what Far took, after half a window.
func TestCredit(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	s := p.tunnel(1, far)
	chunk := string(make([]byte, 16000))
	p.data(1, false, chunk)
	p.data(1, false, chunk)
	p.want() // 32000 is under half of 65535
	p.data(1, false, chunk)
	p.want("WINDOW_UPDATE 1 48000")
	far.take = 1000
	p.data(1, false, chunk)
	if st := p.c.streams[1]; len(far.got) != 49000 || st.taken != 1000 || st.recvLeft != 65535-16000 {
		t.Errorf("got %d octets, %d taken, %d left, want 49000, 1000, 49535", len(far.got), st.taken, st.recvLeft)
	}
	p.data(1, false, chunk)
	p.data(1, false, chunk)
	p.data(1, false, chunk)
	p.want()
	far.take = -1
	s.Resume()
	all := p.frames()
	st := p.c.streams[1]
	if len(all) != 1 || all[0].kind != frameWindowUpdate || st.recvLeft+st.taken != st.recvMax {
		t.Errorf("got [%s], %d left and %d to give back, want one WINDOW_UPDATE and the whole window", show(all), st.recvLeft, st.taken)
	}
}

// TestOverWindow: a client that ignores the window.
func TestOverWindow(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	far.take = 0
	p.tunnel(1, far)
	for range 4 {
		p.data(1, false, string(make([]byte, 16000)))
	}
	p.data(1, false, string(make([]byte, 1535)))
	p.want()
	p.data(1, false, "x")
	p.want("RST_STREAM 1 FLOW_CONTROL_ERROR")
	if far.brokens != 1 || p.loop.Held != 0 {
		t.Errorf("got %d breaks and %d octets held, want 1 and 0", far.brokens, p.loop.Held)
	}
	p.alive()
}

// TestNeighbours is row 117: a tunnel whose backend does not read slows nobody.
func TestNeighbours(t *testing.T) {
	p := newPeer(t, nil)
	stuck := newRecorder()
	stuck.take = 0
	p.tunnel(1, stuck)
	fast := newRecorder()
	s := p.tunnel(3, fast)
	fast.onData = func(b []byte) { s.Write(b) }
	for range 4 {
		p.data(1, false, string(make([]byte, 16000)))
	}
	for range 3000 {
		p.data(3, false, string(make([]byte, 16000)))
		p.frame(frameWindowUpdate, 0, 0, u32(16000)...)
		p.frame(frameWindowUpdate, 0, 3, u32(16000)...)
		p.frames()
	}
	if got, want := len(fast.got), 3000*16000; got != want {
		t.Errorf("got %d octets, want %d", got, want)
	}
	if p.c.recvLeft < connWindow/2-maxFrame {
		t.Errorf("got a connection window of %d, want it returned at receipt", p.c.recvLeft)
	}
}

// TestGrowth: a window grows only after the client filled it, up to 256 KiB,
// and comes back to the budgets at the end.
func TestGrowth(t *testing.T) {
	mem := NewMemory(1 << 20)
	p := newPeer(t, func(s *Server) { s.BufferMemory = mem })
	far := newRecorder()
	s := p.tunnel(1, far)
	slow := func(n int) {
		for range n {
			p.data(1, false, string(make([]byte, 8000)))
		}
	}
	slow(100) // never filled: half a window is given back in time
	if got := p.c.streams[1].recvMax; got != 65535 {
		t.Errorf("got a window of %d for a slow client, want 65535", got)
	}
	fill := func() {
		st := p.c.streams[1]
		far.take = 0
		for st.recvLeft > 0 {
			p.data(1, false, string(make([]byte, min(16000, st.recvLeft))))
		}
		far.take = -1
		s.Resume()
		p.loop.Turn()
	}
	for range 6 {
		fill()
	}
	if got := p.c.streams[1].recvMax; got != grownWindow {
		t.Errorf("got a window of %d for a fast client, want %d", got, grownWindow)
	}
	if got, want := mem.Used(), int64(grownWindow-65535); got != want {
		t.Errorf("got %d of the budget used, want %d", got, want)
	}
	s.Reset(bridge.ReasonFarSide)
	if mem.Used() != 0 || p.c.grown != 0 || p.loop.Held > 512 {
		t.Errorf("got %d, %d, %d held at the end, want none", mem.Used(), p.c.grown, p.loop.Held)
	}
}

// TestGrowthStops: with the budget of the connection or of the process empty
// nothing grows and nothing stalls.
func TestGrowthStops(t *testing.T) {
	for _, mem := range []*Memory{nil, NewMemory(1 << 10)} {
		p := newPeer(t, func(s *Server) { s.BufferMemory = mem })
		total := int32(0)
		for id := uint32(1); id < 2*60; id += 2 {
			far := newRecorder()
			s := p.tunnel(id, far)
			st := p.c.streams[id]
			for range 6 {
				far.take = 0
				for st.recvLeft > 0 {
					p.data(id, false, string(make([]byte, min(16000, st.recvLeft))))
				}
				far.take = -1
				s.Resume()
				p.loop.Turn()
			}
			total += st.recvMax - 65535
		}
		if total > grownPerConn || total != p.c.grown || mem != nil && total != 0 {
			t.Errorf("got windows grown by %d, %d accounted, want at most %d and none without memory", total, p.c.grown, grownPerConn)
		}
	}
}

// TestMegabyte sends 1 MiB through windows of 1000 octets, in order and whole.
func TestMegabyte(t *testing.T) {
	p := newPeer(t, nil)
	p.settings(settingWindow, 1000)
	far := newRecorder()
	s := p.tunnel(1, far)
	src := make([]byte, 1<<20)
	for i := range src {
		src[i] = byte(i * i >> 7)
	}
	rest := src
	push := func() {
		for len(rest) > 0 && s.Room() > 0 {
			rest = rest[s.Write(rest):]
		}
		if len(rest) == 0 {
			s.CloseWrite()
		}
	}
	far.onWrite = push
	push()
	var got []byte
	for end := false; !end; {
		var b []byte
		b, end = dataOf(p.frames(), 1)
		if len(b) > 1000 {
			t.Fatalf("got %d octets at once, want at most 1000", len(b))
		}
		got = append(got, b...)
		if !end {
			p.frame(frameWindowUpdate, 0, 1, u32(uint32(len(b)))...)
			p.frame(frameWindowUpdate, 0, 0, u32(uint32(len(b)))...)
		}
	}
	if !bytes.Equal(got, src) {
		t.Errorf("got %d octets, want the same %d", len(got), len(src))
	}
	p.alive()
}

// TestNegativeWindow is row 122.
func TestNegativeWindow(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	s := p.tunnel(1, far)
	if n := s.Write(make([]byte, 70000)); n != 65535 {
		t.Fatalf("got %d taken, want 65535", n)
	}
	b, _ := dataOf(p.frames(), 1)
	if len(b) != 65535 {
		t.Fatalf("got %d octets, want 65535", len(b))
	}
	p.frame(frameWindowUpdate, 0, 0, u32(300000)...)
	p.settings(settingWindow, 100) // the stream's window is -65435
	p.frame(frameWindowUpdate, 0, 1, u32(65435)...)
	if far.writable != 0 || s.Room() != 0 {
		t.Errorf("got %d calls of Writable and room %d at a window of 0, want none", far.writable, s.Room())
	}
	p.frame(frameWindowUpdate, 0, 1, u32(1)...)
	if far.writable != 1 || s.Write([]byte("xy")) != 1 {
		t.Errorf("got %d calls of Writable, want 1 and one octet", far.writable)
	}
	p.frames()
	p.settings(settingWindow, 101)
	if far.writable != 2 {
		t.Errorf("got %d calls of Writable after SETTINGS, want 2", far.writable)
	}
	p.want("SETTINGS 0 ack")
	p.settings(settingWindow, maxWindow)
	p.frame(frameWindowUpdate, 0, 1, u32(maxWindow)...)
	p.want("SETTINGS 0 ack", "RST_STREAM 1 FLOW_CONTROL_ERROR")
}

// TestSettingsOverflow: SETTINGS that moves a window over 2^31-1.
func TestSettingsOverflow(t *testing.T) {
	p := newPeer(t, nil)
	p.tunnel(1, newRecorder())
	p.frame(frameWindowUpdate, 0, 1, u32(maxWindow-65535)...)
	p.settings(settingWindow, 65536)
	p.want("GOAWAY 1 FLOW_CONTROL_ERROR")
}

// TestSmallWindowsBeforeAck: what the client sends before it has seen our
// SETTINGS is judged by the window it knew.
func TestSmallWindowsBeforeAck(t *testing.T) {
	mem := NewMemory(1000)
	mem.add(900)
	p := rawPeer(t, func(s *Server) { s.BufferMemory = mem })
	p.send([]byte(clientPreface))
	p.settings()
	p.frames()
	o := p.connectWS(1)
	for range 4 {
		p.data(1, false, string(make([]byte, 16000)))
	}
	p.want()
	p.settingsAck()
	if got, want := p.c.streams[1].recvLeft, int32(smallWindow-64000); got != want {
		t.Errorf("got %d left, want %d", got, want)
	}
	far := newRecorder()
	o.Accept(nil).Bind(far)
	p.loop.Turn()
	if got := p.frames()[1:]; show(got) == "" || p.c.streams[1].recvLeft != smallWindow {
		t.Errorf("got [%s] and %d left, want the window of 16 KiB back", show(got), p.c.streams[1].recvLeft)
	}
	if p.srv.Counters.SmallWindow.Load() != 1 {
		t.Error("got no count of small windows, want 1")
	}
}

// TestRoundRobin: the room of a small connection window goes round.
func TestRoundRobin(t *testing.T) {
	p := newPeer(t, nil)
	p.settings(settingWindow, 1<<20)
	const n = 5
	sent := [n]int{}
	for i := range n {
		id := uint32(2*i + 1)
		far := newRecorder()
		s := p.tunnel(id, far)
		far.onWrite = func() {
			k := min(s.Room(), 1000)
			sent[i] += s.Write(make([]byte, k))
			s.Write(make([]byte, 1000)) // wants more
		}
		s.Write(make([]byte, 100000))
	}
	p.frames()
	clear(sent[:])
	for range 100 * n {
		p.frame(frameWindowUpdate, 0, 0, u32(1000)...)
		p.frames()
	}
	for i := range n {
		if sent[i] != 100*1000 {
			t.Errorf("got %v octets sent, want 100000 each", sent)
			break
		}
	}
}

// TestZeroWindow is row 118: a stream at window 0 does not hold up another,
// and takes no memory.
func TestZeroWindow(t *testing.T) {
	p := newPeer(t, nil)
	a, b := newRecorder(), newRecorder()
	p.settings(settingWindow, 0)
	sa := p.tunnel(1, a)
	sb := p.tunnel(3, b)
	p.frame(frameWindowUpdate, 0, 3, u32(1000)...)
	if n := sa.Write([]byte("stuck")); n != 0 {
		t.Errorf("got %d taken at window 0, want 0", n)
	}
	sb.Write([]byte("busy"))
	p.want(`DATA 3 "busy"`)
	if p.c.waiting.n != 0 || p.loop.Held != 0 {
		t.Errorf("got %d in the ring and %d held, want none", p.c.waiting.n, p.loop.Held)
	}
}

// TestSettingsOrder: SETTINGS is judged as a whole, then acknowledged, and only
// then do streams write what it allows (RFC 9113 section 6.5.3).
func TestSettingsOrder(t *testing.T) {
	p := newPeer(t, nil)
	p.settings(settingWindow, 0)
	far := newRecorder()
	s := p.tunnel(1, far)
	far.onWrite = func() { s.Write([]byte("waiting")) }
	if n := s.Write([]byte("waiting")); n != 0 {
		t.Fatalf("got %d taken at window 0, want 0", n)
	}
	p.settings(settingWindow, 7)
	p.want("SETTINGS 0 ack", `DATA 1 "waiting"`)
	if n := s.Write([]byte("waiting")); n != 0 {
		t.Fatalf("got %d taken at window 0, want 0", n)
	}
	p.settings(settingWindow, 14, settingPush, 2)
	p.want("GOAWAY 1 PROTOCOL_ERROR")
}

// TestOutputBound: what a client does not read is at most 128 KiB of DATA.
func TestOutputBound(t *testing.T) {
	mem := NewMemory(1 << 30)
	p := newPeer(t, func(s *Server) { s.BufferMemory = mem })
	p.settings(settingWindow, 1<<24)
	p.frame(frameWindowUpdate, 0, 0, u32(1<<24)...)
	far := newRecorder()
	s := p.tunnel(1, far)
	p.side.room = 0
	total := 0
	for range 100 {
		total += s.Write(make([]byte, 10000))
	}
	if total > outDataMax || total < outDataMax-20000 || s.Room() != 0 {
		t.Errorf("got %d taken and room %d, want about %d and 0", total, s.Room(), outDataMax)
	}
	if p.loop.Held > 256<<10 || mem.Used() != int64(p.loop.Held) {
		t.Errorf("got %d held and %d accounted, want at most 256 KiB, all accounted", p.loop.Held, mem.Used())
	}
	got := 0
	for got < total && far.writable < 1000 {
		p.side.room = 5000
		p.side.far.Writable()
		b, _ := dataOf(p.frames(), 1)
		got += len(b)
		if got < outDataMax/2 {
			continue
		}
	}
	p.side.room = -1
	p.side.far.Writable()
	b, _ := dataOf(p.frames(), 1)
	if got += len(b); got != total {
		t.Errorf("got %d octets in the end, want %d", got, total)
	}
	if far.writable == 0 || p.loop.Held != 0 || mem.Used() != 0 {
		t.Errorf("got %d calls of Writable, %d held, %d accounted, want some, 0, 0", far.writable, p.loop.Held, mem.Used())
	}
}

// TestMerge: small writes of one turn are one frame, and END_STREAM rides on it.
func TestMerge(t *testing.T) {
	p := newPeer(t, nil)
	a := p.tunnel(1, newRecorder())
	b := p.tunnel(3, newRecorder())
	a.Write([]byte("one "))
	a.Write([]byte("two"))
	b.Write([]byte("other"))
	a.Write([]byte("three"))
	a.CloseWrite()
	b.Reset(bridge.ReasonFarSide)
	p.want(`DATA 1 "one two"`, `DATA 3 "other"`, `DATA 1 "three" end`, "RST_STREAM 3 CANCEL")
	c := p.tunnel(5, newRecorder())
	c.Write(make([]byte, 40000))
	c.CloseWrite()
	p.want("DATA 5 len=16384", "DATA 5 len=16384", "DATA 5 len=7232 end")
	p.frame(frameWindowUpdate, 0, 0, u32(1<<20)...)
	d := p.tunnel(7, newRecorder())
	d.Write(make([]byte, flushSize)) // has gone out by the time of the end
	d.CloseWrite()
	p.want("DATA 7 len=16384", "DATA 7 len=16384", "DATA 7 len=16384", `DATA 7 "" end`)
}

// TestFewWrites: what a hundred tunnels write in one turn goes out in as few calls
// as the transport's piece of 64 KiB allows.
func TestFewWrites(t *testing.T) {
	p := newPeer(t, nil)
	p.frame(frameWindowUpdate, 0, 0, u32(1<<20)...)
	tunnels := make([]bridge.Side, 100)
	for i := range tunnels {
		tunnels[i] = p.tunnel(uint32(1+2*i), newRecorder())
	}
	p.frames()
	for _, c := range []struct{ size, writes int }{{64, 1}, {400, 1}, {1024, 3}} {
		before := p.side.writes
		for _, s := range tunnels {
			s.Write(make([]byte, c.size))
		}
		p.frames()
		if got := p.side.writes - before; got != c.writes {
			t.Errorf("100 messages of %d octets: got %d writes, want %d", c.size, got, c.writes)
		}
	}
}
