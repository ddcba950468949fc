package h2

import (
	"wsgate/bridge"
)

// flags of a stream.
type flags uint16

const (
	recvEnded flags = 1 << iota // END_STREAM came
	sentEnded                   // END_STREAM went out
	isCut                       // reset by one side, or the connection is lost
	isOver                      // not in the table any more
	isTunnel                    // counts as one
	answered                    // the final head is out
	paused                      // Far took short: silent until Resume
	endGiven                    // Far.End was called
	wantsRoom                   // Room was 0 or a Write fell short: Writable is due
	inRing                      // waits in the connection's ring
	inTodo                      // has work for the next turn
	lateBreak                   // Broken is to be delivered in the next turn
	limited                     // the client filled the whole window
	held                        // the slot outlives the wire: work is not over
)

// stream is one stream (RFC 9113 section 5.1) and the bridge.Side of a tunnel.
// While a tunnel is idle this is all there is of it.
type stream struct {
	c   *conn
	far bridge.Far // nil until Bind
	q   *queue     // octets that Far has not taken; nil while there are none
	off *offer     // until it is answered
	web *webStream // of an ordinary request

	nextTodo *stream
	nextWait *stream

	id       uint32
	flags    flags
	sendWin  int32  // what we may send; negative after SETTINGS made it so
	recvLeft int32  // what the client may send
	recvMax  int32  // the window when nothing is under way
	taken    int32  // taken by Far, not yet given back
	stallIn  uint32 // since when queued octets do not move, see conn.watchStall; 0: they do
	stallOut uint32 // since when a Write waits
}

func (s *stream) has(f flags) bool { return s.flags&f != 0 }

// open makes a stream and takes a slot for it.
func (c *conn) open(id uint32, end bool) *stream {
	s := &stream{c: c, id: id, sendWin: c.peerWindow, recvLeft: c.window, recvMax: c.window}
	if end {
		s.flags = recvEnded
	}
	c.streams[id] = s
	if c.slots++; c.slots == 1 {
		c.wake(c.lastRead + int64(c.sh.lim.alive))
	}
	return s
}

// content takes a piece of the request or of the tunnel.
func (s *stream) content(p []byte) error {
	switch {
	case len(p) == 0:
	case s.web != nil:
		return s.web.content(p)
	case s.far == nil || s.q != nil || s.has(paused):
		s.enqueue(p)
	default:
		n := s.far.Data(p)
		if n > 0 {
			s.credit(n)
		}
		if n < len(p) && !s.has(isCut) {
			s.flags |= paused
			s.stallIn = s.c.watchStall()
			s.enqueue(p[n:])
		}
	}
	return nil
}

// credit gives n taken octets back to the client: after half a window, so that
// a full-speed tunnel costs one WINDOW_UPDATE for many DATA frames.
func (s *stream) credit(n int) {
	s.taken += int32(n)
	if s.recvLeft < s.recvMax/8 {
		s.flags |= limited
	}
	if s.taken <= s.recvMax/2 || s.has(recvEnded|isCut) {
		return
	}
	give := s.taken
	if s.has(limited) && s.q == nil {
		if more := s.grow(); more > 0 {
			give += more
			s.flags &^= limited
		}
	}
	s.taken = 0
	s.recvLeft += give
	s.c.sendWindowUpdate(s.id, give)
}

// grow doubles the window of a tunnel that the client filled, out of the
// budgets of the connection and of the process.
func (s *stream) grow() int32 {
	c := s.c
	more := min(s.recvMax, grownWindow-s.recvMax)
	if s.web != nil || more <= 0 || c.grown+more > grownPerConn || !c.sh.mem.grow(int(more)) {
		return 0
	}
	c.sh.count.WindowGrowth.Add(1)
	c.grown += more
	s.recvMax += more
	return more
}

// ungrow gives the grown part of the window back to the budgets.
func (s *stream) ungrow() {
	if more := s.recvMax - s.c.window; more > 0 {
		s.c.grown -= more
		s.c.sh.mem.add(-int(more))
		s.recvMax = s.c.window
	}
}

// remoteEnd is END_STREAM from the client.
func (s *stream) remoteEnd() error {
	s.flags |= recvEnded
	if s.web != nil {
		return s.web.remoteEnd()
	}
	s.giveEnd() // or kept until the owner binds
	s.settle()
	return nil
}

// giveEnd tells Far of the orderly end once all data before it is taken.
func (s *stream) giveEnd() {
	if s.has(recvEnded) && !s.has(endGiven|isCut) && s.q == nil && s.far != nil {
		s.flags |= endGiven
		s.far.End()
	}
}

// deliver gives Far what waited for it.
func (s *stream) deliver() {
	taken := 0
	for s.q != nil && s.far != nil && !s.has(isCut|paused) {
		p := s.q.front()
		n := s.far.Data(p)
		if s.has(isCut) || s.q == nil {
			return
		}
		if n > 0 {
			s.q.take(n, s.c.sh)
			s.stallIn = 0
			taken += n
		}
		if n < len(p) {
			s.flags |= paused
			s.stallIn = s.c.watchStall()
		}
		if s.q.empty() {
			s.dropQueue()
		}
	}
	if taken > 0 {
		s.credit(taken)
	}
	s.giveEnd()
	s.settle()
}

// settle takes the stream out of the table once both directions are over and
// all is delivered.
func (s *stream) settle() {
	if s.has(isOver) || !s.has(recvEnded) || !s.has(sentEnded) || s.q != nil {
		return
	}
	if s.web == nil && !s.has(endGiven) {
		return
	}
	s.c.forget(s, closedInOrder)
}

// forget removes the stream from the table; its slot too unless work goes on.
func (c *conn) forget(s *stream, how closing) {
	if s.has(isOver) {
		return
	}
	s.flags |= isOver
	s.dropQueue()
	s.ungrow()
	delete(c.streams, s.id)
	c.remember(s.id, how)
	if how == closedByUs && !s.has(recvEnded) {
		c.stray = min(c.stray+int64(max(s.recvLeft, 0)), maxWindow)
	}
	if !s.has(held) {
		c.release(s)
	}
}

// release frees the slot of a stream whose work is over.
func (c *conn) release(s *stream) {
	s.flags &^= held
	c.slots--
	if s.has(isTunnel) {
		c.client.Tunnels--
		if c.late && c.client.Tunnels == 0 {
			c.drain()
		}
	}
	if c.slots == 0 && c.phase < phaseClosing {
		c.idleSince = c.sh.now()
		c.wake(c.idleSince + int64(c.sh.lim.idle))
		c.sh.later(c) // a drained connection ends after this turn
	}
}

// cut marks the stream as lost and lets go of what it held.
func (s *stream) cut() {
	s.flags |= isCut
	s.dropQueue()
	s.stallIn, s.stallOut = 0, 0
}

// lose ends a stream that did not end in order, and tells its owner.
func (c *conn) lose(s *stream, why *bridge.ResetError) {
	if s.has(isCut | isOver) {
		return
	}
	s.cut()
	how := closedByUs
	if why.Reason == bridge.ReasonReset {
		how = closedByPeer
	}
	switch {
	case s.web != nil:
		c.forget(s, how)
		s.web.x.Gone(why)
	case s.off != nil:
		// The slot is free once the owner has cancelled the dial.
		o := s.off
		s.flags |= held
		c.forget(s, how)
		if o.gone != nil {
			s.off = nil
			o.gone(why)
			c.release(s)
		} else {
			o.lost = why
		}
	case s.far != nil:
		c.forget(s, how)
		s.far.Broken(why)
	default:
		// Accepted, not yet bound: the owner hears of it after Bind.
		s.flags |= lateBreak
		c.forget(s, how)
	}
}

// streamFailed resets a stream because of what the client did. The error is
// that of a client which did so too often (CVE-2025-8671).
func (c *conn) streamFailed(e *StreamError) error {
	s := c.streams[e.Stream]
	c.rst(e.Stream, e.Code)
	if s != nil {
		c.lose(s, &bridge.ResetError{Reason: bridge.ReasonProtocol, Remote: true, Cause: e})
	} else if e.Stream&1 == 1 && e.Stream <= c.lastID && c.closed.how(e.Stream) == closedUnknown {
		c.remember(e.Stream, closedByUs)
	}
	return c.calm(madeReset)
}

// resetByPeer is RST_STREAM from the client.
func (c *conn) resetByPeer(s *stream, code ErrCode) error {
	var err error
	if !s.has(answered) {
		err = c.calm(rapidReset) // CVE-2023-44487
	}
	if s.has(recvEnded) && s.has(sentEnded) {
		return err // both directions have ended in order on the wire
	}
	c.lose(s, &bridge.ResetError{
		Reason: bridge.ReasonReset, Remote: true,
		Cause: &StreamError{s.id, code, "reset by the client"},
	})
	return err
}

// later puts s on the list of streams with work for the next turn.
func (s *stream) later() {
	if s.has(inTodo) {
		return
	}
	s.flags |= inTodo
	c := s.c
	if c.todoLast == nil {
		c.todo = s
	} else {
		c.todoLast.nextTodo = s
	}
	c.todoLast = s
	c.sh.later(c)
}

// runTodo does what was put off to this turn.
func (c *conn) runTodo() {
	s := c.todo
	c.todo, c.todoLast = nil, nil
	for s != nil {
		next := s.nextTodo
		s.nextTodo = nil
		s.flags &^= inTodo
		if s.has(lateBreak) {
			if s.far != nil {
				s.flags &^= lateBreak
				s.far.Broken(&bridge.ResetError{Reason: bridge.ReasonGone, Remote: true})
			}
		} else if !s.has(isCut) {
			s.deliver()
		}
		s = next
	}
	if c.todoShare {
		c.todoShare = false
		c.share()
	}
	c.endIfDrained()
}
