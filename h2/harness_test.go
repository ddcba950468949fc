package h2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"wsgate/bridge"
	"wsgate/internal/enginetest"
	"wsgate/internal/exchange"
)

// fakeSide is the transport of a connection in a test.
type fakeSide struct {
	far    bridge.Far
	out    []byte // what was written
	room   int    // how much Write still takes; -1: all
	closed bool   // CloseWrite
	reset  bool
	resume int
	writes int // calls of Write
}

func (f *fakeSide) Bind(far bridge.Far) { f.far = far }
func (f *fakeSide) Room() int {
	if f.room < 0 {
		return 64 << 10
	}
	return f.room
}

func (f *fakeSide) Write(p []byte) int {
	f.writes++
	n := len(p)
	if f.room >= 0 {
		n = min(n, f.room)
		f.room -= n
	}
	f.out = append(f.out, p[:n]...)
	return n
}
func (f *fakeSide) Resume()             { f.resume++ }
func (f *fakeSide) CloseWrite()         { f.closed = true }
func (f *fakeSide) Reset(bridge.Reason) { f.reset = true }

// frame is one frame that the server sent.
type frame struct {
	frameHead
	payload []byte
	fields  []hpack.HeaderField // of HEADERS
}

// peer is a raw client: it writes any octets and reads frames.
type peer struct {
	t        testing.TB
	loop     *enginetest.Loop
	side     *fakeSide
	srv      *Server
	client   *bridge.Client
	c        *conn
	dec      *hpack.Decoder
	henc     *hpack.Encoder
	hbuf     bytes.Buffer
	offers   []*fakeOffer
	rejected []string // "status code" of each call of Rejected
	rest     []byte   // held back by the server
}

// fakeOffer is an offer with what its owner was told.
type fakeOffer struct {
	bridge.Offer
	gone *bridge.ResetError
}

// newPeer connects to a server; change sets its options first. The preface is
// exchanged unless raw.
func newPeer(t testing.TB, change func(*Server)) *peer {
	p := rawPeer(t, change)
	p.send([]byte(clientPreface))
	p.settings()
	p.settingsAck()
	p.frames()
	return p
}

func rawPeer(t testing.TB, change func(*Server)) *peer {
	t.Helper()
	p := &peer{t: t, loop: enginetest.NewLoop(), srv: &Server{Counters: new(Counters)}, client: &bridge.Client{}}
	p.srv.Offer = func(o bridge.Offer) {
		f := &fakeOffer{Offer: o}
		o.OnGone(func(e *bridge.ResetError) { f.gone = e })
		p.offers = append(p.offers, f)
	}
	p.srv.Rejected = func(_ *bridge.Client, status int, code string) {
		p.rejected = append(p.rejected, fmt.Sprint(status, " ", code))
	}
	if change != nil {
		change(p.srv)
	}
	p.connect()
	return p
}

func (p *peer) connect() {
	p.side = &fakeSide{room: -1}
	p.dec = hpack.NewDecoder(4096, nil)
	p.henc = hpack.NewEncoder(&p.hbuf)
	p.srv.Serve(p.loop, p.side, p.client)
	p.c = p.side.far.(*conn)
	p.loop.Turn()
}

// send gives the server octets, in one piece, and runs its turn.
func (p *peer) send(b []byte) {
	p.rest = append(p.rest, b...)
	p.pump()
}

func (p *peer) pump() {
	for resumes := -1; len(p.rest) > 0 && p.side.far.Want() > 0; {
		n := p.side.far.Data(p.rest)
		p.rest = p.rest[n:]
		p.loop.Turn()
		if n == 0 && p.side.resume == resumes {
			return
		}
		resumes = p.side.resume
	}
	p.loop.Turn()
}

func rawFrame(kind frameType, fl uint8, id uint32, payload ...byte) []byte {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), byte(kind), fl, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}
	return append(b, payload...)
}

func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func (p *peer) frame(kind frameType, fl uint8, id uint32, payload ...byte) {
	p.send(rawFrame(kind, fl, id, payload...))
}

func (p *peer) settings(pairs ...uint32) { p.send(settingsFrameOf(pairs...)) }

func settingsFrameOf(pairs ...uint32) []byte {
	var b []byte
	for i := 0; i+1 < len(pairs); i += 2 {
		b = append(b, byte(pairs[i]>>8), byte(pairs[i]))
		b = append(b, u32(pairs[i+1])...)
	}
	return rawFrame(frameSettings, 0, 0, b...)
}

func (p *peer) settingsAck() { p.frame(frameSettings, flagAck, 0) }

// block encodes fields given as name, value, name, value.
func (p *peer) block(fields ...string) []byte {
	p.hbuf.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		if err := p.henc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			p.t.Fatalf("encode %q: %v", fields[i], err)
		}
	}
	return bytes.Clone(p.hbuf.Bytes())
}

func (p *peer) headers(id uint32, end bool, fields ...string) {
	fl := uint8(flagEndHeaders)
	if end {
		fl |= flagEndStream
	}
	block := p.block(fields...)
	var b []byte
	kind := frameHeaders
	for ; len(block) > maxFrame; block = block[maxFrame:] {
		b = append(b, rawFrame(kind, fl&^flagEndHeaders, id, block[:maxFrame]...)...)
		kind, fl = frameContinuation, flagEndHeaders
	}
	p.send(append(b, rawFrame(kind, fl, id, block...)...))
}

var connectFields = []string{
	":method", "CONNECT", ":protocol", "websocket", ":scheme", "http",
	":path", "/chat", ":authority", "example.com", "sec-websocket-version", "13",
}

var getFields = []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "example.com"}

func (p *peer) connectWS(id uint32) *fakeOffer {
	p.t.Helper()
	n := len(p.offers)
	p.headers(id, false, connectFields...)
	if len(p.offers) != n+1 {
		p.t.Fatalf("got %d offers, want %d; server said %v", len(p.offers)-n, 1, p.frames())
	}
	return p.offers[n]
}

// tunnel opens a tunnel and binds far to the server's side of it.
func (p *peer) tunnel(id uint32, far bridge.Far) bridge.Side {
	p.t.Helper()
	o := p.connectWS(id)
	s := o.Accept(nil)
	s.Bind(far)
	p.loop.Turn()
	p.wantStatus(p.frames(), id, "200")
	return s
}

func (p *peer) data(id uint32, end bool, payload string) {
	fl := uint8(0)
	if end {
		fl = flagEndStream
	}
	p.frame(frameData, fl, id, []byte(payload)...)
}

// frames returns what the server sent since the last call.
func (p *peer) frames() []frame {
	p.t.Helper()
	p.loop.Turn()
	var all []frame
	b := p.side.out
	for len(b) >= 9 {
		h := parseHead(b)
		if int(h.length) > len(b)-9 {
			break
		}
		f := frame{frameHead: h, payload: bytes.Clone(b[9 : 9+h.length])}
		b = b[9+h.length:]
		if h.kind == frameHeaders {
			block := f.payload
			for h.flags&flagEndHeaders == 0 {
				h = parseHead(b)
				if h.kind != frameContinuation {
					p.t.Fatalf("got %v after HEADERS without END_HEADERS, want CONTINUATION", h.kind)
				}
				block = append(block, b[9:9+h.length]...)
				b = b[9+h.length:]
			}
			fields, err := p.dec.DecodeFull(block)
			if err != nil {
				p.t.Fatalf("decode the server's header block: %v", err)
			}
			f.fields = fields
		}
		all = append(all, f)
	}
	p.side.out = append(p.side.out[:0], b...)
	return all
}

var kindNames = []string{"DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"}

// String shows a frame so that tests can compare: "RST_STREAM 1 CANCEL".
func (f frame) String() string {
	name := kindNames[f.kind]
	end := ""
	if f.flags&1 != 0 {
		end = " end"
		if f.kind == frameSettings || f.kind == framePing {
			end = " ack"
		}
	}
	switch f.kind {
	case frameRSTStream:
		return fmt.Sprintf("%s %d %v", name, f.id, ErrCode(binary.BigEndian.Uint32(f.payload)))
	case frameGoaway:
		return fmt.Sprintf("%s %d %v", name, binary.BigEndian.Uint32(f.payload), ErrCode(binary.BigEndian.Uint32(f.payload[4:])))
	case frameWindowUpdate:
		return fmt.Sprintf("%s %d %d", name, f.id, binary.BigEndian.Uint32(f.payload))
	case frameHeaders:
		return fmt.Sprintf("%s %d %s%s", name, f.id, f.get(":status"), end)
	case frameData:
		if len(f.payload) > 40 {
			return fmt.Sprintf("%s %d len=%d%s", name, f.id, len(f.payload), end)
		}
		return fmt.Sprintf("%s %d %q%s", name, f.id, f.payload, end)
	}
	return fmt.Sprintf("%s %d%s", name, f.id, end)
}

func (f frame) get(name string) string {
	for _, x := range f.fields {
		if x.Name == name {
			return x.Value
		}
	}
	return ""
}

func show(all []frame) string {
	s := make([]string, len(all))
	for i := range all {
		s[i] = all[i].String()
	}
	return strings.Join(s, ", ")
}

// await runs turns until a frame of that kind on that stream is on its way.
func (p *peer) await(kind frameType, id uint32) {
	p.loop.Wait(func() bool {
		for b := p.side.out; len(b) >= 9; {
			h := parseHead(b)
			if h.kind == kind && h.id == id {
				return true
			}
			b = b[min(len(b), 9+int(h.length)):]
		}
		return false
	})
}

// want compares the server's frames since the last call.
func (p *peer) want(want ...string) {
	p.t.Helper()
	if got, w := show(p.frames()), strings.Join(want, ", "); got != w {
		p.t.Fatalf("got frames [%s], want [%s]", got, w)
	}
}

func (p *peer) wantStatus(all []frame, id uint32, status string) frame {
	p.t.Helper()
	for _, f := range all {
		if f.kind == frameHeaders && f.id == id {
			if got := f.get(":status"); got != status {
				p.t.Fatalf("got status %q on stream %d, want %q", got, id, status)
			}
			return f
		}
	}
	p.t.Fatalf("got [%s], want an answer on stream %d", show(all), id)
	return frame{}
}

// alive fails the test unless the connection still serves.
func (p *peer) alive() {
	p.t.Helper()
	p.frames()
	p.frame(framePing, 0, 0, []byte("are you?")...)
	p.want("PING 0 ack")
}

// recorder is a Far that notes what it is told.
type recorder struct {
	got      []byte
	take     int // how much Data takes in all; -1: everything
	ended    int
	broken   *bridge.ResetError
	brokens  int
	writable int
	onWrite  func()
	onData   func([]byte)
}

func newRecorder() *recorder { return &recorder{take: -1} }

func (r *recorder) Want() int { return 64 << 10 }
func (r *recorder) Data(p []byte) int {
	n := len(p)
	if r.take >= 0 {
		n = min(n, r.take)
		r.take -= n
	}
	r.got = append(r.got, p[:n]...)
	if r.onData != nil {
		r.onData(p[:n])
	}
	return n
}
func (r *recorder) End() { r.ended++ }
func (r *recorder) Broken(e *bridge.ResetError) {
	r.broken = e
	r.brokens++
}

func (r *recorder) Writable() {
	r.writable++
	if r.onWrite != nil {
		r.onWrite()
	}
}

var _ exchange.Responder = (*webStream)(nil)
