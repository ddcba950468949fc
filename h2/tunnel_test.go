package h2

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"wsgate/bridge"
)

// TestTunnelEnds plays the ends of a tunnel in both orders: rows 103, 104, 111.
func TestTunnelEnds(t *testing.T) {
	for _, oursFirst := range []bool{true, false} {
		p := newPeer(t, nil)
		far := newRecorder()
		s := p.tunnel(1, far)
		ours := func() { s.Write([]byte("bye")); s.CloseWrite() }
		theirs := func() { p.data(1, true, "bye") }
		if oursFirst {
			ours()
			p.want(`DATA 1 "bye" end`)
			p.data(1, false, "still ")
			theirs()
			p.want()
		} else {
			theirs()
			s.Write([]byte("still "))
			p.want(`DATA 1 "still "`)
			ours()
			p.want(`DATA 1 "bye" end`)
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
		p.frame(frameRSTStream, 0, 1, 0, 0, 0, 8)
		p.want()
		if far.brokens != 0 || p.c.slots != 0 || p.client.Tunnels != 0 || p.loop.Held != 0 {
			t.Errorf("got %d breaks, %d slots, %d tunnels, %d held, want none", far.brokens, p.c.slots, p.client.Tunnels, p.loop.Held)
		}
	}
}

// TestEndWaitsForData: End comes after all data, also when our end is first
// and the owner takes slowly; a reset then drops the tail.
func TestEndWaitsForData(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	far.take = 2
	s := p.tunnel(1, far)
	s.CloseWrite()
	p.data(1, true, "hello")
	if far.ended != 0 || len(p.c.streams) != 1 {
		t.Errorf("got %d ends and %d streams, want 0 and 1", far.ended, len(p.c.streams))
	}
	p.frame(frameRSTStream, 0, 1, 0, 0, 0, 8) // both directions have ended on the wire
	far.take = -1
	s.Resume()
	if string(far.got) != "he" {
		t.Errorf("got %q, want nothing before Resume returns", far.got)
	}
	p.loop.Turn()
	if string(far.got) != "hello" || far.ended != 1 || far.brokens != 0 || len(p.c.streams) != 0 {
		t.Errorf("got %q, %d ends, %d breaks, %d streams, want hello, 1, 0, 0", far.got, far.ended, far.brokens, len(p.c.streams))
	}
}

// TestResets: rows 106, 107, 108.
func TestResets(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	s := p.tunnel(1, far)
	s.Write([]byte("tail"))
	s.Reset(bridge.ReasonFarSide)
	s.Reset(bridge.ReasonFarSide)
	p.want(`DATA 1 "tail"`, "RST_STREAM 1 CANCEL")
	if far.brokens != 0 {
		t.Errorf("got %d breaks after our own reset, want 0", far.brokens)
	}

	far = newRecorder()
	s = p.tunnel(3, far)
	p.frame(frameRSTStream, 0, 3, 0, 0, 0, 8)
	if far.brokens != 1 || far.broken.Reason != bridge.ReasonReset || !far.broken.Remote {
		t.Errorf("got %v, want reset by peer", far.broken)
	}
	s.Reset(bridge.ReasonFarSide)
	p.want()

	// Reset after an End is still a reset, and while a Write waits.
	far = newRecorder()
	s = p.tunnel(5, far)
	for s.Write(make([]byte, 10000)) > 0 {
	}
	p.data(5, true, "")
	p.frame(frameRSTStream, 0, 5, 0, 0, 0, 8)
	p.frame(frameWindowUpdate, 0, 0, u32(100)...)
	if far.ended != 1 || far.brokens != 1 || far.writable != 0 {
		t.Errorf("got %d ends, %d breaks, %d writable, want 1, 1, 0", far.ended, far.brokens, far.writable)
	}

	// The transport ends or breaks.
	for _, end := range []bool{true, false} {
		p := newPeer(t, nil)
		far := newRecorder()
		p.tunnel(1, far)
		o := p.connectWS(3)
		if end {
			p.side.far.End()
		} else {
			p.side.far.Broken(&bridge.ResetError{Reason: bridge.ReasonReset, Remote: true})
		}
		p.loop.Turn()
		if far.brokens != 1 || far.broken.Reason != bridge.ReasonGone || !far.broken.Remote || far.ended != 0 {
			t.Errorf("got %v, want gone by peer", far.broken)
		}
		if o.gone == nil || p.srv.Connections() != 0 || p.client.Tunnels != 0 {
			t.Errorf("got gone %v, %d connections, %d tunnels, want a gone offer and none", o.gone, p.srv.Connections(), p.client.Tunnels)
		}
	}
}

// TestEarlyData is row 90: nothing is delivered before Bind, and what is held
// is bounded by the window.
func TestEarlyData(t *testing.T) {
	p := newPeer(t, nil)
	o := p.connectWS(1)
	p.data(1, false, "early ")
	p.data(1, true, "bird")
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
	p.want("HEADERS 1 200", `DATA 1 "" end`)

	p.connectWS(3)
	for range 4 {
		p.data(3, false, string(make([]byte, 16000)))
	}
	p.data(3, false, string(make([]byte, 1536)))
	p.want("RST_STREAM 3 FLOW_CONTROL_ERROR")
	if p.offers[1].gone == nil || p.loop.Held != 0 {
		t.Errorf("got gone %v and %d held, want gone and 0", p.offers[1].gone, p.loop.Held)
	}
}

// TestAccept is rows 60, 73, 74, 75: the head of the 200.
func TestAccept(t *testing.T) {
	p := newPeer(t, nil)
	p.connectWS(1).Accept(bridge.Fields{
		{Name: "Sec-WebSocket-Protocol", Value: "superchat"},
		{Name: "Set-Cookie", Value: "a=b"},
		{Name: "Set-Cookie", Value: "c=d"},
		{Name: "Connection", Value: "Upgrade"},
		{Name: "Upgrade", Value: "websocket"},
		{Name: "Content-Length", Value: "0"},
		{Name: "Transfer-Encoding", Value: "chunked"},
		{Name: "Keep-Alive", Value: "5"},
		{Name: "X-Bad", Value: "a\r\nb"},
	})
	f := p.wantStatus(p.frames(), 1, "200")
	var names []string
	for _, x := range f.fields {
		names = append(names, x.Name+"="+x.Value)
	}
	got := strings.Join(names, "|")
	want := ":status=200|sec-websocket-protocol=superchat|set-cookie=a=b|set-cookie=c=d|date=" + p.loop.Clock.Format(http.TimeFormat)
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p.connectWS(3).Accept(bridge.Fields{{Name: "Date", Value: "their date"}})
	if got := p.wantStatus(p.frames(), 3, "200").get("date"); got != "their date" {
		t.Errorf("got date %q, want the backend's", got)
	}
	big := strings.Repeat("\x01\x7f"[:0]+"~", 40000) // over a frame: CONTINUATION
	p.connectWS(5).Accept(bridge.Fields{{Name: "x-big", Value: big}})
	if got := p.wantStatus(p.frames(), 5, "200").get("x-big"); got != big {
		t.Errorf("got %d octets of x-big, want %d", len(got), len(big))
	}
}

// TestGone is row 232: the client leaves before the answer.
func TestGone(t *testing.T) {
	p := newPeer(t, nil)
	o := p.connectWS(1)
	inCall := int32(-1)
	o.OnGone(func(e *bridge.ResetError) { o.gone = e; inCall = p.c.slots })
	p.data(1, false, "early")
	p.frame(frameRSTStream, 0, 1, 0, 0, 0, 8)
	if o.gone == nil || o.gone.Reason != bridge.ReasonReset || inCall != 1 {
		t.Errorf("got %v with %d slots taken, want a reset with the slot still taken", o.gone, inCall)
	}
	if p.c.slots != 0 || p.client.Tunnels != 0 || p.loop.Held != 0 {
		t.Errorf("got %d slots, %d tunnels, %d held, want none", p.c.slots, p.client.Tunnels, p.loop.Held)
	}
	p.want()

	// An owner that never asked to be told holds the slot until it answers.
	var late bridge.Offer
	p.srv.Offer = func(o bridge.Offer) { late = o }
	p.headers(3, false, connectFields...)
	p.frame(frameRSTStream, 0, 3, 0, 0, 0, 8)
	if p.c.slots != 1 {
		t.Errorf("got %d slots, want 1", p.c.slots)
	}
	far := newRecorder()
	late.Accept(nil).Bind(far)
	p.loop.Turn()
	if p.c.slots != 0 || far.brokens != 1 {
		t.Errorf("got %d slots and %d breaks, want 0 and 1", p.c.slots, far.brokens)
	}
	p.headers(5, false, connectFields...)
	p.frame(frameRSTStream, 0, 5, 0, 0, 0, 8)
	var told *bridge.ResetError
	late.OnGone(func(e *bridge.ResetError) { told = e })
	if told != nil {
		t.Error("got OnGone called back before it returned")
	}
	p.loop.Turn()
	if told == nil || p.c.slots != 0 {
		t.Errorf("got %v and %d slots, want told and 0", told, p.c.slots)
	}
	p.want()
}

// fakeStream is a backend's content.
type fakeStream struct {
	far     bridge.Far
	resets  int
	resumes int
}

func (f *fakeStream) Bind(far bridge.Far) { f.far = far }
func (f *fakeStream) Resume()             { f.resumes++ }
func (f *fakeStream) Reset(bridge.Reason) { f.resets++ }

// TestRefuse is rows 63, 72, 91, 92, 93, 112.
func TestRefuse(t *testing.T) {
	for _, c := range []struct {
		name  string
		r     bridge.Refusal
		early string // what the client sends before the answer
		end   bool
		want  string
		ctype string
	}{
		{
			"own with a body",
			bridge.Refusal{Status: 403, Body: []byte("no"), Code: "origin"},
			"", false,
			`HEADERS 1 403, DATA 1 "no" end, RST_STREAM 1 NO_ERROR`, "text/plain; charset=utf-8",
		},
		{
			"client has ended",
			bridge.Refusal{Status: 403, Body: []byte("no")},
			"x", true,
			`HEADERS 1 403, DATA 1 "no" end`, "text/plain; charset=utf-8",
		},
		{
			"426 without Upgrade",
			bridge.Refusal{Status: 426, Fields: bridge.Fields{{Name: "Upgrade", Value: "websocket"}, {Name: "Sec-WebSocket-Version", Value: "13"}}},
			"early", false,
			"HEADERS 1 426 end, RST_STREAM 1 NO_ERROR", "",
		},
		{
			"foreign",
			bridge.Refusal{Status: 401, Foreign: true, Body: []byte("who"), Fields: bridge.Fields{{Name: "WWW-Authenticate", Value: "Basic"}}},
			"", false,
			`HEADERS 1 401, DATA 1 "who" end, RST_STREAM 1 NO_ERROR`, "",
		},
		{"200", bridge.Refusal{Status: 200, Foreign: true, Body: []byte("secret")}, "", false, "HEADERS 1 502 end, RST_STREAM 1 NO_ERROR", ""},
		{"204", bridge.Refusal{Status: 204, Foreign: true}, "", false, "HEADERS 1 502 end, RST_STREAM 1 NO_ERROR", ""},
		{"101", bridge.Refusal{Status: 101, Foreign: true}, "", false, "HEADERS 1 502 end, RST_STREAM 1 NO_ERROR", ""},
		{"304", bridge.Refusal{Status: 304, Foreign: true, Body: []byte("x")}, "", false, "HEADERS 1 304 end, RST_STREAM 1 NO_ERROR", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, nil)
			o := p.connectWS(1)
			if c.early != "" {
				p.data(1, c.end, c.early)
			}
			o.Refuse(&c.r)
			all := p.frames()
			if got := show(all); got != c.want {
				t.Fatalf("got [%s], want [%s]", got, c.want)
			}
			if got := all[0].get("content-type"); got != c.ctype {
				t.Errorf("got content-type %q, want %q", got, c.ctype)
			}
			if all[0].get("date") == "" || all[0].get("upgrade") != "" {
				t.Errorf("got fields %v, want Date and no Upgrade", all[0].fields)
			}
			if p.c.slots != 0 || p.loop.Held != 0 {
				t.Errorf("got %d slots and %d held, want none", p.c.slots, p.loop.Held)
			}
			p.data(1, false, "late")
			if !c.end {
				p.want()
			}
			p.alive()
		})
	}
}

// TestRefuseStream: the content of a backend's refusal, whole, cut, too long,
// and with a client that leaves or reads slowly.
func TestRefuseStream(t *testing.T) {
	open := func(length int64, window uint32) (*peer, *fakeStream) {
		p := newPeer(t, nil)
		p.settings(settingWindow, window)
		src := &fakeStream{}
		p.connectWS(1).Refuse(&bridge.Refusal{Status: 503, Foreign: true, Stream: src, Length: length})
		f := p.wantStatus(p.frames(), 1, "503")
		if got, want := f.get("content-length"), map[int64]string{5: "5", -1: ""}[length]; got != want {
			t.Errorf("got content-length %q, want %q", got, want)
		}
		return p, src
	}
	for _, length := range []int64{5, -1} {
		p, src := open(length, 1000)
		src.far.Data([]byte("hello"))
		p.data(1, false, "whatever")
		src.far.End()
		p.want(`DATA 1 "hello"`, `DATA 1 "" end`, "RST_STREAM 1 NO_ERROR")
	}
	p, src := open(5, 1000)
	src.far.Data([]byte("hel"))
	src.far.End()
	p.want(`DATA 1 "hel"`, "RST_STREAM 1 INTERNAL_ERROR")
	p, src = open(5, 1000)
	src.far.Data([]byte("hello!"))
	p.want("RST_STREAM 1 INTERNAL_ERROR")
	if src.resets != 1 {
		t.Errorf("got %d resets of the backend, want 1", src.resets)
	}
	p, src = open(-1, 1000)
	src.far.Broken(&bridge.ResetError{Reason: bridge.ReasonTruncated})
	p.want("RST_STREAM 1 INTERNAL_ERROR")
	p, src = open(-1, 3)
	if n := src.far.Data([]byte("hello")); n != 3 || src.far.Want() != 0 {
		t.Errorf("got %d taken, want 3", n)
	}
	p.frame(frameWindowUpdate, 0, 1, u32(9)...)
	if src.resumes != 1 {
		t.Errorf("got %d resumes, want 1", src.resumes)
	}
	p.frame(frameRSTStream, 0, 1, 0, 0, 0, 8)
	if src.resets != 1 || p.c.slots != 0 {
		t.Errorf("got %d resets and %d slots, want 1 and 0", src.resets, p.c.slots)
	}
	// A 2xx with a stream is not shown.
	p = newPeer(t, nil)
	src = &fakeStream{}
	p.connectWS(1).Refuse(&bridge.Refusal{Status: 200, Foreign: true, Stream: src, Length: 5})
	p.want("HEADERS 1 502 end", "RST_STREAM 1 NO_ERROR")
	if src.resets != 1 {
		t.Errorf("got %d resets of the backend, want 1", src.resets)
	}
}

// TestEndingOnTheLastFrame: a stream knows of octets that END_STREAM follows them
// (RFC 9113 section 6.1): on their own frame, whole and without padding to come.
func TestEndingOnTheLastFrame(t *testing.T) {
	p := newPeer(t, nil)
	r := newRecorder()
	side := p.tunnel(1, r).(interface{ Ending() bool })
	var got []bool
	r.onData = func([]byte) { got = append(got, side.Ending()) }
	p.data(1, false, "first")
	last := rawFrame(frameData, flagEndStream, 1, []byte("last")...)
	p.send(last[:len(last)-2]) // in two pieces
	p.send(last[len(last)-2:])
	if want := []bool{false, false, true}; !slices.Equal(got, want) || r.ended != 1 {
		t.Errorf("got ending %v and %d ends, want %v and 1", got, r.ended, want)
	}
	if side.Ending() {
		t.Error("got ending outside of Data")
	}
}
