package h3

import (
	"time"

	"wsgate/bridge"
)

// The methods of this file make a stream the bridge.Side of an accepted tunnel.

// maxPayload is the largest DATA frame that is written.
const maxPayload = 16 << 10

// maxFrameHead is the length of a frame's head of ours.
const maxFrameHead = 8

// Bind implements bridge.Side.
func (s *stream) Bind(far bridge.Far) {
	s.far = far
	switch {
	case s.broke != nil || s.has(recvEnded):
		s.c.sh.loop.Post(s.late)
	case !s.has(isCut):
		s.q.resume()
	}
}

// late tells a new owner what came before it.
func (s *stream) late() {
	if s.broke != nil {
		err := s.broke
		s.broke = nil
		s.far.Broken(err)
		return
	}
	s.giveEnd()
	s.settle()
}

// Room implements bridge.Side.
func (s *stream) Room() int {
	if s.has(sentEnded | isCut | isOver) {
		return 0
	}
	return max(0, s.q.room()-maxFrameHead)
}

// Write implements bridge.Side: DATA frames (RFC 9220 section 3).
func (s *stream) Write(p []byte) int {
	n := 0
	for n < len(p) {
		k := min(len(p)-n, s.Room(), maxPayload)
		if k <= 0 {
			return n
		}
		s.writeFrame(p[n : n+k])
		n += k
	}
	return n
}

// Resume implements bridge.Side.
func (s *stream) Resume() {
	if !s.has(isCut | isOver) {
		s.q.resume()
	}
}

// CloseWrite implements bridge.Side: FIN (RFC 9220 section 3).
func (s *stream) CloseWrite() {
	if s.has(sentEnded | isCut | isOver) {
		return
	}
	s.flags |= sentEnded
	s.q.end()
	s.settle()
}

// Reset implements bridge.Side: H3_REQUEST_CANCELLED in both directions (RFC 9220
// section 3). Behind our own FIN nothing of it is taken back: the client is only
// told that nothing more is read.
func (s *stream) Reset(r bridge.Reason) {
	if r == bridge.ReasonComplete && s.has(sentEnded) {
		s.abort(errNone)
		return
	}
	if s.has(hasWritten) && !s.has(sentEnded|isCut|isOver) && s.c.sh.loop.Now().Sub(s.born) < lingerTime {
		s.linger()
		return
	}
	s.abort(errRequestCancelled)
}

// lingerTime is how long the last octets of a broken tunnel have to arrive.
const lingerTime = 250 * time.Millisecond

// linger ends the stream, but for its reset: RESET_STREAM takes back what is not
// acknowledged, and makes the client drop what it has not read (RFC 9000 sections
// 3.1 and 3.2), where the octets of a tunnel come before its end (RFC 9110 section
// 9.3.6).
func (s *stream) linger() {
	s.q.stop(errRequestCancelled)
	s.cut()
	s.flags |= isOver | isLeaving | isLingering
	s.born = s.c.sh.loop.Now()
	s.c.leaving++
	s.c.wake(s.born.Add(lingerTime))
}

// abort resets the stream by our own will. Nothing is told to its owner.
func (s *stream) abort(code ErrCode) {
	if s.has(isCut | isOver) {
		return
	}
	if !s.has(sentEnded) || code != errNone && s.q.unsent() {
		s.q.reset(code)
	}
	s.q.stop(code)
	s.cut()
	s.c.forget(s)
}
