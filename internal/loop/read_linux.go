package loop

import (
	"golang.org/x/sys/unix"
)

// event takes what epoll says. HUP and ERR only mean that there is something to
// read, if only an error. HUP without ERR is the end of both directions in order.
// PRI is urgent data, at which a read stops short (RFC 9293 section 3.8.5).
func (c *Conn) event(ev uint32) {
	if ev&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.set(hup)
	}
	if ev&(unix.EPOLLERR|unix.EPOLLPRI) != 0 {
		c.set(sockErr)
	}
	if ev&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 && !c.has(eof) {
		c.set(readable)
	}
	if ev&unix.EPOLLOUT != 0 && c.has(blocked) {
		c.drained()
	}
	if c.has(eof) && c.has(sockErr) {
		c.lateError()
	}
	if !c.has(queued) { // else its turn comes
		c.pull()
	}
}

// turn is what the ready list calls.
func (c *Conn) turn() {
	c.clear(queued)
	c.pull()
}

// lateError looks for an error after the peer's FIN: read(2) would go on
// returning 0, but our direction is lost.
func (c *Conn) lateError() {
	c.clear(sockErr)
	if e := soError(c.fd); e != 0 {
		c.remember(e)
	}
}

// remember keeps the first failure of the socket. Broken is told after the tail
// has been read, in a later turn.
func (c *Conn) remember(e unix.Errno) {
	c.failWith(&ResetError{Reason: reasonOf(e), Remote: true, Cause: e})
}

func (c *Conn) failWith(err *ResetError) {
	if c.fail == nil {
		c.fail = err
	}
	c.set(hup)
	if !c.has(eof) {
		c.set(readable)
	}
	c.enqueue()
}

func reasonOf(e unix.Errno) Reason {
	switch e {
	case unix.ECONNRESET, unix.EPIPE, unix.ENOTCONN, unix.ECONNABORTED:
		return ReasonReset
	case unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENETDOWN, unix.ENETRESET, unix.ECONNREFUSED:
		return ReasonGone
	}
	return ReasonUnknown
}

// pull delivers what the owner wants and the socket has.
func (c *Conn) pull() {
	switch {
	case c.has(dead):
		return
	case c.has(discard):
		c.drop()
		return
	case c.far == nil:
		return
	}
	c.clear(rebound)
	if c.has(muted) {
		c.quietEnd()
		return
	}
	if c.pend != nil && !c.deliverPend() {
		return
	}
	if c.tls != nil {
		c.tls.pull()
	} else {
		c.pullPlain()
	}
}

func (c *Conn) pullPlain() {
	for round := 0; ; round++ {
		if c.has(eof) {
			if c.fail != nil {
				c.broken()
			}
			return
		}
		if !c.has(readable) {
			return
		}
		want := c.want()
		if want == 0 {
			return
		}
		if round == maxRounds {
			c.enqueue()
			return
		}
		buf := c.loop.scratch[:min(want, scratchSize)]
		n, e := sysRead(c.fd, buf)
		if n < len(buf) && !c.has(hup) {
			c.clear(readable)
		}
		switch {
		case n > 0:
			// A short read where the FIN is known: it lies right behind. A unix
			// socket reads short for reasons of its own.
			last := n < len(buf) && c.has(hup) && !c.has(sockErr) && c.remote.IsValid()
			if last {
				c.set(ending)
			}
			more := c.deliver(buf[:n])
			c.clear(ending)
			if !more {
				return
			}
			if last { // there is nothing to ask the kernel for
				c.gotEOF()
				return
			}
		case e == 0:
			c.gotEOF()
			return
		default:
			c.gotError(e)
			return
		}
	}
}

// want asks the owner; 0 means that the caller is to return.
func (c *Conn) want() int {
	n := c.far.Want()
	if c.has(dead | detached | rebound) {
		return 0
	}
	if n <= 0 {
		c.set(muted)
		c.quietEnd()
		return 0
	}
	return n
}

// deliver gives p to the owner and keeps the rest. It returns whether reading
// may go on.
func (c *Conn) deliver(p []byte) bool {
	c.clear(resumed)
	n := max(c.far.Data(p), 0)
	if c.has(dead | discard) {
		return false
	}
	if n < len(p) {
		c.pend = append(c.loop.Buffer(len(p)-n), p[n:]...)
		c.off = 0
		c.shortTake()
		return false
	}
	return !c.has(rebound)
}

// deliverPend gives the owner what an earlier Data left. It returns whether
// nothing of it is left.
func (c *Conn) deliverPend() bool {
	for c.pend != nil {
		want := c.want()
		if want == 0 {
			return false
		}
		// The owner may cause c to be closed: the buffer is ours until Data is back.
		buf := c.pend
		p := buf[c.off:]
		p = p[:min(want, len(p))]
		c.pend = nil
		c.clear(resumed)
		n := min(max(c.far.Data(p), 0), len(p))
		if c.has(dead | discard) {
			c.loop.Free(buf)
			return false
		}
		c.off += int32(n)
		if int(c.off) == len(buf) {
			c.off = 0
			c.loop.Free(buf)
		} else {
			c.pend = buf
		}
		if n < len(p) {
			c.shortTake()
			return false
		}
		if c.has(rebound) {
			return false
		}
	}
	return true
}

// shortTake silences the stream, unless the owner said Resume or bound another
// one before it returned.
func (c *Conn) shortTake() {
	if c.has(resumed | rebound) {
		c.enqueue()
	} else {
		c.set(muted)
	}
}

// gotEOF ends the incoming direction of a plain socket.
func (c *Conn) gotEOF() {
	c.set(eof)
	c.clear(readable)
	if c.fail == nil && c.has(sockErr) {
		c.lateError() // a reset behind the FIN: not orderly
	}
	if c.fail != nil {
		c.broken()
		return
	}
	far := c.far
	c.set(ended)
	c.settle() // closes if our FIN is out; End is told all the same
	far.End()
}

// gotError takes what read(2) failed with.
func (c *Conn) gotError(e unix.Errno) {
	c.clear(readable)
	if e != unix.EAGAIN {
		c.remember(e)
	}
	if c.fail != nil {
		c.broken()
	}
}

// broken closes the socket and tells the owner.
func (c *Conn) broken() {
	far, err := c.far, c.fail
	c.cut()
	if far != nil {
		far.Broken(err)
	}
}

// quietEnd looks, while the owner takes no Data, whether the stream is over with
// nothing left to deliver: then the owner hears of it now.
func (c *Conn) quietEnd() {
	if !c.has(hup) || c.pend != nil || c.has(discard) || c.tls != nil && c.tls.holds() {
		return
	}
	if c.has(eof) {
		if c.fail != nil {
			c.broken()
		}
		return
	}
	n, e := sysPeek(c.fd, c.loop.scratch[:1])
	switch {
	case n > 0: // a tail that waits for the owner
	case e != 0:
		c.gotError(e)
	case c.tls != nil:
		c.tls.gotEOF()
	default:
		c.gotEOF()
	}
}

// drop reads and forgets: the owner is gone, or TLS has ended.
func (c *Conn) drop() {
	for round := 0; c.has(readable); round++ {
		if round == maxRounds {
			c.enqueue()
			return
		}
		n, e := sysRead(c.fd, c.loop.scratch)
		if n < scratchSize && !c.has(hup) {
			c.clear(readable)
		}
		switch {
		case n > 0:
		case e == 0:
			c.set(eof)
			c.clear(readable)
		default:
			c.clear(readable)
			if e != unix.EAGAIN {
				c.remember(e)
			}
		}
	}
	switch {
	case c.fail != nil && c.far == nil:
		c.cut()
	case c.fail != nil:
		c.broken()
	default:
		c.settle()
	}
}
