package h2

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"wsgate/bridge"
)

// TestHeadersFrame is padding and priority of HEADERS (RFC 9113 section 6.2).
func TestHeadersFrame(t *testing.T) {
	p := newPeer(t, nil)
	block := p.block(connectFields...)
	padded := append(append([]byte{3, 0, 0, 0, 9, 16}, block...), 0, 0, 0)
	p.frame(frameHeaders, flagEndHeaders|flagPadded|flagPriority, 1, padded...)
	if len(p.offers) != 1 {
		t.Fatalf("got %d offers, want 1", len(p.offers))
	}
	block = p.block(connectFields...)
	p.frame(frameHeaders, flagEndHeaders|flagPriority, 3, append([]byte{0, 0, 0, 3, 16}, block...)...)
	p.want("RST_STREAM 3 PROTOCOL_ERROR") // depends on itself
	p.frame(frameHeaders, flagEndHeaders|flagPriority, 1, append([]byte{0, 0, 0, 1, 16}, block...)...)
	p.want("RST_STREAM 1 PROTOCOL_ERROR")
	p.alive()
	p.frame(frameData, flagPadded, 1)
	p.alive() // the stream is closed: dropped
	p.tunnel(5, newRecorder())
	p.frame(frameData, flagPadded, 5)
	p.want("GOAWAY 5 FRAME_SIZE_ERROR")
}

// TestForgottenStream: frames on streams that closed long ago, which the
// client never skipped, are dropped.
func TestForgottenStream(t *testing.T) {
	p := newPeer(t, nil)
	for i := range uint32(100) {
		p.connectWS(2*i + 1).Refuse(&bridge.Refusal{Status: 503})
	}
	p.frames()
	p.data(1, false, "late")
	p.headers(1, true, "x-late", "trailer")
	p.want()
	p.alive()
}

// TestStaticNames: each name that the encoder shortens is the one it means.
func TestStaticNames(t *testing.T) {
	names := "accept-ranges access-control-allow-origin age allow cache-control content-disposition content-encoding " +
		"content-language content-length content-location content-range content-type date etag expires last-modified link " +
		"location proxy-authenticate refresh retry-after server set-cookie strict-transport-security vary via www-authenticate x-other"
	dec := hpack.NewDecoder(0, nil)
	for _, name := range strings.Fields(names) {
		b := appendField(nil, strings.ToUpper(name), "Some Value")
		got, err := dec.DecodeFull(b)
		if err != nil || len(got) != 1 || got[0].Name != name || got[0].Value != "Some Value" {
			t.Errorf("got %v, %v, want %s: Some Value", got, err, name)
		}
		if (staticName([]byte(name)) == 0) != (name == "x-other") {
			t.Errorf("got index %d for %s", staticName([]byte(name)), name)
		}
	}
	if got := appendField(nil, "a b", "c"); got != nil {
		t.Errorf("got %q for a bad name, want nothing", got)
	}
}

// TestStatuses: the short forms of :status.
func TestStatuses(t *testing.T) {
	p := newPeer(t, nil)
	for i, status := range []int{200, 204, 206, 304, 400, 404, 500, 503, 426} {
		p.c.sendBlock(uint32(2*i+1), p.c.beginBlock(status), true)
		f := p.frames()[0]
		if got := f.get(":status"); got != string(rune('0'+status/100))+string(rune('0'+status/10%10))+string(rune('0'+status%10)) {
			t.Errorf("got status %q, want %d", got, status)
		}
	}
}

func TestErrorWords(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&ConnectionError{errFlow, "too much"}, "connection error FLOW_CONTROL_ERROR: too much"},
		{&StreamError{7, ErrCode(99), "odd"}, "stream 7: error code 0x63: odd"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// TestHugeWrite: a Write over the output bound goes on in the next turn.
func TestHugeWrite(t *testing.T) {
	p := newPeer(t, nil)
	p.settings(settingWindow, 1<<24)
	p.frame(frameWindowUpdate, 0, 0, u32(1<<24)...)
	far := newRecorder()
	s := p.tunnel(1, far)
	left := 1 << 20
	push := func() {
		left -= s.Write(make([]byte, left))
	}
	far.onWrite = push
	push()
	if left != 1<<20-outDataMax || far.writable != 0 {
		t.Errorf("got %d left and %d calls of Writable, want %d and 0", left, far.writable, 1<<20-outDataMax)
	}
	p.loop.Turn()
	if left != 0 {
		t.Errorf("got %d left in the end, want 0", left)
	}
}

// TestDrainBlocked: a drained connection that cannot send its last words ends
// all the same.
func TestDrainBlocked(t *testing.T) {
	p := newPeer(t, nil)
	p.side.room = 0
	p.srv.Drain()
	p.loop.Turn()
	p.loop.Sleep(drainTime)
	if p.side.closed || p.c.phase != phaseClosing {
		t.Errorf("got closed %v in phase %d, want a connection that waits", p.side.closed, p.c.phase)
	}
	p.side.room = -1
	p.side.far.Writable()
	p.want("GOAWAY 2147483647 NO_ERROR", "PING 0", "GOAWAY 0 NO_ERROR")
	if !p.side.closed {
		t.Error("got no end of our direction after the output, want one")
	}
	p.loop.Sleep(closeTime)
	if !p.side.reset || p.srv.Connections() != 0 {
		t.Errorf("got reset %v and %d connections, want true and 0", p.side.reset, p.srv.Connections())
	}

	p = newPeer(t, nil)
	p.side.room = 0
	p.send(rawFrame(framePing, 0, 1, make([]byte, 8)...)) // a connection error
	p.loop.Sleep(closeTime + time.Millisecond)
	if !p.side.reset || p.loop.Held != 0 {
		t.Errorf("got reset %v and %d held, want true and 0", p.side.reset, p.loop.Held)
	}
}

// TestRefuseFromMemory: the body of an own refusal waits for the window.
func TestRefuseFromMemory(t *testing.T) {
	p := newPeer(t, nil)
	p.settings(settingWindow, 0)
	p.frames()
	p.connectWS(1).Refuse(&bridge.Refusal{Status: 403, Body: []byte("hello")})
	p.want("HEADERS 1 403")
	p.data(1, false, "dropped")
	p.data(1, true, "")
	p.frame(frameWindowUpdate, 0, 1, u32(3)...)
	p.want(`DATA 1 "hel"`)
	p.frame(frameWindowUpdate, 0, 1, u32(3)...)
	p.want(`DATA 1 "lo" end`)
	if p.c.slots != 0 || p.loop.Held != 0 {
		t.Errorf("got %d slots and %d held, want none", p.c.slots, p.loop.Held)
	}
}

// TestTruncatedSession: a client that leaves in the middle of a frame leaves
// nothing behind.
func TestTruncatedSession(t *testing.T) {
	mem := NewMemory(1 << 20)
	p := newPeer(t, func(s *Server) { s.BufferMemory = mem })
	p.frame(frameHeaders, 0, 1, p.block(connectFields...)...)
	p.send(rawFrame(frameContinuation, 0, 1, make([]byte, 100)...)[:50])
	if mem.Used() == 0 || p.loop.Held == 0 {
		t.Errorf("got %d accounted and %d held, want the block", mem.Used(), p.loop.Held)
	}
	p.side.far.End()
	p.loop.Turn()
	if mem.Used() != 0 || p.loop.Held != 0 || !p.side.closed {
		t.Errorf("got %d accounted, %d held, closed %v, want none and an end", mem.Used(), p.loop.Held, p.side.closed)
	}
}
