package h3

import (
	"errors"
	"time"

	"wsgate/bridge"
)

// flags of a stream.
type flags uint16

const (
	headDone    flags = 1 << iota // the request's head is decoded
	recvEnded                     // FIN came
	sentEnded                     // our FIN is out
	isCut                         // reset by one side, or the connection is lost
	isOver                        // not in the table any more
	isTunnel                      // counts as one
	answered                      // the final head is out
	endGiven                      // Far.End was called
	trailed                       // trailers came
	held                          // the slot outlives the wire: work is not over
	isHead                        // the method is HEAD: no answer has content
	isLeaving                     // over but for octets that QUIC has not taken yet
	hasWritten                    // DATA went out, the last at born
	isLingering                   // leaving, and its reset waits
)

// stream is a request stream (RFC 9114 section 6.1) and the bridge.Side of a
// tunnel.
type stream struct {
	c   *conn
	q   quicStream
	far bridge.Far // nil until Bind
	off *offer     // until it is answered
	web *webStream // of an ordinary request

	id    uint64
	born  time.Time // then when DATA went out last, then when it began to leave
	flags flags
	fr    frames
	block []byte             // of a HEADERS frame that is not complete; nil without one
	broke *bridge.ResetError // for an owner that has not come yet
}

func (s *stream) has(f flags) bool { return s.flags&f != 0 }

// data implements receiver.
func (s *stream) data(p []byte, fin bool) int {
	if c := s.c; !s.has(headDone) || c.sh.loop.Now().Sub(c.looked) >= followed {
		c.follow()
	}
	n := 0
	for n < len(p) && !s.has(isCut) {
		k, err := s.step(p[n:], fin)
		n += k
		if err != nil {
			s.failed(err)
			break
		}
		if k == 0 {
			return n // until somebody takes again
		}
	}
	if s.has(isCut) {
		return len(p)
	}
	return n
}

// step takes a frame's head or a piece of its payload. With 0 taken the rest
// waits for resume.
func (s *stream) step(p []byte, fin bool) (int, error) {
	f := &s.fr
	if !f.begun {
		n, whole := f.head(p)
		if !whole {
			return n, nil
		}
		if err := s.beginFrame(); err != nil {
			return n, err
		}
		if f.left == 0 {
			return n, s.endFrame(fin && n == len(p))
		}
		return n, nil
	}
	fin = fin && uint64(len(p)) <= f.left
	p = p[:min(uint64(len(p)), f.left)]
	n := len(p)
	switch f.typ {
	case frameData:
		var err error
		if n, err = s.content(p); err != nil {
			return n, err
		}
	case frameHeaders:
		if s.block == nil && f.left == uint64(n) { // most sections come in one piece
			f.left = 0
			return n, s.section(p, fin)
		}
		if s.c.blocks+n > blocksFactor*s.c.sh.lim.header {
			s.c.sh.count.HeaderMemory.Add(1)
			return n, connErr(errExcessiveLoad, "too much of field sections that are not complete")
		}
		s.block = append(s.block, p...)
		s.c.blocks += n
	}
	f.left -= uint64(n)
	if f.left == 0 {
		return n, s.endFrame(fin)
	}
	return n, nil
}

// beginFrame judges a frame's head where it stands (RFC 9114 sections 4.1, 4.4
// and 7.2).
func (s *stream) beginFrame() error {
	f := &s.fr
	switch f.typ {
	case frameData:
		if !s.has(headDone) || s.has(trailed) {
			return connErr(errFrameUnexpected, "DATA before HEADERS or after trailers")
		}
		if f.left == 0 {
			return s.c.calm(emptyData)
		}
		return nil
	case frameHeaders:
		switch {
		case s.has(headDone) && s.web == nil && s.has(isTunnel):
			return connErr(errFrameUnexpected, "HEADERS on a tunnel") // RFC 9114 section 4.4
		case s.has(trailed):
			return connErr(errFrameUnexpected, "HEADERS after trailers")
		case f.left > uint64(2*s.c.sh.lim.header):
			s.c.sh.count.HeaderLength.Add(1)
			return connErr(errExcessiveLoad, "field section too large")
		}
		return nil
	case frameCancelPush, frameSettings, framePushPromise, frameGoaway, frameMaxPushID:
		return connErr(errFrameUnexpected, "frame that may not be on a request stream")
	}
	if ofHTTP2(f.typ) {
		return connErr(errFrameUnexpected, "frame of HTTP/2")
	}
	return s.c.calm(otherFrames) // RFC 9114 section 9: ignored
}

// endFrame is the end of a frame; fin says that it is the last.
func (s *stream) endFrame(fin bool) error {
	if s.fr.typ == frameHeaders {
		block := s.block
		s.dropBlock()
		return s.section(block, fin)
	}
	s.fr.begun = false
	return nil
}

// dropBlock lets go of what came of a field section.
func (s *stream) dropBlock() {
	s.c.blocks -= len(s.block)
	s.block = nil
}

// section is a whole field section.
func (s *stream) section(block []byte, fin bool) error {
	s.fr.begun = false
	fields, over, err := s.c.sh.decode(s.c, block)
	switch {
	case err != nil:
		return err
	case !s.has(headDone):
		s.flags |= headDone
		s.c.heads--
		return s.request(fields, over, fin)
	case s.web == nil: // answered already: nobody wants them
		s.flags |= trailed
		return nil
	case over:
		return streamErr(errMessage, "trailers over the limit")
	}
	s.flags |= trailed
	return s.web.trailers(fields)
}

// content takes a piece of the request's content or of the tunnel.
func (s *stream) content(p []byte) (int, error) {
	switch {
	case s.web != nil:
		return s.web.content(p)
	case s.off != nil || s.far == nil && s.has(isTunnel):
		return 0, nil // no client octet reaches a backend before its 101
	case s.far != nil:
		return s.far.Data(p), nil
	}
	return len(p), nil // refused: for no one
}

// ended implements receiver.
func (s *stream) ended() {
	switch {
	case s.has(isCut | recvEnded):
		return
	case !s.fr.between():
		s.failed(connErr(errFrame, "stream ends inside a frame")) // RFC 9114 section 7.1
		return
	case !s.has(headDone):
		s.failed(streamErr(errRequestIncomplete, "stream ends before its request")) // RFC 9114 section 4.1
		return
	}
	s.flags |= recvEnded
	if s.web != nil {
		if err := s.web.remoteEnd(); err != nil {
			s.failed(err)
		}
		return
	}
	s.giveEnd()
	s.settle()
}

// giveEnd tells Far of the orderly end.
func (s *stream) giveEnd() {
	if s.has(recvEnded) && !s.has(endGiven|isCut) && s.far != nil {
		s.flags |= endGiven
		s.far.End()
	}
}

// wasReset implements receiver: the client gave the request up, or the tunnel
// (RFC 9220 section 3).
func (s *stream) wasReset(code ErrCode) { s.givenUp(code, "the client resets the stream") }

// stopped implements receiver: STOP_SENDING. Whoever reads nothing any more has
// given the other direction up, too (RFC 9114 section 4.4).
func (s *stream) stopped(code ErrCode) {
	if !s.has(sentEnded) || s.q.unsent() {
		s.givenUp(code, "the client stops the stream")
	}
}

func (s *stream) givenUp(code ErrCode, why string) {
	if s.has(isLeaving) {
		s.q.reset(errRequestCancelled)
		s.c.left(s)
	}
	if s.has(isCut | isOver) {
		return
	}
	early := !s.has(answered)
	s.q.reset(errRequestCancelled)
	s.q.stop(errRequestCancelled)
	s.lose(&bridge.ResetError{Reason: bridge.ReasonReset, Remote: true, Cause: streamErr(code, why)})
	if early {
		if err := s.c.calm(rapidReset); err != nil {
			s.c.fail(err)
		}
	}
}

// failed ends the stream or the connection by an error.
func (s *stream) failed(err error) {
	var e *StreamError
	if !errors.As(err, &e) {
		s.c.fail(err)
		return
	}
	if s.has(isCut | isOver) {
		return
	}
	s.q.reset(e.Code)
	s.q.stop(e.Code)
	s.lose(&bridge.ResetError{Reason: bridge.ReasonProtocol, Remote: true, Cause: err})
	if err := s.c.calm(madeReset); err != nil {
		s.c.fail(err)
	}
}

// lose ends a stream that did not end in order, and tells its owner.
func (s *stream) lose(err *bridge.ResetError) {
	if s.has(isCut | isOver) {
		return
	}
	s.cut()
	off, web, far := s.off, s.web, s.far
	s.off = nil
	switch {
	case off != nil:
		s.flags |= held
		off.left(err)
	case web != nil:
		web.gone(err)
	case far != nil:
		far.Broken(err)
	default:
		s.broke = err // accepted, not yet bound: the owner hears of it after Bind
	}
	s.c.forget(s)
}

// cut marks the stream as lost.
func (s *stream) cut() {
	s.flags |= isCut
	s.dropBlock()
	if !s.has(headDone) {
		s.flags |= headDone
		s.c.heads--
	}
}

// settle takes the stream out of the table once both directions are over.
func (s *stream) settle() {
	if s.has(isOver) || !s.has(recvEnded) || !s.has(sentEnded) {
		return
	}
	if s.web == nil && !s.has(endGiven) {
		return
	}
	s.c.forget(s)
}

// forget removes the stream from the table; its slot too unless work goes on.
// What the client has not taken yet is such work.
func (c *conn) forget(s *stream) {
	if s.has(isOver) {
		return
	}
	s.flags |= isOver
	if s.q.unsent() && !c.over {
		s.flags |= isLeaving
		s.born = c.sh.loop.Now()
		c.leaving++
		c.wake(s.born.Add(c.sh.lim.stall))
		return
	}
	delete(c.streams, s.id)
	if !s.has(held) {
		c.release(s)
	}
}

// left ends the leaving of a stream.
func (c *conn) left(s *stream) {
	s.flags &^= isLeaving
	c.leaving--
	delete(c.streams, s.id)
	if !s.has(held) {
		c.release(s)
	}
}

// unhold says that nobody works on the stream any more.
func (s *stream) unhold() {
	switch {
	case !s.has(held):
	case s.has(isOver) && !s.has(isLeaving):
		s.c.release(s)
	default:
		s.flags &^= held
	}
}

// release frees the slot of a stream whose work is over.
func (c *conn) release(s *stream) {
	s.flags &^= held
	c.slots--
	s.q.release()
	if s.has(isTunnel) {
		s.flags &^= isTunnel
		c.tunnels--
		if c.late && c.tunnels == 0 {
			c.drain()
		}
	}
	if c.slots == 0 && !c.over {
		c.idleSince = c.sh.loop.Now()
		c.wake(c.idleSince.Add(c.sh.lim.idle))
		c.part()
	}
}

// writable implements receiver.
func (s *stream) writable() {
	switch {
	case s.has(isLeaving):
		if !s.q.unsent() && !s.has(isLingering) {
			s.c.left(s)
		}
	case s.has(isCut | isOver | sentEnded):
	case s.web != nil:
		if s.web.x != nil {
			s.web.x.Writable()
		}
	case s.far != nil:
		s.far.Writable()
	}
}
