package loop

import "golang.org/x/sys/unix"

// debt is output that the kernel did not take.
type debt struct {
	buf []byte // pooled; nil: nothing waits
	off int    // of buf, already sent
}

// Room returns how much Write may take: 0 while output waits for the kernel and
// after CloseWrite.
func (c *Conn) Room() int {
	if c.fail != nil || c.has(blocked|wrClosed|dead) {
		return 0
	}
	return scratchSize
}

// Write takes p for the kernel and returns how much of it was taken. After a short
// count the rest waits at its source for Writable. Up to lateWrite octets go out at
// the end of the turn, and what the kernel does not take of them is kept, some 64 KiB
// at most; more octets go out at once. TLS takes p in pieces of 64 KiB and
// keeps the ciphertext of at most one that the kernel did not want yet.
func (c *Conn) Write(p []byte) int {
	if len(p) == 0 || c.fail != nil || c.has(blocked|wrClosed|dead) {
		return 0
	}
	if c.tls != nil {
		return c.tls.write(p)
	}
	return c.write(p, 0)
}

// WriteMore is Write for octets behind which more, or the end, comes in this turn:
// the kernel keeps the last of them for the packet that brings that.
func (c *Conn) WriteMore(p []byte) int {
	if c.tls != nil || len(p) == 0 || c.fail != nil || c.has(blocked|wrClosed|dead) {
		return c.Write(p)
	}
	return c.write(p, unix.MSG_MORE)
}

// write is Write of a plain socket.
func (c *Conn) write(p []byte, flags uintptr) int {
	if len(p) <= lateWrite {
		c.sendLate(p, flags)
		return len(p)
	}
	if c.flushLate(); c.Room() == 0 {
		return 0
	}
	return c.send(p, flags)
}

// send writes to the socket. A failure is remembered and told later.
func (c *Conn) send(p []byte, flags uintptr) int {
	if c.bare > 0 {
		c.dress(len(p))
	}
	n, e := sysSend(c.fd, p, flags)
	if e != 0 && e != unix.EAGAIN {
		c.remember(e)
		return 0
	}
	if n < len(p) {
		c.set(blocked) // the kernel owes an EPOLLOUT
	}
	return n
}

// push sends p behind what still waits, and keeps what the kernel does not take.
func (c *Conn) push(p []byte, flags uintptr) {
	if !c.owes() {
		p = p[c.send(p, flags):]
		if len(p) == 0 || c.fail != nil {
			return
		}
		if c.owed == nil {
			c.owed = new(debt)
		}
		c.owed.buf = c.loop.Buffer(len(p))
	}
	b := c.owed
	if len(b.buf)+len(p) > cap(b.buf) {
		grown := append(c.loop.Buffer(len(b.buf)-b.off+len(p)), b.buf[b.off:]...)
		c.loop.Free(b.buf)
		b.buf, b.off = grown, 0
	}
	b.buf = append(b.buf, p...)
	c.set(blocked)
}

// owes reports whether the kernel did not take all output yet.
func (c *Conn) owes() bool { return c.owed != nil && c.owed.buf != nil }

// owing is how many octets that are.
func (c *Conn) owing() int {
	if c.owed == nil {
		return 0
	}
	return len(c.owed.buf) - c.owed.off
}

// pay sends what waits and reports whether all of it is out.
func (c *Conn) pay() bool {
	if !c.owes() {
		return true
	}
	b := c.owed
	b.off += c.send(b.buf[b.off:], 0)
	if c.fail == nil && b.off < len(b.buf) {
		return false
	}
	c.dropOwed()
	return c.fail == nil
}

func (c *Conn) dropOwed() {
	if c.owes() {
		c.loop.Free(c.owed.buf)
		*c.owed = debt{}
	}
}

// drained tries what output is pending once the kernel has room.
func (c *Conn) drained() {
	c.clear(blocked)
	if !c.pay() {
		return
	}
	if c.has(wrClosed) {
		if !c.has(finSent) {
			c.sendFIN()
			c.settle()
		}
		return
	}
	if c.far != nil && c.fail == nil {
		c.far.Writable()
	}
}

// CloseWrite ends the outgoing direction after all that Write took: close_notify
// (TLS), then FIN. The other direction goes on.
func (c *Conn) CloseWrite() {
	if c.fail != nil || c.has(wrClosed|dead) {
		return
	}
	c.set(wrClosed)
	if c.tls != nil {
		c.tls.closeNotify()
	}
	if c.flushLate(); c.fail != nil {
		return
	}
	if !c.owes() {
		c.sendFIN()
	}
	c.settle()
}

// sendFIN is the end of our direction on the wire. Where nothing more can come the
// close that follows sends it.
func (c *Conn) sendFIN() {
	if !c.over() {
		if e := sysShutdown(c.fd); e != 0 {
			c.remember(e)
			return
		}
	}
	c.set(finSent)
}
