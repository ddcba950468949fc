package h2

import (
	"wsgate/bridge"
)

// The methods of this file make a stream the bridge.Side of an accepted tunnel.

// Bind implements bridge.Side.
func (s *stream) Bind(far bridge.Far) {
	s.far = far
	s.later()
}

// Room implements bridge.Side: what stream window, connection window and
// queued output leave. While others wait it is a share.
func (s *stream) Room() int {
	n := s.avail()
	if n <= 0 {
		s.wait()
		return 0
	}
	if w := s.c.waiting.n; w > 0 {
		n = min(n, max(maxFrame, s.c.room()/(w+1)))
	}
	return n
}

// avail is what Write would take.
func (s *stream) avail() int {
	if s.has(sentEnded | isCut | isOver) {
		return 0
	}
	return min(int(s.sendWin), s.c.room())
}

// Write implements bridge.Side.
func (s *stream) Write(p []byte) int {
	n := max(min(len(p), s.avail()), 0)
	if n > 0 {
		s.sendWin -= int32(n)
		s.c.writeData(s.id, p[:n])
	}
	if n == len(p) {
		s.stallOut = 0
	} else if s.wait(); s.has(wantsRoom) && (s.stallOut == 0 || n > 0) {
		s.stallOut = s.c.watchStall()
	}
	return n
}

// Ending reports, within Far.Data, that the end of the stream follows: it came on
// this DATA frame (RFC 9113 section 6.1).
func (s *stream) Ending() bool {
	r := &s.c.in
	return r.data == s && r.left+r.pad == 0 && r.head.flags&flagEndStream != 0
}

// Resume implements bridge.Side.
func (s *stream) Resume() {
	if s.has(paused) {
		s.flags &^= paused
		s.later()
	}
}

// CloseWrite implements bridge.Side: END_STREAM (RFC 8441 section 5).
func (s *stream) CloseWrite() {
	if s.has(sentEnded | isCut | isOver) {
		return
	}
	s.flags |= sentEnded
	s.flags &^= wantsRoom
	s.stallOut = 0
	s.c.writeEnd(s.id)
	s.settle()
}

// Reset implements bridge.Side: RST_STREAM CANCEL (RFC 8441 section 5), but
// NO_ERROR behind our own END_STREAM when nothing is left to say (RFC 9113
// section 8.1).
func (s *stream) Reset(r bridge.Reason) {
	if r == bridge.ReasonComplete && s.has(sentEnded) {
		s.abort(errNone)
		return
	}
	s.abort(errCancel)
}

// abort resets the stream by our own will. Nothing is told to its owner.
func (s *stream) abort(code ErrCode) {
	if s.has(isCut | isOver) {
		return
	}
	if !(s.has(recvEnded) && s.has(sentEnded)) {
		s.c.rst(s.id, code)
	}
	s.cut()
	s.c.forget(s, closedByUs)
}

// wait notes that the owner wants to hear Writable. It stands in the ring only
// if it is the connection that holds it up.
func (s *stream) wait() {
	if s.has(sentEnded | isCut | isOver) {
		return
	}
	s.flags |= wantsRoom
	if s.sendWin > 0 && !s.has(inRing) {
		s.flags |= inRing
		s.c.waiting.push(s)
		if s.c.room() > 0 {
			s.c.shareLater()
		}
	}
}

// opened follows a growth of the stream's send window.
func (s *stream) canSend() bool { return s.has(wantsRoom) && s.sendWin > 0 }

func (c *conn) opened(s *stream) {
	if s.canSend() && !s.has(inRing) {
		s.flags |= inRing
		c.waiting.push(s)
	}
}

// ring is the queue of streams that wait for room, first come first served:
// who got room and still wants more stands at the end again.
type ring struct {
	first, last *stream
	n           int
}

func (r *ring) push(s *stream) {
	if r.last == nil {
		r.first = s
	} else {
		r.last.nextWait = s
	}
	r.last = s
	r.n++
}

func (r *ring) pop() *stream {
	s := r.first
	if r.first = s.nextWait; r.first == nil {
		r.last = nil
	}
	s.nextWait = nil
	r.n--
	s.flags &^= inRing
	return s
}

// room is what the connection leaves for DATA.
func (c *conn) room() int {
	if c.phase >= phaseClosing {
		return 0
	}
	return min(int(c.sendWin), outDataMax-c.outData)
}

// shareLater puts share off to the next turn, where owners may be called.
func (c *conn) shareLater() {
	if !c.todoShare {
		c.todoShare = true
		c.sh.later(c)
	}
}

// share tells the waiting streams that there is room, each once, in turn. It
// is never called from inside a method of a Side.
func (c *conn) share() {
	for k := c.waiting.n; k > 0 && c.room() > 0 && c.waiting.n > 0; k-- {
		s := c.waiting.pop()
		if !s.canSend() || s.has(isCut|isOver|sentEnded) {
			continue
		}
		s.flags &^= wantsRoom
		switch {
		case s.web != nil:
			s.web.x.Writable()
		case s.far != nil:
			s.far.Writable()
		}
	}
}
