package h3

import (
	"bytes"
	"net/netip"
	"time"

	"wsgate/bridge"
)

// fakeQUIC is a QUIC connection.
type fakeQUIC struct {
	p       *peer
	noUni   bool // the client allows no stream of ours
	control *fakeStream
	ends    int // calls of closeWith
	code    ErrCode
	at      netip.AddrPort
	rtt     time.Duration
	octets  uint64 // sent
}

func (q *fakeQUIC) openUni(to receiver) sender {
	if q.noUni {
		return nil
	}
	if q.control != nil {
		q.p.t.Error("got a second stream of the server, want its control stream alone")
	}
	q.control = &fakeStream{p: q.p, id: 3, room1: -1, to: to}
	return q.control
}

func (q *fakeQUIC) closeWith(code ErrCode, _ string) { q.ends, q.code = q.ends+1, code }
func (q *fakeQUIC) remote() netip.AddrPort           { return q.at }
func (q *fakeQUIC) roundTrip() time.Duration         { return q.rtt }
func (q *fakeQUIC) sent() uint64                     { return q.octets }

// fakeStream is a stream, with the manners of the adapter: what is not taken
// comes again after resume, in a later turn; nothing comes after stop.
type fakeStream struct {
	p  *peer
	id uint64
	to receiver

	in       []byte // not yet taken
	fin      bool   // FIN stands behind in
	finKnown bool   // and is known with the last octet
	full     bool
	posted   bool
	over     bool // the end was delivered
	stopped  bool

	out      []byte
	room1    int // how much room there is; -1: as the adapter has
	waits    int // octets that QUIC has not taken
	finOut   bool
	resetOut bool
	stopOut  bool
	resetFor ErrCode
	stopFor  ErrCode
	released int
	seen     struct{ fin, reset, stop bool } // said by take
}

func (f *fakeStream) room() int {
	switch {
	case f.finOut || f.resetOut || f.waits > 0:
		return 0
	case f.room1 >= 0:
		return f.room1
	}
	return maxPayload + maxFrameHead
}

func (f *fakeStream) write(p []byte) {
	if f.finOut || f.resetOut {
		f.p.t.Errorf("stream %d: got %d octets written behind its end", f.id, len(p))
	}
	f.out = append(f.out, p...)
	if f.room1 >= 0 {
		if f.room1 -= len(p); f.room1 < 0 {
			f.waits, f.room1 = f.waits-f.room1, 0
		}
	}
}

func (f *fakeStream) end() {
	if f.finOut {
		f.p.t.Errorf("stream %d: got a second FIN", f.id)
	}
	f.finOut = true
}

func (f *fakeStream) reset(code ErrCode) {
	if f.finOut && f.waits == 0 {
		return
	}
	f.resetOut, f.resetFor, f.waits = true, code, 0
}

func (f *fakeStream) unsent() bool { return f.waits > 0 }

func (f *fakeStream) stop(code ErrCode) {
	if !f.stopped {
		f.stopped = true
		f.stopOut, f.stopFor = !f.over && !(f.fin && f.finKnown), code // as quic-go does
	}
}

func (f *fakeStream) resume() {
	if f.full && !f.posted {
		f.full, f.posted = false, true
		f.p.loop.Post(f.deliver)
	}
}

func (f *fakeStream) release() { f.released++ }

// give says that QUIC has taken n more octets, or has so much room.
func (f *fakeStream) give(n int) {
	k := min(n, f.waits)
	f.waits -= k
	if f.room1 >= 0 {
		f.room1 += n - k
	}
	if f.waits == 0 {
		f.to.writable()
	}
	f.p.loop.Turn()
}

func (f *fakeStream) deliver() {
	f.posted = false
	for !f.stopped && !f.full && len(f.in) > 0 {
		p := bytes.Clone(f.in)
		n := f.to.data(p, f.fin && f.finKnown)
		clear(p) // not kept
		f.in = f.in[n:]
		f.full = n < len(p) && !f.stopped
	}
	if f.fin && !f.stopped && !f.over && len(f.in) == 0 {
		f.over = true
		f.to.ended()
	}
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
