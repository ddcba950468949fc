package loop

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// silence is for how many seconds the kernel keeps a new connection to itself
// that brings nothing.
const silence = 1

// Accepted is a connection fresh from Accept that is on no loop yet. It is to be
// given, exactly once, to Adopt or Close.
type Accepted struct {
	fd     int32
	remote netip.AddrPort
}

// RemoteAddr returns the peer's address.
func (a Accepted) RemoteAddr() netip.AddrPort { return a.remote }

// Close drops the connection. Any goroutine.
func (a Accepted) Close() { unix.Close(int(a.fd)) }

// Adopt puts an accepted connection on this loop. On an error it is closed. On
// the loop; to place it on another loop of a group:
//
//	if !to.TryPost(func() { c, err := to.Adopt(a); ... }) {
//		a.Close()
//	}
func (l *Loop) Adopt(a Accepted) (*Conn, error) { return l.adopt(a.fd, a.remote) }

// listener accepts on a loop.
type listener struct {
	loop     *Loop
	fd       int32 // -1 after stop
	slot     int32
	queued   bool
	accepted func(Accepted)
	paused   func(error, time.Duration)
	resume   Timer
	from     unix.RawSockaddrAny
}

// Accept moves the descriptor of ln to this loop, closes ln, and calls accepted
// on the loop for every connection, once its first octets or its end have come, or
// after a second. When accept fails (out of descriptors, mostly) it pauses for
// 100 ms and calls paused, which may be nil, with the error and the length of the
// pause. stop closes the listening descriptor; connections in its backlog are lost.
// Options that accepted sockets inherit: see ListenConfig; and the ACK of a
// connection's first octets waits for the answer to them, or for the kernel's
// 40 ms: see Conn.Acknowledge. On the loop, as are the callbacks and stop. On an
// error ln is closed.
func (l *Loop) Accept(ln *net.TCPListener, accepted func(Accepted), paused func(error, time.Duration)) (stop func(), err error) {
	fd, err := takeFD(ln)
	if err != nil {
		return nil, fmt.Errorf("accept on a loop: %w", err)
	}
	// Sockets inherit it only if it is set after listen(2).
	sysSetOption(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	sysSetOption(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, silence)
	a := &listener{loop: l, fd: fd, accepted: accepted, paused: paused}
	a.resume.Fire = a.run
	if a.slot, err = l.register(fd, a); err != nil {
		unix.Close(int(fd))
		return nil, fmt.Errorf("accept on a loop: %w", err)
	}
	return a.stop, nil
}

func (a *listener) event(uint32) {
	if !a.queued && !a.resume.Armed() {
		a.run()
	}
}

func (a *listener) turn() {
	a.queued = false
	if !a.resume.Armed() {
		a.run()
	}
}

// run accepts until there is nothing more, but a bounded number per turn.
func (a *listener) run() {
	for range acceptBurst {
		if a.fd < 0 {
			return
		}
		fd, e := sysAccept(a.fd, &a.from)
		switch e {
		case 0:
			a.accepted(Accepted{fd, rawAddr(&a.from)})
		case unix.EAGAIN:
			return
		// The connection died in the backlog, or brought an error of its own
		// network (see accept(2)): the next may be well.
		case unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN,
			unix.ENONET, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EOPNOTSUPP, unix.EPERM, unix.ETIMEDOUT:
		default:
			a.pause(e)
			return
		}
	}
	if a.fd >= 0 {
		a.queued = true
		a.loop.ready = append(a.loop.ready, a)
	}
}

// pause stops accepting for a moment: the cause is not in this connection.
func (a *listener) pause(e unix.Errno) {
	a.loop.After(acceptPause, &a.resume)
	if a.paused != nil {
		a.paused(fmt.Errorf("accept: %w", e), acceptPause)
	}
}

func (a *listener) stop() {
	if a.fd < 0 {
		return
	}
	a.resume.Stop()
	a.loop.unregister(a.slot)
	unix.Close(int(a.fd))
	a.fd = -1
}

// rawAddr reads the address that accept4 left.
func rawAddr(r *unix.RawSockaddrAny) netip.AddrPort {
	switch r.Addr.Family {
	case unix.AF_INET:
		p := (*unix.RawSockaddrInet4)(unsafe.Pointer(r))
		return netip.AddrPortFrom(netip.AddrFrom4(p.Addr), networkOrder(&p.Port))
	case unix.AF_INET6:
		p := (*unix.RawSockaddrInet6)(unsafe.Pointer(r))
		ip := netip.AddrFrom16(p.Addr).Unmap()
		if p.Scope_id != 0 && ip.Is6() {
			ip = ip.WithZone(strconv.FormatUint(uint64(p.Scope_id), 10))
		}
		return netip.AddrPortFrom(ip, networkOrder(&p.Port))
	}
	return netip.AddrPort{}
}

func networkOrder(port *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(port))[:])
}
