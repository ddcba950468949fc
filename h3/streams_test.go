package h3

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSettings is row 138: SETTINGS first, with what can be served; row 163: no
// datagrams.
func TestSettings(t *testing.T) {
	for _, c := range []struct {
		change func(*Server)
		want   string
	}{
		{nil, "SETTINGS 8=1 6=65536 374=0"},
		{func(s *Server) { s.Offer = nil }, "SETTINGS 6=65536 374=0"},
		{func(s *Server) { s.Announce = func() bool { return false }; s.MaxHeader = 1000 }, "SETTINGS 6=1000 374=0"},
	} {
		p := rawPeer(t, c.change)
		if b := p.q.control.out; len(b) == 0 || b[0] != streamControl {
			t.Errorf("got %x, want the type of a control stream first", b)
		}
		p.wantControl(c.want)
	}
}

// TestAnnounce: what can be served at a connection's birth is announced, and holds
// for its life.
func TestAnnounce(t *testing.T) {
	on := true
	p := newPeer(t, func(s *Server) { s.Announce = func() bool { return on } })
	on = false
	p.connectWS(0)
	q := newPeer(t, func(s *Server) { s.Announce = func() bool { return on } })
	q.headers(0, false, connectFields...)
	q.want(0, "RESET 0x10e, STOP 0x10e")
	if len(q.offers) != 0 {
		t.Errorf("not announced: got %d offers, want none", len(q.offers))
	}
}

// TestNoControlStream: a client that allows the server no control stream.
func TestNoControlStream(t *testing.T) {
	p := rawPeer(t, nil)
	p.q.noUni, p.q.control = true, nil
	c := p.srv.serve(p.loop, p.q, p.client)
	if p.q.ends != 1 || p.q.code != errGeneral || !c.over {
		t.Errorf("got %d ends with 0x%x, want one with H3_GENERAL_PROTOCOL_ERROR", p.q.ends, uint64(p.q.code))
	}
}

// fault is octets that end a connection, on a stream of the client.
type fault struct {
	name string
	on   string // control, before (no SETTINGS yet), encoder, decoder, push, request, tunnel
	send []byte
	fin  bool
	want ErrCode
}

func varints(v ...uint64) (b []byte) {
	for _, x := range v {
		b = appendVarint(b, x)
	}
	return b
}

// faults are the connection errors of RFC 9114 and RFC 9204, among them all that
// quic-go's own server misses.
func faults() []fault {
	long := make([]byte, maxControlFrame+1)
	return []fault{
		{"first frame is not SETTINGS", "before", rawFrame(frameGoaway, 0), false, errMissingSettings},
		{"first frame is reserved", "before", rawFrame(0x21, 1), false, errMissingSettings},
		{"first frame is DATA", "before", rawFrame(frameData), false, errMissingSettings},
		{"DATA", "control", rawFrame(frameData, 1), false, errFrameUnexpected},
		{"HEADERS", "control", rawFrame(frameHeaders, 0, 0), false, errFrameUnexpected},
		{"PUSH_PROMISE", "control", rawFrame(framePushPromise, 0), false, errFrameUnexpected},
		{"PRIORITY of HTTP/2", "control", rawFrame(0x02, 0), false, errFrameUnexpected},
		{"PING of HTTP/2", "control", rawFrame(0x06, 0), false, errFrameUnexpected},
		{"WINDOW_UPDATE of HTTP/2", "control", rawFrame(0x08, 0), false, errFrameUnexpected},
		{"CONTINUATION of HTTP/2", "control", rawFrame(0x09), false, errFrameUnexpected},
		{"second SETTINGS", "control", rawFrame(frameSettings), false, errFrameUnexpected},
		{"0x02 (row 139)", "before", rawFrame(frameSettings, varints(0x02, 0)...), false, errSettings},
		{"0x03 (row 139)", "before", rawFrame(frameSettings, varints(0x03, 1)...), false, errSettings},
		{"0x04 (row 139)", "before", rawFrame(frameSettings, varints(0x04, 1)...), false, errSettings},
		{"0x05 (row 139)", "before", rawFrame(frameSettings, varints(0x05, 1)...), false, errSettings},
		{"0x08 twice (row 139)", "before", rawFrame(frameSettings, varints(0x08, 1, 0x08, 1)...), false, errSettings},
		{"0x08 = 2 (row 139)", "before", rawFrame(frameSettings, varints(0x08, 2)...), false, errSettings},
		{"unknown setting twice", "before", rawFrame(frameSettings, varints(0x1234, 2, 0x06, 1, 0x1234, 2)...), false, errSettings},
		{"SETTINGS cut in an id", "before", rawFrame(frameSettings, 0x40), false, errFrame},
		{"SETTINGS cut in a value", "before", rawFrame(frameSettings, 0x06, 0x80, 0, 0), false, errFrame},
		{"SETTINGS without a value", "before", rawFrame(frameSettings, 0x06), false, errFrame},
		{"endless SETTINGS", "before", rawFrame(frameSettings, long...), false, errExcessiveLoad},
		{"endless GOAWAY", "control", rawFrame(frameGoaway, long...), false, errExcessiveLoad},
		{"GOAWAY without id", "control", rawFrame(frameGoaway), false, errFrame},
		{"GOAWAY cut", "control", rawFrame(frameGoaway, 0x40), false, errFrame},
		{"GOAWAY too long", "control", rawFrame(frameGoaway, 0, 0), false, errFrame},
		{"GOAWAY goes up", "control", append(rawFrame(frameGoaway, 1), rawFrame(frameGoaway, 2)...), false, errID},
		{"MAX_PUSH_ID too long", "control", rawFrame(frameMaxPushID, 1, 1), false, errFrame},
		{"MAX_PUSH_ID goes down", "control", append(rawFrame(frameMaxPushID, 5), rawFrame(frameMaxPushID, 4)...), false, errID},
		{"CANCEL_PUSH of no push", "control", append(rawFrame(frameMaxPushID, 5), rawFrame(frameCancelPush, 0)...), false, errID},
		{"CANCEL_PUSH empty", "control", rawFrame(frameCancelPush), false, errFrame},
		{"control stream ends", "control", nil, true, errClosedCritical},
		{"control stream ends at once", "before", nil, true, errClosedCritical},
		{"second control stream", "second control", nil, false, errStreamCreation},
		{"second encoder stream", "second encoder", nil, false, errStreamCreation},
		{"second decoder stream", "second decoder", nil, false, errStreamCreation},
		{"encoder stream ends", "encoder", nil, true, errClosedCritical},
		{"decoder stream ends", "decoder", nil, true, errClosedCritical},
		{"push stream of a client", "push", nil, false, errStreamCreation},
		{"capacity over 0", "encoder", []byte{0x21}, false, errEncoderStream},
		{"large capacity", "encoder", []byte{0x20, 0x3f, 0x81, 0x1f}, false, errEncoderStream},
		{"insertion with a static name", "encoder", []byte{0xc1, 0x01, 'x'}, false, errEncoderStream},
		{"insertion with a literal name", "encoder", []byte{0x41, 'x', 0x01, 'y'}, false, errEncoderStream},
		{"duplicate", "encoder", []byte{0x00}, false, errEncoderStream},
		{"section acknowledgment", "decoder", []byte{0x80}, false, errDecoderStream},
		{"insert count increment", "decoder", []byte{0x01}, false, errDecoderStream},
		{"insert count increment of 0", "decoder", []byte{0x00}, false, errDecoderStream},
		{"stream cancellation too long", "decoder", []byte("\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00"), false, errDecoderStream},

		{"DATA before HEADERS (row 153)", "request", rawFrame(frameData, 1), false, errFrameUnexpected},
		{"empty DATA before HEADERS", "request", rawFrame(frameData), false, errFrameUnexpected},
		{"SETTINGS", "request", rawFrame(frameSettings), false, errFrameUnexpected},
		{"GOAWAY", "request", rawFrame(frameGoaway, 0), false, errFrameUnexpected},
		{"MAX_PUSH_ID", "request", rawFrame(frameMaxPushID, 0), false, errFrameUnexpected},
		{"CANCEL_PUSH", "request", rawFrame(frameCancelPush, 0), false, errFrameUnexpected},
		{"PUSH_PROMISE", "request", rawFrame(framePushPromise, 0, 0, 0), false, errFrameUnexpected},
		{"frames of HTTP/2", "request", rawFrame(0x06, 0, 0, 0, 0, 0, 0, 0, 0), false, errFrameUnexpected},
		{"FIN inside a frame's type", "request", []byte{0x40}, true, errFrame},
		{"FIN inside a frame's length", "request", []byte{0x01}, true, errFrame},
		{"FIN inside HEADERS", "request", rawFrame(frameHeaders, 0, 0, 0xd1)[:3], true, errFrame},
		{"FIN inside an unknown frame", "request", []byte{0x21, 0x05, 1}, true, errFrame},
		{"empty section", "request", rawFrame(frameHeaders), false, errDecompression},
		{"section of one octet", "request", rawFrame(frameHeaders, 0), false, errDecompression},
		{"required insert count (row 158)", "request", rawFrame(frameHeaders, 1, 0, 0xd1), false, errDecompression},
		{"large required insert count", "request", rawFrame(frameHeaders, 0xff, 0x80, 0x01, 0, 0xd1), false, errDecompression},
		{"negative base", "request", rawFrame(frameHeaders, 0, 0x80, 0xd1), false, errDecompression},
		{"base cut", "request", rawFrame(frameHeaders, 0, 0x7f, 0x80), false, errDecompression},
		{"endless base", "request", rawFrame(frameHeaders, append([]byte{0, 0x7f}, []byte(strings.Repeat("\x80", 20)+"\x00\xd1")...)...), false, errDecompression},
		{"static index 99", "request", rawFrame(frameHeaders, 0, 0, 0xff, 99-63), false, errDecompression},
		{"huge static index", "request", rawFrame(frameHeaders, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), false, errDecompression},
		{"static index 99 of a name", "request", rawFrame(frameHeaders, 0, 0, 0x5f, 99-15, 1, 'x'), false, errDecompression},
		{"dynamic index", "request", rawFrame(frameHeaders, 0, 0, 0x80), false, errDecompression},
		{"dynamic index of a name", "request", rawFrame(frameHeaders, 0, 0, 0x40, 1, 'x'), false, errDecompression},
		{"post-base index", "request", rawFrame(frameHeaders, 0, 0, 0x10), false, errDecompression},
		{"post-base index of a name", "request", rawFrame(frameHeaders, 0, 0, 0x00, 1, 'x'), false, errDecompression},
		{"literal cut in its name", "request", rawFrame(frameHeaders, 0, 0, 0x23, 'x'), false, errDecompression},
		{"literal cut in its value", "request", rawFrame(frameHeaders, 0, 0, 0x21, 'x', 5, 'y'), false, errDecompression},
		{"literal without value", "request", rawFrame(frameHeaders, 0, 0, 0x21, 'x'), false, errDecompression},
		{"wrong Huffman", "request", rawFrame(frameHeaders, 0, 0, 0x21, 'x', 0x81, 0x00), false, errDecompression},
		{"announced length far over the limit (row 158)", "request", appendFrame(nil, frameHeaders, 2<<20), false, errExcessiveLoad},

		{"HEADERS (row 151)", "tunnel", rawFrame(frameHeaders, 0, 0), false, errFrameUnexpected},
		{"PUSH_PROMISE (row 151)", "tunnel", rawFrame(framePushPromise, 0), false, errFrameUnexpected},
		{"SETTINGS (row 151)", "tunnel", rawFrame(frameSettings), false, errFrameUnexpected},
		{"GOAWAY (row 151)", "tunnel", rawFrame(frameGoaway, 0), false, errFrameUnexpected},
		{"frames of HTTP/2 (row 151)", "tunnel", rawFrame(0x08, 0, 0, 0, 1), false, errFrameUnexpected},
		{"FIN inside DATA (row 154)", "tunnel", rawFrame(frameData, 1, 2, 3)[:4], true, errFrame},
		{"FIN inside a frame's head", "tunnel", []byte{0x00}, true, errFrame},
		{"HEADERS before the answer", "offer", rawFrame(frameHeaders, 0, 0), false, errFrameUnexpected},
	}
}

// commit sends a fault and returns the far of the tunnel it is sent on.
func (p *peer) commit(f *fault) {
	send := func(s *fakeStream) {
		p.sends(s, f.send)
		if f.fin {
			p.ends(s)
		}
	}
	switch f.on {
	case "before", "control":
		if p.ctl = p.uni(streamControl); f.on == "control" {
			p.settings(0x06, 1000)
		}
		send(p.ctl)
	case "encoder":
		send(p.uni(streamEncoder))
	case "decoder":
		send(p.uni(streamDecoder))
	case "push":
		send(p.uni(streamPush))
	case "second control":
		p.uni(streamControl)
		send(p.uni(streamControl))
	case "second encoder":
		p.uni(streamEncoder)
		send(p.uni(streamEncoder))
	case "second decoder":
		p.uni(streamDecoder)
		send(p.uni(streamDecoder))
	case "request":
		send(p.open(4))
	case "offer":
		p.connectWS(4)
		send(p.at(4))
	case "tunnel":
		p.tunnel(4, newRecorder())
		send(p.at(4))
	}
}

// TestConnectionErrors: each fault ends the connection with its code, whole and
// octet by octet, and the tunnels on it hear of it.
func TestConnectionErrors(t *testing.T) {
	for _, f := range faults() {
		for _, piece := range []int{0, 1} {
			t.Run(fmt.Sprint(f.on, ": ", f.name, "/", piece), func(t *testing.T) {
				p := rawPeer(t, nil)
				far := newRecorder()
				p.tunnel(0, far)
				if p.piece = piece; piece == 1 && len(f.send) > 1000 {
					p.piece = 1000
				}
				p.commit(&f)
				p.wantClosed(f.want)
				if far.brokens != 1 || far.broken.Reason.String() != "protocol" {
					t.Errorf("got %d breaks of the other tunnel for %v, want one for the protocol", far.brokens, far.broken)
				}
			})
		}
	}
}

// TestControlStreamGone: reset of a critical stream by the client, STOP_SENDING of
// ours.
func TestControlStreamGone(t *testing.T) {
	for _, kind := range []uint64{streamControl, streamEncoder, streamDecoder} {
		p := rawPeer(t, nil)
		p.uni(kind).to.wasReset(errNone)
		p.wantClosed(errClosedCritical)
	}
	p := newPeer(t, nil)
	p.q.control.to.stopped(errNone)
	p.wantClosed(errClosedCritical)
}

// TestHarmless is what changes nothing: row 152, reserved types, and what
// quic-go's decoder would not take.
func TestHarmless(t *testing.T) {
	for _, piece := range []int{0, 1} {
		p := rawPeer(t, nil)
		p.piece = piece
		p.ctl = p.uni(streamControl)
		p.settings(0x06, 1000, 0x08, 0, 0x01, 100, 0x07, 20, 0x33, 1, 0x21, 12345)
		for _, f := range [][]byte{
			rawFrame(0x21, 1, 2, 3), rawFrame(0x40), rawFrame(0xf0700, []byte("\x00u=1")...), rawFrame(frameMaxPushID, 3),
			rawFrame(frameMaxPushID, 3), rawFrame(frameGoaway, 5), rawFrame(frameGoaway, 5), rawFrame(0x1234, make([]byte, 40000)...),
		} {
			p.sends(p.ctl, f)
		}
		p.sends(p.uni(streamEncoder), []byte{0x20, 0x20})
		p.sends(p.uni(streamDecoder), []byte{0x40, 0x7e, 0x7f, 0x05, 0x7f, 0x80, 0x01})
		p.control()

		far := newRecorder()
		p.frame(0, 0x21, 'g', 'r')
		p.frame(0, 0x40)
		s := p.tunnel(0, far)
		p.frame(0, 0x21, []byte("grease")...)
		p.data(0, false, "a")
		p.frame(0, 0x3a)
		p.raw(0, append([]byte{0x40, 0x00, 0x80, 0, 0, 1}, 'b')) // long forms of the integers
		p.data(0, true, "c")
		s.CloseWrite()
		p.want(0, "FIN")
		if string(far.got) != "abc" || far.ended != 1 || far.brokens != 0 {
			t.Errorf("got %q, %d ends, %d breaks, want abc, 1, 0", far.got, far.ended, far.brokens)
		}
		// A base without a dynamic table (RFC 9204 section 4.5.1.2).
		for i, base := range [][]byte{{0x05}, {0x7f, 0x00}, {0x7f, 0x81, 0x01}} {
			id := uint64(4 + 4*i)
			p.frame(id, frameHeaders, append(append([]byte{0}, base...), block(t, connectFields...)[2:]...)...)
			if len(p.offers) != 2+i {
				t.Fatalf("base %x: got %d offers, want %d", base, len(p.offers), 2+i)
			}
		}
		if p.q.ends != 0 {
			t.Errorf("got an end with 0x%x, want none", uint64(p.q.code))
		}
	}
}

// TestUniStreams: types that nobody knows, and streams without a type.
func TestUniStreams(t *testing.T) {
	p := newPeer(t, nil)
	u := p.uni(0x21)
	p.sends(u, []byte("grease"))
	if !u.stopOut || u.stopFor != errStreamCreation || u.released != 1 {
		t.Errorf("got stop %v with 0x%x and %d releases, want H3_STREAM_CREATION_ERROR and 1", u.stopOut, uint64(u.stopFor), u.released)
	}
	for _, b := range [][]byte{nil, {0x40}} { // RFC 9114 section 6.2: may end before its type
		u = p.rawUni()
		p.sends(u, b)
		p.ends(u)
		if u.released != 1 {
			t.Errorf("got %d releases of a stream that ended before its type, want 1", u.released)
		}
	}
	u = p.rawUni()
	u.to.wasReset(errNone)
	if u.released != 1 {
		t.Errorf("got %d releases of a stream that was reset before its type, want 1", u.released)
	}
	p.alive()
}

// TestIncomplete is row 155 and section 4.1: what becomes of requests that are
// not whole. The connection goes on.
func TestIncomplete(t *testing.T) {
	p := newPeer(t, nil)
	p.fin(p.open(0).id)
	p.want(0, "RESET 0x10d")
	p.frame(4, 0x21)
	p.fin(4)
	p.want(4, "RESET 0x10d")
	p.reset(p.open(8).id, errRequestCancelled)
	p.want(8, "RESET 0x10c")
	p.headers(12, false)
	p.want(12, "RESET 0x10e, STOP 0x10e")
	p.alive()
	if p.c.slots != 0 || p.c.heads != 0 {
		t.Errorf("got %d slots and %d heads left, want none", p.c.slots, p.c.heads)
	}
	// A slow head is not processed (section 4.1.1).
	p.frame(20, 0x21)
	p.raw(20, rawFrame(frameHeaders, block(t, connectFields...)...)[:9])
	p.open(24)
	p.loop.Sleep(10*time.Second - time.Millisecond)
	p.want(20, "")
	p.loop.Sleep(2 * time.Millisecond)
	p.want(20, "RESET 0x10b, STOP 0x10b")
	p.want(24, "RESET 0x10b, STOP 0x10b")
	if n := p.srv.Counters.HeaderTimeout.Load(); n != 2 || p.c.slots != 0 || p.c.heads != 0 || p.c.blocks != 0 {
		t.Errorf("got %d counted, %d slots, %d heads, %d octets, want 2 and nothing left", n, p.c.slots, p.c.heads, p.c.blocks)
	}
	p.alive()
}

// TestPieces: a request that comes octet by octet.
func TestPieces(t *testing.T) {
	p := newPeer(t, nil)
	p.piece = 1
	far := newRecorder()
	p.tunnel(0, far)
	p.data(0, false, "hello")
	p.data(0, true, "world")
	if string(far.got) != "helloworld" || far.ended != 1 || p.c.blocks != 0 {
		t.Errorf("got %q, %d ends, %d octets of sections, want helloworld, 1, 0", far.got, far.ended, p.c.blocks)
	}
}
