package loop

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is one stream socket on a loop, plain or TLS. It implements bridge.Side.
// All methods are called on its loop, also from within the owner's callbacks;
// they return at once and never call the owner before returning.
//
// It keeps no buffer while nothing is pending, closes its descriptor itself once
// both directions have ended (in order or not), and calls the owner no more after
// Reset, Finish or Broken.
type Conn struct {
	loop   *Loop
	far    Far
	tls    *Shim       // nil: plain
	fail   *ResetError // remembered; told once the tail is delivered
	linger *Timer
	pend   []byte // pooled: what the owner did not take
	owed   *debt  // what the kernel did not take; nil until it was needed
	off    int32  // of pend, already taken
	fd     int32
	slot   int32
	flags  connFlags
	bare   uint8 // small writes that it may do before it has its options
	late   bool  // a small write waits for the end of the turn
	remote netip.AddrPort
}

type connFlags uint16

const (
	readable connFlags = 1 << iota // the socket may have input
	hup                            // RDHUP, HUP, ERR or a failed write: read to the end, short reads included
	sockErr                        // ERR or PRI: there may be an SO_ERROR, or urgent data
	eof                            // the peer's FIN was read
	ended                          // End was told
	muted                          // short Data or Want 0: waits for Resume
	resumed                        // Resume or Bind came within Data
	rebound                        // Bind came within a callback
	queued                         // on the ready list
	blocked                        // the kernel takes no output
	wrClosed                       // CloseWrite was called
	finSent                        // our FIN is out
	discard                        // input is read and dropped
	detached                       // the owner is gone; the loop ends the socket
	dead                           // closed
	ending                         // what Data delivers now is all
)

func (c *Conn) has(f connFlags) bool { return c.flags&f != 0 }
func (c *Conn) set(f connFlags)      { c.flags |= f }
func (c *Conn) clear(f connFlags)    { c.flags &^= f }

// AdoptTCP moves the descriptor of tc to this loop and closes tc. Its options
// stay as they are. On an error the connection is closed. On the loop.
func (l *Loop) AdoptTCP(tc *net.TCPConn) (*Conn, error) {
	fd, err := takeFD(tc)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	return l.adopt(fd, peerAddr(fd))
}

// AdoptUnix is AdoptTCP for a unix stream socket. On the loop.
func (l *Loop) AdoptUnix(uc *net.UnixConn) (*Conn, error) {
	fd, err := takeFD(uc)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	return l.adopt(fd, netip.AddrPort{})
}

// adopt puts a connected, non-blocking descriptor on the loop, or closes it.
func (l *Loop) adopt(fd int32, remote netip.AddrPort) (*Conn, error) {
	c := &Conn{loop: l, fd: fd, remote: remote}
	var err error
	if c.slot, err = l.register(fd, c); err != nil {
		unix.Close(int(fd))
		return nil, fmt.Errorf("adopt: %w", err)
	}
	return c, nil
}

// Loop returns the loop that owns the connection. Any goroutine.
func (c *Conn) Loop() *Loop { return c.loop }

// RemoteAddr returns the peer's address, also after the end; it is zero for a
// unix socket. Any goroutine.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr returns our address; it is zero for a unix socket and once the
// descriptor is closed.
func (c *Conn) LocalAddr() netip.AddrPort {
	if c.has(dead) {
		return netip.AddrPort{}
	}
	return localAddr(c.fd)
}

// Bind names the owner. It may be called again, also within Data: the new owner
// gets in the next turn what the old one did not take. nil lets the stream wait.
func (c *Conn) Bind(f Far) {
	if c.has(dead | detached) {
		return
	}
	c.far = f
	c.clear(muted)
	c.set(rebound)
	if f != nil {
		c.enqueue()
	}
}

// Resume lets Data come again after a short take or a Want of 0, in the next turn.
func (c *Conn) Resume() {
	c.set(resumed)
	c.clear(muted)
	if c.has(readable) || c.pend != nil || c.tls != nil || c.fail != nil {
		c.enqueue()
	}
}

// Ending reports, within Data, that the peer's end follows it in this turn.
func (c *Conn) Ending() bool { return c.has(ending) }

// Acknowledge has the kernel acknowledge at once what has come, and what comes
// next. It is for an owner that cannot answer before it has more: a peer with
// Nagle's algorithm sends no more before that (RFC 9293 section 3.7.4).
func (c *Conn) Acknowledge() {
	if !c.has(dead) {
		sysSetOption(int(c.fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}
}

// over reports whether the peer's direction has ended and its owner knows.
func (c *Conn) over() bool { return c.has(eof) && c.has(ended|detached) }

// Reset cuts both directions with an RST. After both have ended in order, after
// Finish and after Broken it does nothing. ReasonComplete is Finish: an RST could
// overtake what was written last. Otherwise the reason is for the caller's logs.
func (c *Conn) Reset(r Reason) {
	if c.has(dead | detached) {
		return
	}
	if r == ReasonComplete {
		c.Finish(completeLinger)
		return
	}
	c.cut()
}

// Finish ends the outgoing direction as CloseWrite does, lets the owner go without
// another call, and discards input until the peer's FIN. After linger without it,
// the socket is reset. Nothing has an effect afterwards.
func (c *Conn) Finish(linger time.Duration) {
	if c.has(dead | detached) {
		return
	}
	c.CloseWrite()
	if !c.has(dead | detached) {
		c.detach(linger)
	}
}

// detach lets the loop end the socket without its owner.
func (c *Conn) detach(linger time.Duration) {
	c.far = nil
	c.set(detached | discard)
	c.dropPend()
	if c.tls != nil {
		c.tls.dropInput()
	}
	c.linger = &Timer{Fire: c.cut}
	c.loop.After(linger, c.linger)
	c.enqueue()
}

// settle closes a socket whose two directions are over, or sees to it that it
// gets there, after our FIN or the peer's went by.
func (c *Conn) settle() {
	switch {
	case c.has(dead) || c.fail != nil:
	case c.has(finSent) && c.over():
		c.release()
	case c.has(wrClosed) && c.has(ended) && !c.has(detached):
		c.detach(c.loop.linger) // TLS: output or the peer's FIN is still on its way
	}
}

// cut closes the socket so that the peer gets an RST.
func (c *Conn) cut() {
	if c.has(dead) {
		return
	}
	c.flushLate()
	unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	c.release()
}

// release closes the descriptor and gives everything back.
func (c *Conn) release() {
	c.set(dead)
	c.far = nil
	c.dropPend()
	c.dropOwed()
	if c.tls != nil {
		c.tls.dropInput()
	}
	if c.linger != nil {
		c.linger.Stop()
		c.linger = nil
	}
	c.loop.unregister(c.slot)
	c.loop.closeLate(c.fd)
	c.fd = -1
}

// stop is the end of the loop.
func (c *Conn) stop() {
	if c.has(dead) {
		return
	}
	if c.has(detached) && c.has(finSent) {
		c.release() // in order, as far as we are concerned
		return
	}
	c.fail = &ResetError{Reason: ReasonShutdown, Cause: ErrStopped}
	c.broken()
}

// enqueue asks for a turn after this one.
func (c *Conn) enqueue() {
	if !c.has(queued | dead) {
		c.set(queued)
		c.loop.ready = append(c.loop.ready, c)
	}
}

func (c *Conn) dropPend() {
	if c.pend != nil {
		c.loop.Free(c.pend)
		c.pend, c.off = nil, 0
	}
}
