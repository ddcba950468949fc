package h3

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/qpack"

	"wsgate/bridge"
	"wsgate/internal/enginetest"
	"wsgate/internal/exchange"
)

// peer is a raw client: it writes any octets on any stream.
type peer struct {
	t        testing.TB
	loop     *enginetest.Loop
	q        *fakeQUIC
	srv      *Server
	c        *conn
	client   *bridge.Client
	streams  map[uint64]*fakeStream
	nextUni  uint64
	ctl      *fakeStream // the client's control stream
	offers   []*fakeOffer
	rejected []string // "status code" of each call of Rejected
	piece    int      // octets in a piece; 0: all at once
}

// fakeOffer is an offer with what its owner was told.
type fakeOffer struct {
	bridge.Offer
	gone *bridge.ResetError
}

// newPeer connects to a server and sends SETTINGS; change sets its options first.
func newPeer(t testing.TB, change func(*Server)) *peer {
	p := rawPeer(t, change)
	p.ctl = p.uni(streamControl)
	p.settings()
	p.sends(p.ctl, nil)
	p.control()
	return p
}

func rawPeer(t testing.TB, change func(*Server)) *peer {
	t.Helper()
	p := &peer{
		t: t, loop: enginetest.NewLoop(), srv: &Server{Counters: new(Counters)}, streams: make(map[uint64]*fakeStream), nextUni: 2,
		client: &bridge.Client{Remote: netip.MustParseAddrPort("192.0.2.1:1234")},
	}
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
	p.q = &fakeQUIC{p: p, at: p.client.Remote, rtt: 20 * time.Millisecond}
	p.c = p.srv.serve(p.loop, p.q, p.client)
	p.loop.Turn()
	return p
}

// uni opens a unidirectional stream of a type.
func (p *peer) uni(kind uint64) *fakeStream {
	f := p.rawUni()
	p.sends(f, appendVarint(nil, kind))
	return f
}

func (p *peer) rawUni() *fakeStream {
	f := &fakeStream{p: p, id: p.nextUni, finOut: true}
	p.nextUni += 4
	f.to = p.c.uni(f)
	return f
}

// open opens a request stream.
func (p *peer) open(id uint64) *fakeStream {
	f := &fakeStream{p: p, id: id, room1: -1}
	p.streams[id] = f
	f.to = p.c.bidi(id, f)
	p.loop.Turn()
	return f
}

// at is a request stream, opened with the first use.
func (p *peer) at(id uint64) *fakeStream {
	if f := p.streams[id]; f != nil {
		return f
	}
	return p.open(id)
}

// sends gives the server octets of a stream and runs its turn.
func (p *peer) sends(f *fakeStream, b []byte) { p.send(f, b, false) }

// send is sends; with end FIN is known to stand behind b.
func (p *peer) send(f *fakeStream, b []byte, end bool) {
	n := p.piece
	if n <= 0 {
		n = len(b)
	}
	for len(b) > 0 {
		k := min(n, len(b))
		f.in = append(f.in, b[:k]...)
		b = b[k:]
		f.fin = end && len(b) == 0
		f.finKnown = f.fin
		f.deliver()
		p.loop.Turn()
	}
	p.loop.Turn()
}

// raw sends octets on a request stream.
func (p *peer) raw(id uint64, b []byte) { p.sends(p.at(id), b) }

// fin ends the client's direction of a stream.
func (p *peer) fin(id uint64) { p.ends(p.at(id)) }

func (p *peer) ends(f *fakeStream) {
	f.fin = true
	f.deliver()
	p.loop.Turn()
}

// reset is RESET_STREAM from the client, stopSending its STOP_SENDING.
func (p *peer) reset(id uint64, code ErrCode) {
	if f := p.at(id); !f.stopped && !f.over {
		f.over = true
		f.in = nil
		f.to.wasReset(code)
	}
	p.loop.Turn()
}

func (p *peer) stopSending(id uint64, code ErrCode) {
	p.at(id).to.stopped(code)
	p.loop.Turn()
}

func rawFrame(kind uint64, payload ...byte) []byte {
	return append(appendFrame(nil, kind, len(payload)), payload...)
}

func (p *peer) frame(id, kind uint64, payload ...byte) { p.raw(id, rawFrame(kind, payload...)) }

// settings sends SETTINGS with ids and values.
func (p *peer) settings(pairs ...uint64) {
	var b []byte
	for _, v := range pairs {
		b = appendVarint(b, v)
	}
	p.sends(p.ctl, rawFrame(frameSettings, b...))
}

// block encodes fields given as name, value, name, value.
func block(t testing.TB, fields ...string) []byte {
	var b bytes.Buffer
	e := qpack.NewEncoder(&b)
	for i := 0; i+1 < len(fields); i += 2 {
		if err := e.WriteField(qpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			t.Fatalf("encode %q: %v", fields[i], err)
		}
	}
	if len(fields) == 0 {
		return []byte{0, 0}
	}
	return b.Bytes()
}

// headers sends a field section; with end FIN is known to stand behind it.
func (p *peer) headers(id uint64, end bool, fields ...string) {
	p.send(p.at(id), rawFrame(frameHeaders, block(p.t, fields...)...), end)
}

var connectFields = []string{
	":method", "CONNECT", ":protocol", "websocket", ":scheme", "https",
	":path", "/chat", ":authority", "example.com", "sec-websocket-version", "13",
}

var getFields = []string{":method", "GET", ":scheme", "https", ":path", "/", ":authority", "example.com"}

func (p *peer) connectWS(id uint64) *fakeOffer {
	p.t.Helper()
	n := len(p.offers)
	p.headers(id, false, connectFields...)
	if len(p.offers) != n+1 {
		p.t.Fatalf("got %d offers, want %d; server said %v", len(p.offers)-n, 1, p.take(id))
	}
	return p.offers[n]
}

// tunnel opens a tunnel and binds far to the server's side of it.
func (p *peer) tunnel(id uint64, far bridge.Far) bridge.Side {
	p.t.Helper()
	s := p.connectWS(id).Accept(nil)
	s.Bind(far)
	p.loop.Turn()
	p.want(id, "HEADERS 200")
	return s
}

func (p *peer) data(id uint64, end bool, payload string) {
	p.send(p.at(id), rawFrame(frameData, []byte(payload)...), end)
}

// frame is one frame that the server sent.
type frame struct {
	typ     uint64
	payload []byte
	fields  []qpack.HeaderField // of HEADERS
}

func (f *frame) get(name string) string {
	for _, x := range f.fields {
		if x.Name == name {
			return x.Value
		}
	}
	return ""
}

// parse cuts frames; half of one stays.
func parse(t testing.TB, b []byte) (all []frame, rest []byte) {
	for {
		typ, n := varint(b)
		size, k := varint(b[min(n, len(b)):])
		if n == 0 || k == 0 || uint64(len(b)-n-k) < size {
			return all, b
		}
		f := frame{typ: typ, payload: bytes.Clone(b[n+k : n+k+int(size)])}
		b = b[n+k+int(size):]
		if typ == frameHeaders {
			for next := qpack.NewDecoder().Decode(f.payload); ; {
				x, err := next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("decode the server's field section: %v", err)
				}
				f.fields = append(f.fields, x)
			}
		}
		all = append(all, f)
	}
}

// frames returns what the server sent on a stream since the last call.
func (p *peer) frames(id uint64) []frame {
	p.t.Helper()
	p.loop.Turn()
	f := p.at(id)
	n := len(f.out) - f.waits
	all, rest := parse(p.t, f.out[:n])
	f.out = append(bytes.Clone(rest), f.out[n:]...)
	return all
}

// String shows a frame so that tests can compare.
func (f *frame) String() string {
	switch f.typ {
	case frameHeaders:
		return strings.TrimSpace("HEADERS " + f.get(":status"))
	case frameData:
		if len(f.payload) > 60 {
			return fmt.Sprintf("DATA len=%d", len(f.payload))
		}
		return fmt.Sprintf("DATA %q", f.payload)
	case frameGoaway:
		v, _ := varint(f.payload)
		return fmt.Sprintf("GOAWAY %d", v)
	case frameSettings:
		s := "SETTINGS"
		for b := f.payload; len(b) > 0; {
			k, n := varint(b)
			v, m := varint(b[n:])
			b = b[n+m:]
			s += fmt.Sprintf(" %d=%d", k, v)
		}
		return s
	}
	return fmt.Sprintf("frame 0x%x", f.typ)
}

// take shows what the server did on a stream since the last call.
func (p *peer) take(id uint64) string {
	p.t.Helper()
	f := p.at(id)
	var s []string
	for _, x := range p.frames(id) {
		s = append(s, x.String())
	}
	if f.finOut && f.waits == 0 && !f.seen.fin && !f.resetOut {
		f.seen.fin = true
		s = append(s, "FIN")
	}
	if f.resetOut && !f.seen.reset {
		f.seen.reset = true
		s = append(s, fmt.Sprintf("RESET 0x%x", uint64(f.resetFor)))
	}
	if f.stopOut && !f.seen.stop {
		f.seen.stop = true
		s = append(s, fmt.Sprintf("STOP 0x%x", uint64(f.stopFor)))
	}
	return strings.Join(s, ", ")
}

// want compares what the server did on a stream since the last call.
func (p *peer) want(id uint64, want string) {
	p.t.Helper()
	if got := p.take(id); got != want {
		p.t.Fatalf("stream %d: got [%s], want [%s]; connection ended with 0x%x", id, got, want, uint64(p.q.code))
	}
}

// wantStatus finds the head of an answer.
func (p *peer) wantStatus(all []frame, status string) *frame {
	p.t.Helper()
	for i := range all {
		if all[i].typ == frameHeaders {
			if got := all[i].get(":status"); got != status {
				p.t.Fatalf("got status %q, want %q", got, status)
			}
			return &all[i]
		}
	}
	p.t.Fatalf("got %d frames and no head, want status %s", len(all), status)
	return nil
}

// control shows what came on the server's control stream since the last call.
func (p *peer) control() string {
	p.t.Helper()
	p.loop.Turn()
	f := p.q.control
	if len(f.out) > 0 && f.out[0] == streamControl && !f.seen.fin {
		f.seen.fin = true // its type was read
		f.out = f.out[1:]
	}
	all, rest := parse(p.t, f.out)
	f.out = rest
	var s []string
	for _, x := range all {
		s = append(s, x.String())
	}
	return strings.Join(s, ", ")
}

func (p *peer) wantControl(want string) {
	p.t.Helper()
	if got := p.control(); got != want {
		p.t.Fatalf("control stream: got [%s], want [%s]", got, want)
	}
}

// wantClosed fails the test unless the connection has ended with a code, once.
func (p *peer) wantClosed(code ErrCode) {
	p.t.Helper()
	if p.q.ends != 1 || p.q.code != code {
		p.t.Fatalf("got %d ends of the connection with 0x%x, want one with 0x%x", p.q.ends, uint64(p.q.code), uint64(code))
	}
	if len(p.c.streams) != 0 || p.srv.Connections() != 0 || p.c.blocks != 0 {
		p.t.Errorf("got %d streams, %d connections, %d octets of field sections left, want none", len(p.c.streams), p.srv.Connections(), p.c.blocks)
	}
}

// alive fails the test unless the connection still serves.
func (p *peer) alive() {
	p.t.Helper()
	if p.q.ends != 0 {
		p.t.Fatalf("got an end of the connection with 0x%x, want it alive", uint64(p.q.code))
	}
	id := p.c.nextID
	p.headers(id, false, enginetest.Edit(connectFields, ":protocol", "no-such")...)
	p.want(id, `HEADERS 501, DATA "501 not implemented: unknown-protocol\n", FIN, STOP 0x100`)
}

func serveFunc(f http.HandlerFunc) func(*Server) {
	return func(s *Server) { s.Exchange = &exchange.Config{Handler: f, Server: new(http.Server)} }
}

var _ exchange.Responder = (*webStream)(nil)
