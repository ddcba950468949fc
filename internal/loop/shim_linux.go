package loop

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	headerLen     = 5
	maxCiphertext = 16384 + 2048 // RFC 5246 section 6.2.3; TLS 1.3 allows less
	shimBuffer    = 4 << 10
)

// wouldBlock is what the codec gets when no whole record is there. crypto/tls
// does not make a temporary net.Error sticky. It is compared by identity.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no whole record yet" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock net.Error = wouldBlock{}

// Shim is the net.Conn under a tls.Conn whose connection is to end up on a loop.
// It is there from the first byte and hands out at most one record at a time, so
// that crypto/tls never holds a part of the next one. Before AdoptTLS it blocks
// and honours deadlines like the connection it wraps; afterwards it belongs to
// its Conn, and deadlines and Close do nothing.
type Shim struct {
	nc    net.Conn // nil after the move
	slots *Slots
	held  *yielding // while a CPU slot is ours

	buf  []byte // blocking mode: what the socket gave
	r, w int    // of buf, on the loop of the loop's cin
	left int    // octets of the present record not handed out yet

	// On the loop.
	c      *Conn
	tc     *tls.Conn
	in     []byte // pooled: ciphertext that waits for the rest of its record or for the owner
	ask    int    // plaintext wanted by the present Read
	err    error  // final, told after the plaintext before it
	rerr   unix.Errno
	budget int8 // socket reads left in this turn
	more   bool // the codec may hold plaintext
}

// NewShim wraps nc, a *net.TCPConn or *net.UnixConn, for tls.Server or tls.Client.
// slots may be nil. The tls.Config belongs to the caller and should set
// DynamicRecordSizingDisabled, and must not allow renegotiation.
func NewShim(nc net.Conn, slots *Slots) *Shim { return &Shim{nc: nc, slots: slots} }

// Handshake runs the handshake of tc, which lies over the shim, on the calling
// goroutine while holding a CPU slot, except for the time it waits for the network.
// Deadlines are the caller's.
func (s *Shim) Handshake(ctx context.Context, tc *tls.Conn) error {
	s.compute()
	err := tc.HandshakeContext(ctx)
	s.pause()
	return err
}

// compute takes a CPU slot, and lets others go first while it has it.
func (s *Shim) compute() {
	s.slots.acquire()
	s.held = giveWay()
}

// pause gives both back.
func (s *Shim) pause() {
	s.held.end()
	s.held = nil
	s.slots.release()
}

// Read hands out octets of one record.
func (s *Shim) Read(p []byte) (int, error) {
	if s.c != nil {
		return s.readRecord(p)
	}
	for s.left == 0 || s.r == s.w {
		if s.left == 0 && s.w-s.r >= headerLen {
			s.left = recordSize(s.buf[s.r:])
			continue
		}
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	return s.take(p, s.buf), nil
}

// take hands out what src has of the present record.
func (s *Shim) take(p, src []byte) int {
	n := copy(p[:min(len(p), s.left)], src[s.r:s.w])
	s.r += n
	s.left -= n
	return n
}

// fill reads from the blocking connection; the CPU slot is free meanwhile.
func (s *Shim) fill() error {
	if s.buf == nil {
		s.buf = make([]byte, shimBuffer)
	}
	s.w = copy(s.buf, s.buf[s.r:s.w])
	s.r = 0
	if s.held != nil {
		s.pause()
		defer s.compute()
	}
	n, err := s.nc.Read(s.buf[s.w:])
	s.w += n
	if n > 0 {
		return nil
	}
	return err
}

// Write sends p; on the loop it never falls short.
func (s *Shim) Write(p []byte) (int, error) {
	if s.c != nil {
		s.c.loop.cout = append(s.c.loop.cout, p...)
		return len(p), nil
	}
	if s.held != nil {
		s.pause()
		defer s.compute()
	}
	return s.nc.Write(p)
}

// recordSize returns the size of the record that begins with h, header included.
// Of one that is too long only the header: the codec refuses it on sight.
func recordSize(h []byte) int {
	n := int(binary.BigEndian.Uint16(h[3:]))
	if n > maxCiphertext {
		return headerLen
	}
	return headerLen + n
}

// Close closes the connection; nothing after the move.
func (s *Shim) Close() error {
	if s.c != nil {
		return nil
	}
	return s.nc.Close()
}

// LocalAddr returns our address.
func (s *Shim) LocalAddr() net.Addr {
	if s.c != nil {
		return net.TCPAddrFromAddrPort(s.c.LocalAddr())
	}
	return s.nc.LocalAddr()
}

// RemoteAddr returns the peer's address.
func (s *Shim) RemoteAddr() net.Addr {
	if s.c != nil {
		return net.TCPAddrFromAddrPort(s.c.RemoteAddr())
	}
	return s.nc.RemoteAddr()
}

// SetDeadline sets both deadlines; nothing after the move.
func (s *Shim) SetDeadline(t time.Time) error {
	if s.c != nil {
		return nil
	}
	return s.nc.SetDeadline(t)
}

// SetReadDeadline is the read half of SetDeadline.
func (s *Shim) SetReadDeadline(t time.Time) error {
	if s.c != nil {
		return nil
	}
	return s.nc.SetReadDeadline(t)
}

// SetWriteDeadline is the write half of SetDeadline. crypto/tls calls it on its
// way to close_notify, also on the loop.
func (s *Shim) SetWriteDeadline(t time.Time) error {
	if s.c != nil {
		return nil
	}
	return s.nc.SetWriteDeadline(t)
}
