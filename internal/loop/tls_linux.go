package loop

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// The loop's half of TLS: crypto/tls is a record codec between two buffers.

// chokeAt is the pending output from which a TLS connection is not read: a peer
// that asks for replies (KeyUpdate) and never reads must not fill our memory. It
// lies above what one Write can leave.
const chokeAt = scratchSize + 32<<10

// AdoptTLS moves the connection under tc, whose handshake over s is complete, to
// this loop: the descriptor leaves Go's netpoller and exactly one is left. Client
// and server connections alike; nobody else may use tc for reading, writing or
// closing afterwards, its ConnectionState stays available. On an error the
// connection is closed. On the loop.
func (l *Loop) AdoptTLS(tc *tls.Conn, s *Shim) (*Conn, error) {
	if s.c != nil {
		return nil, errors.New("adopt TLS: connection is on a loop already")
	}
	nc, ok := s.nc.(interface {
		syscall.Conn
		net.Conn
	})
	var err error
	switch {
	case !ok:
		err = fmt.Errorf("connection of type %T has no descriptor", s.nc)
	case tc.NetConn() != net.Conn(s):
		err = errors.New("connection does not lie over the shim")
	case !tc.ConnectionState().HandshakeComplete || s.left != 0:
		err = errors.New("handshake is not complete")
	}
	if err != nil {
		s.nc.Close()
		return nil, fmt.Errorf("adopt TLS: %w", err)
	}
	fd, err := takeFD(nc)
	if err != nil {
		return nil, fmt.Errorf("adopt TLS: %w", err)
	}
	var remote netip.AddrPort
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		remote = a.AddrPort()
		remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	}
	c, err := l.adopt(fd, remote)
	if err != nil {
		return nil, err
	}
	if s.w > s.r {
		s.in = append(l.Buffer(s.w-s.r), s.buf[s.r:s.w]...)
	}
	s.nc, s.buf, s.r, s.w, s.slots = nil, nil, 0, 0, nil
	s.c, s.tc, c.tls = c, tc, s
	s.more = true // the codec is asked before anything waits for the socket
	return c, nil
}

// pull decrypts and delivers what the owner wants. The ciphertext lies in the
// loop's buffer meanwhile; only what is left over is kept per connection.
func (s *Shim) pull() {
	l := s.c.loop
	s.r, s.w, s.budget = 0, 0, maxRounds
	if s.in != nil {
		s.w = copy(l.cin, s.in)
		l.Free(s.in)
		s.in = nil
	}
	s.run()
	if s.w > s.r && !s.c.has(dead|discard) {
		s.in = append(l.Buffer(s.w-s.r), l.cin[s.r:s.w]...)
	}
	s.r, s.w = 0, 0
}

func (s *Shim) run() {
	c := s.c
	for {
		if s.err != nil {
			s.final(s.err)
			return
		}
		want := c.want()
		if want == 0 {
			return
		}
		if s.full() {
			return // the EPOLLOUT that drains it comes back here
		}
		buf := c.loop.scratch[:min(want, scratchSize)]
		n, err := s.plaintext(buf)
		if err != nil && err != errWouldBlock {
			s.err = err // after the plaintext before it
		}
		if n > 0 && !c.deliver(buf[:n]) {
			return
		}
		if err == errWouldBlock || err == nil && s.empty() {
			s.dry()
			return
		}
	}
}

// empty reports whether the codec would find nothing to read. Asked it would say
// so, and allocate.
func (s *Shim) empty() bool {
	return !s.more && s.left == 0 && !s.whole() && !s.c.has(readable)
}

// plaintext reads records into buf for as long as whole ones are in memory.
func (s *Shim) plaintext(buf []byte) (n int, err error) {
	s.ask = len(buf)
	for n < len(buf) {
		var k int
		k, err = s.read(buf[n:])
		n += k
		if err != nil || s.left > 0 || !s.whole() || s.full() {
			break
		}
	}
	s.more = n == len(buf)
	return n, err
}

// full reports whether so much output waits that reading is to stop.
func (s *Shim) full() bool { return s.c.owing() > chokeAt }

// read calls the codec. What that wrote, also when it failed (KeyUpdate replies,
// alerts), goes out before any later Write.
func (s *Shim) read(p []byte) (int, error) {
	l := s.c.loop
	l.cout = l.cout[:0]
	n, err := s.tc.Read(p)
	if s.c.has(wrClosed) {
		l.cout = l.cout[:0] // nothing follows our close_notify
	}
	s.emit()
	return n, err
}

// readRecord is Read on the loop: octets of one whole record, or errWouldBlock.
// It never says EOF, which the codec would take for a close_notify.
func (s *Shim) readRecord(p []byte) (int, error) {
	for s.left == 0 {
		if s.whole() {
			s.left = recordSize(s.c.loop.cin[s.r:])
		} else if !s.load() {
			return 0, errWouldBlock
		}
	}
	return s.take(p, s.c.loop.cin), nil
}

// whole reports whether a whole record is in memory.
func (s *Shim) whole() bool {
	have := s.w - s.r
	return have >= headerLen && have >= recordSize(s.c.loop.cin[s.r:])
}

// load reads more ciphertext from the socket and reports whether there was any.
func (s *Shim) load() bool {
	c, cin := s.c, s.c.loop.cin
	if !c.has(readable) || s.budget == 0 {
		return false
	}
	s.w = copy(cin, cin[s.r:s.w])
	s.r = 0
	missing := headerLen - s.w
	if missing <= 0 {
		missing = recordSize(cin) - s.w
	}
	// Not much more than the owner asked for: what it does not take stays here.
	limit := min(len(cin)-s.w, max(missing, s.ask+s.ask/32+1024))
	s.budget--
	n, e := sysRead(c.fd, cin[s.w:s.w+limit])
	s.w += n
	if n < limit && !c.has(hup) {
		c.clear(readable)
	}
	if n == 0 {
		c.clear(readable)
		switch e {
		case 0:
			c.set(eof)
		case unix.EAGAIN:
		default:
			s.rerr = e
		}
	}
	return n > 0
}

// dry is called when the codec waits for more than memory and socket have.
func (s *Shim) dry() {
	c := s.c
	switch {
	case s.rerr != 0:
		c.gotError(s.rerr)
	case c.has(eof):
		s.gotEOF()
	case c.has(readable):
		c.enqueue() // the rounds of this turn are used up
	case c.fail != nil:
		c.broken()
	}
}

// gotEOF is a FIN without close_notify.
func (s *Shim) gotEOF() {
	c := s.c
	c.set(eof)
	c.clear(readable)
	if c.fail == nil && c.has(sockErr) {
		c.lateError()
	}
	if c.fail == nil {
		c.fail = &ResetError{Reason: ReasonTruncated, Remote: true, Cause: io.ErrUnexpectedEOF}
	}
	c.broken()
}

// final takes the error with which the codec ended: io.EOF is the peer's
// close_notify, as readRecord never returns it.
func (s *Shim) final(err error) {
	c, far := s.c, s.c.far
	s.dropInput()
	if err == io.EOF {
		c.set(ended | discard)
		c.settle()
		if !c.has(dead) {
			c.enqueue() // read on, to the FIN
		}
		far.End()
		return
	}
	if c.fail == nil {
		// The alert is on its way; a close now could overtake it.
		c.set(wrClosed)
		if c.flushLate(); !c.owes() {
			c.sendFIN()
		}
		c.detach(alertLinger)
		far.Broken(&ResetError{Reason: ReasonProtocol, Remote: true, Cause: err})
		return
	}
	c.broken()
}

// holds reports whether there may be something to deliver without the socket.
func (s *Shim) holds() bool {
	return s.more || s.left > 0 || s.in != nil || s.w > s.r || s.err != nil
}

// write encrypts p in pieces and returns how much was taken.
func (s *Shim) write(p []byte) int {
	c, l := s.c, s.c.loop
	if len(p) > lateWrite { // nothing of it is taken if what goes ahead has to wait
		c.flushLate()
	}
	n := 0
	for n < len(p) && c.fail == nil && !c.has(blocked) {
		l.cout = l.cout[:0]
		k, err := s.tc.Write(p[n:min(len(p), n+scratchSize)])
		s.emit()
		n += k
		if err != nil {
			c.failWith(&ResetError{Reason: ReasonInternal, Cause: err})
		}
	}
	return n
}

// closeNotify says that our direction ends.
func (s *Shim) closeNotify() {
	s.c.loop.cout = s.c.loop.cout[:0]
	s.tc.CloseWrite()
	s.emit()
}

// emit sends the ciphertext of the present call in one write(2), behind what
// still waits.
func (s *Shim) emit() {
	c, p := s.c, s.c.loop.cout
	switch {
	case len(p) == 0:
	case len(p) <= lateWrite && !c.owes():
		c.sendLate(p, 0)
	default:
		c.flushLate()
		c.push(p, 0)
	}
}

func (s *Shim) dropInput() {
	if s.in != nil {
		s.c.loop.Free(s.in)
		s.in = nil
	}
	s.r, s.w, s.left = 0, 0, 0
}
