package h3

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wsgate/bridge"
)

// nothingLeft fails the test if anything is left of streams.
func (p *peer) nothingLeft() {
	p.t.Helper()
	if c := p.c; len(c.streams) != 0 || c.slots != 0 || c.tunnels != 0 || c.heads != 0 || c.leaving != 0 || c.blocks != 0 {
		p.t.Errorf("got %d streams, %d slots, %d tunnels, %d heads, %d leaving, %d octets of sections, want none",
			len(c.streams), c.slots, c.tunnels, c.heads, c.leaving, c.blocks)
	}
	for id, f := range p.streams {
		if f.released != 1 {
			p.t.Errorf("stream %d: got %d releases, want 1", id, f.released)
		}
	}
}

// TestTunnelEnds plays the ends of a tunnel in both orders: rows 147, 150, 103,
// 104, 111.
func TestTunnelEnds(t *testing.T) {
	for _, oursFirst := range []bool{true, false} {
		p := newPeer(t, nil)
		far := newRecorder()
		s := p.tunnel(0, far)
		ours := func() { s.Write([]byte("bye")); s.CloseWrite() }
		theirs := func() { p.data(0, true, "bye") }
		if oursFirst {
			ours()
			p.want(0, `DATA "bye", FIN`)
			p.data(0, false, "still ")
			theirs()
			p.want(0, "")
		} else {
			theirs()
			s.Write([]byte("still "))
			p.want(0, `DATA "still "`)
			ours()
			p.want(0, `DATA "bye", FIN`)
		}
		if far.ended != 1 || far.brokens != 0 || !strings.HasSuffix(string(far.got), "bye") {
			t.Errorf("got %q, %d ends, %d breaks, want the tail, 1, 0", far.got, far.ended, far.brokens)
		}
		// Nothing after both clean ends.
		s.Reset(bridge.ReasonTimeout)
		s.CloseWrite()
		if n := s.Write([]byte("x")); n != 0 || s.Room() != 0 {
			t.Errorf("got %d taken and room %d after the end, want 0", n, s.Room())
		}
		p.stopSending(0, errRequestCancelled)
		p.want(0, "")
		if far.brokens != 0 {
			t.Errorf("got %d breaks after both ends, want 0", far.brokens)
		}
		p.nothingLeft()
	}
}

// TestEndWaitsForData: End comes after all data, also when our end is first and
// the owner takes slowly.
func TestEndWaitsForData(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	far.take = 2
	s := p.tunnel(0, far)
	s.CloseWrite()
	p.data(0, true, "hello")
	if far.ended != 0 || len(p.c.streams) != 1 {
		t.Errorf("got %d ends and %d streams, want 0 and 1", far.ended, len(p.c.streams))
	}
	far.take = -1
	s.Resume()
	if string(far.got) != "he" {
		t.Errorf("got %q, want nothing before Resume returns", far.got)
	}
	p.loop.Turn()
	if string(far.got) != "hello" || far.ended != 1 || far.brokens != 0 {
		t.Errorf("got %q, %d ends, %d breaks, want hello, 1, 0", far.got, far.ended, far.brokens)
	}
	p.nothingLeft()
}

// nothingLeft2 is nothingLeft for some streams.
func (p *peer) nothingLeft2(ids ...uint64) {
	p.t.Helper()
	for id := range p.streams {
		keep := false
		for _, k := range ids {
			keep = keep || k == id
		}
		if !keep {
			delete(p.streams, id)
		}
	}
	p.nothingLeft()
}

// TestEarlyData is row 90: nothing is delivered before Bind, nor taken from the
// stream, whose window bounds it.
func TestEarlyData(t *testing.T) {
	p := newPeer(t, nil)
	o := p.connectWS(0)
	p.data(0, false, "early ")
	p.data(0, true, "bird")
	if got := len(p.at(0).in); got < len("early bird") {
		t.Errorf("got %d octets left with QUIC before the answer, want all", got)
	}
	far := newRecorder()
	s := o.Accept(bridge.Fields{{Name: "Sec-WebSocket-Protocol", Value: "chat"}})
	s.Bind(far)
	if len(far.got) != 0 {
		t.Errorf("got %q before the next turn, want nothing", far.got)
	}
	p.loop.Turn()
	if string(far.got) != "early bird" || far.ended != 1 {
		t.Errorf("got %q and %d ends, want %q and 1", far.got, far.ended, "early bird")
	}
	s.CloseWrite()
	p.want(0, "HEADERS 200, FIN")

	// FIN alone before the answer.
	o = p.connectWS(4)
	p.fin(4)
	far = newRecorder()
	s = o.Accept(nil)
	s.Bind(far)
	if far.ended != 0 {
		t.Error("got End before Bind returned")
	}
	p.loop.Turn()
	s.CloseWrite()
	if far.ended != 1 {
		t.Errorf("got %d ends, want 1", far.ended)
	}
	p.nothingLeft()
}

// TestAccept is rows 60, 73, 74, 75: the head of the 200.
func TestAccept(t *testing.T) {
	p := newPeer(t, nil)
	p.connectWS(0).Accept(bridge.Fields{
		{Name: "Sec-WebSocket-Protocol", Value: "superchat"},
		{Name: "Set-Cookie", Value: "a=b"},
		{Name: "Set-Cookie", Value: "c=d"},
		{Name: "Connection", Value: "Upgrade"},
		{Name: "Upgrade", Value: "websocket"},
		{Name: "Content-Length", Value: "0"},
		{Name: "Transfer-Encoding", Value: "chunked"},
		{Name: "Keep-Alive", Value: "5"},
		{Name: "X-Bad", Value: "a\r\nb"},
		{Name: "Bad Name", Value: "x"},
	})
	f := p.wantStatus(p.frames(0), "200")
	var names []string
	for _, x := range f.fields {
		names = append(names, x.Name+"="+x.Value)
	}
	got := strings.Join(names, "|")
	want := ":status=200|sec-websocket-protocol=superchat|set-cookie=a=b|set-cookie=c=d|date=" + p.loop.Clock.Format(http.TimeFormat)
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p.connectWS(4).Accept(bridge.Fields{{Name: "Date", Value: "their date"}})
	if got := p.wantStatus(p.frames(4), "200").get("date"); got != "their date" {
		t.Errorf("got date %q, want the backend's", got)
	}
}

// TestUnbound: what comes between Accept and Bind reaches the owner after Bind.
func TestUnbound(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     func(p *peer)
		reason bridge.Reason
	}{
		{"reset", func(p *peer) { p.reset(0, errRequestCancelled) }, bridge.ReasonReset},
		{"STOP_SENDING", func(p *peer) { p.stopSending(0, errRequestCancelled) }, bridge.ReasonReset},
		{"lost", func(p *peer) { p.c.lost(&bridge.ResetError{Reason: bridge.ReasonGone}) }, bridge.ReasonGone},
	} {
		p := newPeer(t, nil)
		s := p.connectWS(0).Accept(nil)
		c.do(p)
		far := newRecorder()
		s.Bind(far)
		if far.brokens != 0 {
			t.Errorf("%s: got Broken before Bind returned", c.name)
		}
		p.loop.Turn()
		if far.brokens != 1 || far.broken.Reason != c.reason {
			t.Errorf("%s: got %d breaks with %v, want one for %v", c.name, far.brokens, far.broken, c.reason)
		}
		p.nothingLeft()
	}
}

// TestGone is row 232: the client leaves before the answer.
func TestGone(t *testing.T) {
	p := newPeer(t, nil)
	o := p.connectWS(0)
	inCall := -1
	o.OnGone(func(e *bridge.ResetError) { o.gone = e; inCall = p.c.slots })
	p.data(0, false, "early")
	p.reset(0, errRequestCancelled)
	if o.gone == nil || o.gone.Reason != bridge.ReasonReset || inCall != 1 {
		t.Errorf("got %v with %d slots taken, want a reset with the slot still taken", o.gone, inCall)
	}
	p.want(0, "RESET 0x10c")
	p.nothingLeft()

	// An owner that never asked to be told holds the slot until it answers.
	var late bridge.Offer
	p.srv.Offer = func(o bridge.Offer) { late = o }
	p.headers(4, false, connectFields...)
	p.stopSending(4, errRequestCancelled)
	if p.c.slots != 1 || p.at(4).released != 0 {
		t.Errorf("got %d slots and %d releases, want 1 and 0", p.c.slots, p.at(4).released)
	}
	far := newRecorder()
	late.Accept(nil).Bind(far)
	p.loop.Turn()
	if p.c.slots != 0 || far.brokens != 1 {
		t.Errorf("got %d slots and %d breaks, want 0 and 1", p.c.slots, far.brokens)
	}
	p.headers(8, false, connectFields...)
	p.reset(8, errRequestCancelled)
	src := &fakeContent{}
	late.Refuse(&bridge.Refusal{Status: 503, Stream: src})
	if src.resets != 1 || p.c.slots != 0 {
		t.Errorf("got %d resets of the content and %d slots, want 1 and 0", src.resets, p.c.slots)
	}
	p.headers(12, false, connectFields...)
	p.reset(12, errRequestCancelled)
	var told *bridge.ResetError
	late.OnGone(func(e *bridge.ResetError) { told = e })
	if told != nil {
		t.Error("got OnGone called back before it returned")
	}
	p.loop.Turn()
	if told == nil {
		t.Error("got an owner that was told nothing, want it told")
	}
	p.nothingLeft()
}

// fakeContent is a backend's content.
type fakeContent struct {
	far     bridge.Far
	resets  int
	resumes int
}

func (f *fakeContent) Bind(far bridge.Far) { f.far = far }
func (f *fakeContent) Resume()             { f.resumes++ }
func (f *fakeContent) Reset(bridge.Reason) { f.resets++ }

// reframe makes octets of frames again.
func reframe(all []frame) (b []byte) {
	for _, f := range all {
		b = append(b, rawFrame(f.typ, f.payload...)...)
	}
	return b
}

// TestBackpressure: what Far does not take stays with QUIC, and a Write takes no
// more than there is room for.
func TestBackpressure(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	far.take = 3
	s := p.tunnel(0, far)
	p.data(0, false, "abcdef")
	p.data(0, false, "ghi")
	if string(far.got) != "abc" || len(p.at(0).in) != 3+2+3 {
		t.Errorf("got %q taken and %d octets left, want abc and the rest", far.got, len(p.at(0).in))
	}
	far.take = 2
	s.Resume()
	p.loop.Turn()
	far.take = -1
	s.Resume()
	s.Resume()
	p.loop.Turn()
	if string(far.got) != "abcdefghi" {
		t.Errorf("got %q, want all in order", far.got)
	}

	p.at(0).room1 = 100 + maxFrameHead
	if n := s.Write(make([]byte, 1000)); n != 100 {
		t.Errorf("got %d taken, want 100", n)
	}
	if p.at(0).room1 = 0; s.Room() != 0 || s.Write([]byte("x")) != 0 {
		t.Errorf("got room %d, want 0", s.Room())
	}
	p.at(0).give(maxFrameHead + 5)
	if far.writable != 1 || s.Room() != 5 {
		t.Errorf("got %d calls of Writable and room %d, want 1 and 5", far.writable, s.Room())
	}
	p.at(0).room1 = 1 << 20
	if n := s.Write(make([]byte, 40000)); n != 40000 {
		t.Errorf("got %d taken, want 40000", n)
	}
	total := 0
	for _, f := range p.frames(0) {
		if len(f.payload) > maxPayload {
			t.Errorf("got a frame of %d octets, want at most %d", len(f.payload), maxPayload)
		}
		total += len(f.payload)
	}
	if total != 40100 {
		t.Errorf("got %d octets, want 40100", total)
	}
}

// TestLeaving: a stream whose last octets the client has not taken keeps its slot
// until it has, or the stall time is over; nothing is cut before.
func TestLeaving(t *testing.T) {
	for _, how := range []string{"taken", "stalled", "stopped", "lost", "given up by us"} {
		p := newPeer(t, nil)
		far := newRecorder()
		s := p.tunnel(0, far)
		p.data(0, true, "")
		p.at(0).room1 = 20
		s.Write([]byte("0123456789"))
		p.at(0).waits, p.at(0).room1 = 5, 0
		s.CloseWrite()
		if p.c.slots != 1 || p.at(0).released != 0 || p.c.leaving != 1 {
			t.Errorf("%s: got %d slots and %d releases, want the slot taken", how, p.c.slots, p.at(0).released)
		}
		s.Reset(bridge.ReasonComplete) // the owner's last word changes nothing
		switch how {
		case "taken":
			p.at(0).give(5)
			p.want(0, `DATA "0123456789", FIN`)
		case "stalled":
			p.loop.Sleep(time.Minute - time.Millisecond)
			if p.c.slots != 1 {
				t.Error("got no slot taken before the stall time is over")
			}
			p.loop.Sleep(2 * time.Millisecond)
			if n := p.srv.Counters.OutputStall.Load(); n != 1 {
				t.Errorf("got %d counted, want 1", n)
			}
			p.want(0, `DATA "0123456789", RESET 0x10c`)
		case "stopped":
			p.stopSending(0, errNone)
			p.want(0, `DATA "0123456789", RESET 0x10c`)
		case "lost":
			p.c.lost(&bridge.ResetError{Reason: bridge.ReasonGone})
		case "given up by us": // before the end of ours is out, a reset is one
			s := p.tunnel(4, newRecorder())
			s.Write([]byte("abc"))
			p.at(4).waits = 3
			s.CloseWrite()
			s.Reset(bridge.ReasonTimeout)
			p.want(4, `DATA "abc", RESET 0x10c, STOP 0x10c`)
			p.at(0).give(5)
		}
		if far.ended != 1 || far.brokens != 0 {
			t.Errorf("%s: got %d ends, %d breaks, want 1, 0", how, far.ended, far.brokens)
		}
		p.nothingLeft()
	}
}

// TestMove is row 160: the client comes from another address. New handshakes have
// it, tunnels live on.
func TestMove(t *testing.T) {
	var moves []string
	p := newPeer(t, func(s *Server) {
		s.Moved = func(c *bridge.Client, from, to netip.AddrPort) {
			moves = append(moves, from.String()+" -> "+to.String()+", now "+c.Remote.String())
		}
	})
	far := newRecorder()
	p.tunnel(0, far)
	p.q.at = netip.MustParseAddrPort("198.51.100.7:9")
	o := p.connectWS(4)
	if got := o.Handshake().Client.Remote; got != p.q.at {
		t.Errorf("new handshake: got address %v, want %v", got, p.q.at)
	}
	if got := p.offers[0].Handshake().Client.Remote; got != p.client.Remote {
		t.Errorf("old handshake: got address %v, want %v", got, p.client.Remote)
	}
	p.q.at = netip.MustParseAddrPort("203.0.113.1:5")
	p.loop.Sleep(15 * time.Second) // of a silent client it is seen by the clock
	p.q.at = netip.MustParseAddrPort("203.0.113.1:6")
	p.data(0, false, "lives")
	p.q.at = netip.MustParseAddrPort("203.0.113.1:7")
	p.loop.Sleep(followed) // of one that speaks, by what it says, this much later
	p.data(0, false, " on")
	if string(far.got) != "lives on" || far.brokens != 0 {
		t.Errorf("got %q and %d breaks, want lives on and 0", far.got, far.brokens)
	}
	want := "[192.0.2.1:1234 -> 198.51.100.7:9, now 198.51.100.7:9 198.51.100.7:9 -> 203.0.113.1:5, now 203.0.113.1:5 203.0.113.1:5 -> 203.0.113.1:6, now 203.0.113.1:6 203.0.113.1:6 -> 203.0.113.1:7, now 203.0.113.1:7]"
	if got := fmt.Sprint(moves); got != want || p.srv.Counters.Moved.Load() != 4 {
		t.Errorf("got %s, want %s", got, want)
	}
}
