package h2

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"wsgate/internal/enginetest"
)

// connectionErrors is frames that must end the connection, and the code.
func connectionErrors() []struct {
	name  string
	bytes []byte
	code  ErrCode
} {
	type c = struct {
		name  string
		bytes []byte
		code  ErrCode
	}
	f := rawFrame
	return []c{
		{"DATA on idle stream", f(frameData, 0, 1, 'x'), errProtocol},
		{"DATA on stream 0", f(frameData, 0, 0, 'x'), errProtocol},
		{"RST_STREAM on idle stream", f(frameRSTStream, 0, 1, 0, 0, 0, 8), errProtocol},
		{"RST_STREAM on stream 0", f(frameRSTStream, 0, 0, 0, 0, 0, 8), errProtocol},
		{"RST_STREAM of 3 octets", f(frameRSTStream, 0, 1, 0, 0, 0), errSize},
		{"WINDOW_UPDATE on idle stream", f(frameWindowUpdate, 0, 1, 0, 0, 0, 8), errProtocol},
		{"WINDOW_UPDATE on even stream", f(frameWindowUpdate, 0, 2, 0, 0, 0, 8), errProtocol},
		{"WINDOW_UPDATE of 3 octets", f(frameWindowUpdate, 0, 0, 0, 0, 0), errSize},
		{"WINDOW_UPDATE of 0 on the connection", f(frameWindowUpdate, 0, 0, 0, 0, 0, 0), errProtocol},
		{"connection window over 2^31-1 (row 121)", f(frameWindowUpdate, 0, 0, 0x7f, 0xff, 0xff, 0xff), errFlow},
		{"CONTINUATION on idle stream", f(frameContinuation, flagEndHeaders, 1), errProtocol},
		{"HEADERS on stream 0", f(frameHeaders, flagEndHeaders, 0), errProtocol},
		{"HEADERS on even stream", f(frameHeaders, flagEndHeaders, 2), errProtocol},
		{"HEADERS then PING (row 52)", append(f(frameHeaders, 0, 1, 0x82), f(framePing, 0, 0, make([]byte, 8)...)...), errProtocol},
		{"HEADERS then CONTINUATION elsewhere", append(f(frameHeaders, 0, 1, 0x82), f(frameContinuation, 0, 3)...), errProtocol},
		{"HEADERS then unknown type", append(f(frameHeaders, 0, 1, 0x82), f(0xbe, 0, 0)...), errProtocol},
		{"HEADERS padded without pad length", f(frameHeaders, flagEndHeaders|flagPadded, 1), errSize},
		{"HEADERS with padding over the frame", f(frameHeaders, flagEndHeaders|flagPadded, 1, 9, 0x82), errProtocol},
		{"HEADERS too short for its priority", f(frameHeaders, flagEndHeaders|flagPriority, 1, 0, 0, 0), errSize},
		{"corrupt HPACK (row 54)", f(frameHeaders, flagEndHeaders, 1, 0x80), errCompression},
		{"PRIORITY on stream 0", f(framePriority, 0, 0, 0, 0, 0, 1, 1), errProtocol},
		{"SETTINGS on a stream", f(frameSettings, 0, 1), errProtocol},
		{"SETTINGS of 5 octets", f(frameSettings, 0, 0, 1, 2, 3, 4, 5), errSize},
		{"SETTINGS acknowledgement with content", f(frameSettings, flagAck, 0, make([]byte, 6)...), errSize},
		{"ENABLE_PUSH 2", settingsFrameOf(settingPush, 2), errProtocol},
		{"INITIAL_WINDOW_SIZE 2^31", settingsFrameOf(settingWindow, 1<<31), errFlow},
		{"MAX_FRAME_SIZE 16383", settingsFrameOf(settingFrameSize, 16383), errProtocol},
		{"MAX_FRAME_SIZE 2^24", settingsFrameOf(settingFrameSize, 1<<24), errProtocol},
		{"ENABLE_CONNECT_PROTOCOL 2 (row 6)", settingsFrameOf(settingConnect, 2), errProtocol},
		{"NO_RFC7540_PRIORITIES 2", settingsFrameOf(settingNoPriorities, 2), errProtocol},
		{"PUSH_PROMISE", f(framePushPromise, flagEndHeaders, 1, 0, 0, 0, 2), errProtocol},
		{"PING on a stream", f(framePing, 0, 1, make([]byte, 8)...), errProtocol},
		{"PING of 7 octets", f(framePing, 0, 0, make([]byte, 7)...), errSize},
		{"GOAWAY on a stream", f(frameGoaway, 0, 1, make([]byte, 8)...), errProtocol},
		{"GOAWAY of 7 octets", f(frameGoaway, 0, 0, make([]byte, 7)...), errSize},
		{"frame over SETTINGS_MAX_FRAME_SIZE", f(0xbe, 0, 0, make([]byte, 16385)...), errSize},
	}
}

func TestConnectionErrors(t *testing.T) {
	for _, c := range connectionErrors() {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, nil)
			p.send(c.bytes)
			p.want("GOAWAY 0 " + c.code.String())
			if !p.side.closed || p.side.reset {
				t.Errorf("got closed %v, reset %v, want an orderly end at first", p.side.closed, p.side.reset)
			}
			p.send([]byte("what comes now is dropped"))
			p.loop.Sleep(closeTime)
			if !p.side.reset || p.srv.Connections() != 0 {
				t.Errorf("got reset %v and %d connections later, want true and 0", p.side.reset, p.srv.Connections())
			}
		})
	}
}

// TestErrorsBreakTunnels: a connection error ends every tunnel on it.
func TestErrorsBreakTunnels(t *testing.T) {
	p := newPeer(t, nil)
	a, b := newRecorder(), newRecorder()
	p.tunnel(1, a)
	p.tunnel(3, b)
	p.send(rawFrame(framePing, 0, 1, make([]byte, 8)...))
	p.want("GOAWAY 3 PROTOCOL_ERROR")
	if a.brokens != 1 || b.brokens != 1 || !a.broken.Remote {
		t.Errorf("got %d and %d breaks, want one each by the peer", a.brokens, b.brokens)
	}
}

func TestPreface(t *testing.T) {
	p := rawPeer(t, nil)
	p.want("SETTINGS 0", "WINDOW_UPDATE 0 1073676289") // row 1: SETTINGS first
	p.send([]byte("PRI * HTTP/2.0\r\n\r\nXX"))
	p.want("GOAWAY 0 PROTOCOL_ERROR")

	p = rawPeer(t, nil)
	p.frames()
	for _, b := range []byte(clientPreface) { // in pieces
		p.send([]byte{b})
	}
	p.settings()
	p.want("SETTINGS 0 ack")

	p = rawPeer(t, nil)
	p.frames()
	p.send([]byte(clientPreface)) // RFC 9113 section 3.4: SETTINGS has to come first
	p.frame(framePing, 0, 0, make([]byte, 8)...)
	p.want("GOAWAY 0 PROTOCOL_ERROR")
}

// TestOwnSettings is rows 1 and 2.
func TestOwnSettings(t *testing.T) {
	for _, on := range []bool{true, false} {
		p := rawPeer(t, func(s *Server) {
			if !on {
				s.Offer = nil
			}
		})
		f := p.frames()[0]
		values := map[uint16]uint32{}
		for b := f.payload; len(b) >= 6; b = b[6:] {
			values[uint16(b[0])<<8|uint16(b[1])] = uint32(b[2])<<24 | uint32(b[3])<<16 | uint32(b[4])<<8 | uint32(b[5])
		}
		v, has := values[settingConnect]
		if has != on || on && v != 1 {
			t.Errorf("got ENABLE_CONNECT_PROTOCOL %d, %v with the offer %v, want it only then", v, has, on)
		}
		if values[settingMaxStreams] != 250 || values[settingWindow] != 65535 || values[settingHeaderList] != 64<<10 {
			t.Errorf("got %v, want 250 streams, 65535 windows, 64 KiB of fields", values)
		}
	}
}

// TestHarmlessFrames is rows 4, 5, 8, 9, 116 and RFC 9113 section 5.5.
func TestHarmlessFrames(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	p.tunnel(1, far)
	p.settings(settingConnect, 1)
	p.settings(settingConnect, 0)
	p.settings(0x7777, 5)
	p.want("SETTINGS 0 ack", "SETTINGS 0 ack", "SETTINGS 0 ack")
	p.frame(0xbe, 0xff, 0, 1, 2, 3)
	p.frame(0xbe, 0xff, 1, 1, 2, 3)
	p.frame(framePriority, 0, 1, 0, 0, 0, 0, 9)
	p.frame(framePriority, 0, 77, 0, 0, 0, 1, 9)
	p.frame(framePing, flagAck, 0, make([]byte, 8)...)
	p.frame(frameGoaway, 0, 0, make([]byte, 8)...)
	p.frame(frameSettings, flagAck, 0)
	p.want()
	if far.brokens+far.ended+len(far.got) != 0 {
		t.Errorf("got %+v, want an untouched tunnel", far)
	}
	p.alive()

	// Row 8: the CONNECT comes in the same flight as the preface.
	p = rawPeer(t, nil)
	all := append([]byte(clientPreface), settingsFrameOf()...)
	p.send(append(all, rawFrame(frameHeaders, flagEndHeaders, 1, p.block(connectFields...)...)...))
	if len(p.offers) != 1 {
		t.Errorf("got %d offers, want 1", len(p.offers))
	}
}

func TestStreamErrors(t *testing.T) {
	cases := []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"WINDOW_UPDATE 0 (row 120)", rawFrame(frameWindowUpdate, 0, 1, 0, 0, 0, 0), "RST_STREAM 1 PROTOCOL_ERROR"},
		{"window over 2^31-1 (row 121)", rawFrame(frameWindowUpdate, 0, 1, 0x7f, 0xff, 0xff, 0xff), "RST_STREAM 1 FLOW_CONTROL_ERROR"},
		{"PRIORITY of 4 octets", rawFrame(framePriority, 0, 1, 0, 0, 0, 1), "RST_STREAM 1 FRAME_SIZE_ERROR"},
		{"PRIORITY on itself", rawFrame(framePriority, 0, 1, 0, 0, 0, 1, 1), "RST_STREAM 1 PROTOCOL_ERROR"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, nil)
			far, other := newRecorder(), newRecorder()
			p.tunnel(1, far)
			p.tunnel(3, other)
			p.send(c.bytes)
			p.want(c.want)
			if far.brokens != 1 || !far.broken.Remote || other.brokens != 0 {
				t.Errorf("got %d breaks and %d of the other tunnel, want 1 and 0", far.brokens, other.brokens)
			}
			// Row 110: what was under way is dropped.
			p.data(1, false, "late")
			p.frame(frameWindowUpdate, 0, 1, 0, 0, 0, 9)
			p.frame(frameRSTStream, 0, 1, 0, 0, 0, 8)
			p.headers(1, true, "x-late", "trailer")
			p.want()
			p.alive()
		})
	}
}

func TestHeadersOnTunnel(t *testing.T) {
	for _, end := range []bool{true, false} { // rows 55 and 56
		p := newPeer(t, nil)
		far := newRecorder()
		p.tunnel(1, far)
		p.headers(1, end, "x-a", "b")
		p.want("RST_STREAM 1 PROTOCOL_ERROR")
		if far.brokens != 1 || far.ended != 0 || len(far.got) != 0 {
			t.Errorf("got %d breaks, %d ends, %q, want one break", far.brokens, far.ended, far.got)
		}
		p.alive()
	}
}

func TestClosedStreams(t *testing.T) {
	reset := rawFrame(frameRSTStream, 0, 1, 0, 0, 0, 8)
	data := rawFrame(frameData, flagEndStream, 1, 'x')
	for _, c := range []struct {
		name string
		do   func(p *peer)
		want string
	}{
		{"DATA after END_STREAM (row 109)", func(p *peer) { p.data(1, true, ""); p.send(data) }, "RST_STREAM 1 STREAM_CLOSED"},
		{"HEADERS after END_STREAM", func(p *peer) { p.data(1, true, ""); p.headers(1, true, "x", "y") }, "RST_STREAM 1 STREAM_CLOSED"},
		{"DATA after RST_STREAM", func(p *peer) { p.send(reset); p.send(data) }, "RST_STREAM 1 STREAM_CLOSED"},
		{"HEADERS after RST_STREAM", func(p *peer) { p.send(reset); p.headers(1, true, "x", "y") }, "RST_STREAM 1 STREAM_CLOSED"},
		{"CONTINUATION after RST_STREAM", func(p *peer) { p.send(reset); p.frame(frameContinuation, flagEndHeaders, 1) }, "GOAWAY 3 PROTOCOL_ERROR"},
		{"smaller id than before", func(p *peer) { p.connectWS(9); p.headers(5, true, connectFields...) }, "GOAWAY 9 PROTOCOL_ERROR"},
		{"WINDOW_UPDATE and RST_STREAM after the end", func(p *peer) {
			p.send(reset)
			p.frame(frameWindowUpdate, 0, 1, 0, 0, 0, 1)
			p.send(reset)
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, nil)
			far, other := newRecorder(), newRecorder()
			p.tunnel(1, far)
			p.tunnel(3, other)
			c.do(p)
			if got := show(p.frames()); got != c.want {
				t.Fatalf("got [%s], want [%s]", got, c.want)
			}
			if len(far.got) != 0 {
				t.Errorf("got %q at the backend, want nothing", far.got)
			}
			if strings.Contains(c.want, "RST_STREAM") && (far.brokens != 1 || other.brokens != 0) {
				t.Errorf("got %d breaks and %d of the other, want 1 and 0", far.brokens, other.brokens)
			}
		})
	}
	// Both ended in order.
	p := newPeer(t, nil)
	s := p.tunnel(1, newRecorder())
	s.CloseWrite()
	p.data(1, true, "")
	p.frames()
	p.send(data)
	p.want("RST_STREAM 1 STREAM_CLOSED")
	p.headers(1, true, "x", "y")
	p.want("GOAWAY 1 STREAM_CLOSED")
}

// TestPadding is row 101: padding is dropped and costs the client nothing.
func TestPadding(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	p.tunnel(1, far)
	p.frame(frameData, flagPadded, 1, append([]byte{3, 'a', 'b'}, 0, 0, 0)...)
	p.frame(frameData, flagPadded, 1, 0, 'c')
	p.frame(frameData, flagPadded, 1, 2, 0, 0)
	p.frame(frameData, 0, 1)
	if got, want := string(far.got), "abc"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if s := p.c.streams[1]; s.taken != 6+2+3 {
		t.Errorf("got %d octets to give back, want 11", s.taken)
	}
	p.want()
	p.send(rawFrame(frameData, flagPadded, 1, 2, 0))
	p.want("GOAWAY 1 PROTOCOL_ERROR")
}

// TestPieces feeds a whole session one octet at a time.
func TestPieces(t *testing.T) {
	p := rawPeer(t, nil)
	var all []byte
	all = append(all, clientPreface...)
	all = append(all, settingsFrameOf(settingWindow, 70000)...)
	block := p.block(connectFields...)
	all = append(all, rawFrame(frameHeaders, 0, 1, block[:5]...)...)
	all = append(all, rawFrame(frameContinuation, 0, 1, block[5:9]...)...)
	all = append(all, rawFrame(frameContinuation, flagEndHeaders, 1, block[9:]...)...)
	all = append(all, rawFrame(frameData, flagPadded, 1, append([]byte{2}, "early\x00\x00"...)...)...)
	all = append(all, rawFrame(0xfe, 0, 1, make([]byte, 20)...)...)
	all = append(all, rawFrame(frameData, flagEndStream, 1, []byte(" data")...)...)
	for _, b := range all {
		p.send([]byte{b})
	}
	far := newRecorder()
	p.offers[0].Accept(nil).Bind(far)
	p.loop.Turn()
	if got, want := string(far.got), "early data"; got != want || far.ended != 1 {
		t.Errorf("got %q and %d ends, want %q and 1", got, far.ended, want)
	}
	if p.c.in.frame != nil || p.c.in.blocks != nil {
		t.Error("got buffers held while idle, want none")
	}
}

// TestTableSize: a smaller SETTINGS_HEADER_TABLE_SIZE is noted in the next block.
func TestTableSize(t *testing.T) {
	p := newPeer(t, nil)
	p.settings(settingTableSize, 100)
	p.dec.SetAllowedMaxDynamicTableSize(100)
	p.connectWS(1).Accept(nil)
	p.loop.Turn()
	i := bytes.Index(p.side.out, []byte{byte(frameHeaders), flagEndHeaders, 0, 0, 0, 1})
	if got := p.side.out[i+6]; got != 0x20 {
		t.Errorf("got first octet 0x%x of the block, want 0x20", got)
	}
	p.frames()
	p.connectWS(3).Accept(nil)
	p.wantStatus(p.frames(), 3, "200")
}

// TestTrailers is the trailer section of ordinary requests (RFC 9113 section 8.1).
func TestTrailers(t *testing.T) {
	for _, c := range []struct {
		name   string
		end    bool
		fields []string
		want   string
	}{
		{"pseudo field", true, []string{":path", "/"}, "RST_STREAM 1 PROTOCOL_ERROR"},
		{"upper case", true, []string{"X", "y"}, "RST_STREAM 1 PROTOCOL_ERROR"},
		{"no END_STREAM", false, []string{"x", "y"}, "RST_STREAM 1 PROTOCOL_ERROR"},
	} {
		release := make(chan bool)
		p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
		p.headers(1, false, enginetest.Edit(getFields, ":method", "POST")...)
		p.data(1, false, "x")
		p.headers(1, c.end, c.fields...)
		p.want(c.want)
		close(release)
		p.loop.Wait(func() bool { return p.c.slots == 0 })
		p.alive()
	}
}
