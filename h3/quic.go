package h3

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"wsgate/bridge"
)

// idleQUIC is after how much silence QUIC takes a peer for dead (RFC 9000 section
// 10.1). PINGs go out at least twice as often.
const idleQUIC = 30 * time.Second

// qconn is a connection of quic-go as the engine's quicConn.
type qconn struct {
	q    *quic.Conn
	loop bridge.Loop
	c    *conn // owned by the loop

	// Where the client is, as quic-go says it, and the same as the engine has it;
	// owned by the loop.
	addr net.Addr
	at   netip.AddrPort
}

// run serves a connection until its end. It is the goroutine that accepts request
// streams; another one accepts the rest.
func (s *Server) run(q *quic.Conn, l bridge.Loop, client *bridge.Client) {
	defer s.hold(q)()
	x := &qconn{q: q, loop: l}
	started := make(chan bool)
	l.Post(func() {
		x.c = s.serve(l, x, client)
		close(started)
	})
	select {
	case <-started:
	case <-q.Context().Done():
		// The loop may have ended; if not, it hears of the end below.
	}
	go x.acceptUni()
	for {
		str, err := q.AcceptStream(context.Background())
		if err != nil {
			l.Post(func() {
				if x.c != nil {
					x.c.lost(lostBy(err))
				}
			})
			return
		}
		st := newQStream(x, str, str)
		l.Post(func() { st.begin(x.c.bidi(uint64(str.StreamID()), st)) })
	}
}

// acceptUni is the goroutine that accepts unidirectional streams. It ends with the
// connection.
func (x *qconn) acceptUni() {
	for {
		str, err := x.q.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		st := newQStream(x, str, nil)
		x.loop.Post(func() { st.begin(x.c.uni(st)) })
	}
}

// lostBy says how a connection ended.
func lostBy(err error) *bridge.ResetError {
	e := &bridge.ResetError{Reason: bridge.ReasonGone, Remote: true, Cause: err}
	var app *quic.ApplicationError
	var idle *quic.IdleTimeoutError
	var transport *quic.TransportError
	switch {
	case errors.As(err, &app):
		e.Remote = app.Remote
	case errors.As(err, &idle):
		e.Reason = bridge.ReasonTimeout
	case errors.As(err, &transport):
		e.Remote = transport.Remote
	}
	return e
}

// openUni implements quicConn.
func (x *qconn) openUni(to receiver) sender {
	str, err := x.q.OpenUniStream()
	if err != nil {
		return nil
	}
	st := newQStream(x, nil, str)
	st.to = to
	context.AfterFunc(str.Context(), st.sendingOver)
	return st
}

// closeWith implements quicConn. quic-go waits for the end, which a loop may not.
func (x *qconn) closeWith(code ErrCode, why string) {
	go x.q.CloseWithError(quic.ApplicationErrorCode(code), why)
}

// remote implements quicConn. quic-go has another net.Addr only after a change.
func (x *qconn) remote() netip.AddrPort {
	if a := x.q.RemoteAddr(); a != x.addr {
		x.addr, x.at = a, addrOf(a)
	}
	return x.at
}

func addrOf(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := u.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// roundTrip implements quicConn.
func (x *qconn) roundTrip() time.Duration { return x.q.ConnectionStats().SmoothedRTT }

// sent implements quicConn.
func (x *qconn) sent() uint64 { return x.q.ConnectionStats().BytesSent }

// readStream and sendStream are the halves of streams of quic-go.
type readStream interface {
	Read(p []byte) (int, error)
	Peek(p []byte) (int, error)
	CancelRead(quic.StreamErrorCode)
	ReleaseStreamCredit()
}

type sendStream interface {
	Write(p []byte) (int, error)
	TryWriteAll(p []byte) error
	Close() error
	CancelWrite(quic.StreamErrorCode)
	Context() context.Context
}

const (
	// looseMax is how many octets may be given to quic-go without knowing that
	// those before have left: it takes whatever the client's window allows.
	looseMax = 32 << 10
	// smallRead is the buffer that a stream keeps while it waits; what comes in
	// pieces that fill it is read into large ones, which are not kept.
	smallRead = 512
	largeRead = 32 << 10
)

var largeBuffers = sync.Pool{New: func() any { return new([largeRead]byte) }}

// qstream is a stream of quic-go as the engine's quicStream. What comes is read
// by a goroutine that hands over one piece at a time.
type qstream struct {
	x    *qconn
	in   readStream // nil: none
	out  sendStream // nil: none
	give func()     // deliver, one closure for all posts

	// Between the reading goroutine and the loop, each in its turn.
	piece []byte
	err   error
	next  chan bool // the piece is taken
	given bool      // the reading goroutine's: a piece is with the loop

	// Owned by the loop.
	to      receiver
	taken   int
	full    bool // to took short: silent until resume
	posted  bool // a delivery is under way
	stopped bool // nothing more is delivered
	told    bool // the end was delivered

	loose   int    // octets given to quic-go since its output was seen to move
	waiting []byte // for the writing goroutine
	writing bool
	fin     bool // Close behind what waits
	ended   bool
}

func newQStream(x *qconn, in readStream, out sendStream) *qstream {
	st := &qstream{x: x, out: out}
	if in != nil {
		st.in = in
		st.next = make(chan bool, 1)
	}
	st.give = st.deliver
	return st
}

// begin starts reading, on the loop.
func (st *qstream) begin(to receiver) {
	st.to = to
	if st.out != nil {
		context.AfterFunc(st.out.Context(), st.sendingOver)
	}
	if !st.stopped {
		go st.read()
	}
}

// read is the stream's goroutine. It ends with the client's half of the stream,
// with stop, or with the connection.
func (st *qstream) read() {
	// Two, so that waiting for the next piece need not wait for the loop to take
	// the one before.
	small, other := make([]byte, smallRead), make([]byte, smallRead)
	for bulk := false; ; {
		if !bulk {
			n, err := st.in.Read(small)
			bulk = n == len(small)
			if !st.hand(small[:n], err) {
				return
			}
			small, other = other, small
			continue
		}
		// Wait without a large buffer, then take what is there.
		if _, err := st.in.Peek(small[:1]); err != nil {
			if !st.hand(nil, err) {
				return
			}
			continue
		}
		buf := largeBuffers.Get().(*[largeRead]byte)
		n, err := st.in.Read(buf[:])
		bulk = n >= smallRead
		if !st.hand(buf[:n], err) || !st.wait() {
			return // with the buffer, which the loop may still look at
		}
		largeBuffers.Put(buf)
	}
}

// hand gives a piece to the loop once that has taken the one before. It reports
// whether more is to be read.
func (st *qstream) hand(p []byte, err error) bool {
	if len(p) == 0 && err == nil {
		return true
	}
	if !st.wait() {
		return false
	}
	st.piece, st.err, st.given = p, err, true
	st.x.loop.Post(st.give)
	return err == nil
}

// wait waits until the loop has taken what it was given. It reports whether more
// is to be read.
func (st *qstream) wait() bool {
	if !st.given {
		return true
	}
	st.given = false
	select {
	case more := <-st.next: // mostly it is there
		return more
	default:
	}
	select {
	case more := <-st.next:
		return more
	case <-st.x.q.Context().Done():
		return false // the loop may have ended, too
	}
}

// deliver gives the receiver the piece, on the loop.
func (st *qstream) deliver() {
	st.posted = false
	if st.stopped {
		st.done(false)
		return
	}
	if st.full {
		return
	}
	for st.taken < len(st.piece) {
		n := st.to.data(st.piece[st.taken:], st.err == io.EOF)
		st.taken += n
		switch {
		case st.stopped:
			st.done(false)
			return
		case st.taken < len(st.piece):
			st.full = true
			return
		}
	}
	err := st.err
	st.done(err == nil)
	if err != nil {
		st.over(err)
	}
}

// done lets the reading goroutine go on, or end.
func (st *qstream) done(more bool) {
	st.piece, st.err, st.taken = nil, nil, 0
	st.next <- more
}

// over tells the receiver how the client's half ended. The end of the connection
// is told to all streams at once.
func (st *qstream) over(err error) {
	if st.told {
		return
	}
	st.told = true
	var reset *quic.StreamError
	switch {
	case err == io.EOF:
		st.to.ended()
	case errors.As(err, &reset) && reset.Remote:
		st.to.wasReset(ErrCode(reset.ErrorCode))
	}
}

// resume implements quicStream.
func (st *qstream) resume() {
	if st.full && !st.posted {
		st.full, st.posted = false, true
		st.x.loop.Post(st.give)
	}
}

// stop implements quicStream.
func (st *qstream) stop(code ErrCode) {
	if st.stopped {
		return
	}
	st.stopped = true
	if st.in != nil {
		st.in.CancelRead(quic.StreamErrorCode(code))
		st.resume()
	}
}

// release implements quicStream.
func (st *qstream) release() {
	if st.in != nil {
		st.in.ReleaseStreamCredit()
	}
}

// sendingOver runs on a goroutine of its own when the sending half is over: by us,
// or by the client's STOP_SENDING.
func (st *qstream) sendingOver() {
	var stop *quic.StreamError
	if errors.As(context.Cause(st.out.Context()), &stop) && stop.Remote {
		st.x.loop.Post(func() { st.to.stopped(ErrCode(stop.ErrorCode)) })
	}
}

// room implements sender.
func (st *qstream) room() int {
	if st.out == nil || st.writing || st.ended {
		return 0
	}
	return maxPayload + maxFrameHead
}

// write implements sender. Most of it goes to quic-go at once; when that has taken
// looseMax, or its windows are full, a goroutine waits for them.
func (st *qstream) write(p []byte) {
	switch {
	case st.out == nil || st.ended:
	case st.writing:
		st.waiting = append(st.waiting, p...)
	case st.loose+len(p) <= looseMax && st.out.TryWriteAll(p) == nil:
		st.loose += len(p)
		st.x.loop.Yield()
	default:
		st.writing = true
		go st.flush(append(make([]byte, 0, len(p)), p...))
	}
}

// flush is the goroutine of output that waits. It ends when p has left, or with
// the stream.
func (st *qstream) flush(p []byte) {
	_, _ = st.out.Write(p) // its error is that of the stream, which is told elsewhere
	st.x.loop.Post(st.flushed)
}

// flushed goes on with the output, on the loop.
func (st *qstream) flushed() {
	st.loose = 0
	if p := st.waiting; len(p) > 0 && !st.ended {
		st.waiting = nil
		go st.flush(p)
		return
	}
	st.writing = false
	switch {
	case st.ended:
	case st.fin:
		st.close()
		st.to.writable()
	default:
		st.to.writable()
	}
}

// unsent implements sender.
func (st *qstream) unsent() bool { return st.writing && !st.ended }

// end implements sender.
func (st *qstream) end() {
	switch {
	case st.out == nil || st.ended || st.fin:
	case st.writing:
		st.fin = true
	default:
		st.close()
	}
}

func (st *qstream) close() {
	st.ended = true
	_ = st.out.Close() // it has no error but that of a stream reset before
}

// reset implements sender.
func (st *qstream) reset(code ErrCode) {
	if st.out == nil || st.ended {
		return
	}
	st.ended = true
	st.out.CancelWrite(quic.StreamErrorCode(code))
}
