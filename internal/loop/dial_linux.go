package loop

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstRetry = time.Millisecond
	lastRetry  = 64 * time.Millisecond
)

// dial is a connect under way.
type dial struct {
	loop    *Loop
	done    func(*Conn, error) // nil: told or cancelled
	addr    netip.AddrPort
	path    string        // of a unix socket
	sa      unix.Sockaddr // nil: addr as it is
	fd      int32
	slot    int32 // 0: not registered
	err     error // of the socket, known before the connect
	keep    time.Duration
	timeout Timer
	retry   *Timer // unix, while the listener's backlog is full
	pause   time.Duration
}

// Dial connects on the loop, at the end of this turn and without blocking: network
// "tcp" to addr, or "unix" to path. A TCP connection has TCP_NODELAY, NotSentLowat
// and keep-alive once it has lasted for a second, the first two from its third or
// first large write on already. done comes once, on the loop, never before Dial
// returns and never after cancel; its error says what was dialled and wraps the
// cause: a syscall.Errno, os.ErrDeadlineExceeded or ErrStopped. The Conn is without
// an owner until Bind. On the loop, as is cancel.
func (l *Loop) Dial(network string, addr netip.AddrPort, path string, o DialOptions, done func(*Conn, error)) (cancel func()) {
	d := &dial{loop: l, done: done, addr: addr, path: path, keep: o.KeepAlive, fd: -1}
	if d.err = d.open(network, path, o); d.err == nil && o.Timeout > 0 {
		d.timeout.Fire = d.timedOut
		l.After(o.Timeout, &d.timeout)
	}
	l.dials = append(l.dials, d)
	return d.cancel
}

// open makes the socket.
func (d *dial) open(network, path string, o DialOptions) error {
	if d.loop.ended {
		return ErrStopped
	}
	family := unix.AF_UNIX
	switch network {
	case "tcp":
		var err error
		if family, err = d.resolveZone(); err != nil {
			return err
		}
	case "unix":
		d.sa, d.addr = &unix.SockaddrUnix{Name: path}, netip.AddrPort{}
	default:
		return fmt.Errorf("unknown network %q", network)
	}
	fd, e := sysSocket(family)
	if e != 0 {
		return os.NewSyscallError("socket", e)
	}
	d.fd = fd
	if network == "tcp" {
		// Who dials sends at once: the ACK of the handshake rides on that and
		// saves both ends a packet. The kernel sends it alone if nothing comes.
		sysSetOption(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
		return bindSource(int(fd), o.Source)
	}
	return nil
}

// resolveZone returns the address family. Most addresses are given to the
// kernel as they are; a zone has to be looked up first.
func (d *dial) resolveZone() (family int, err error) {
	switch ip := d.addr.Addr(); {
	case ip.Is4():
		return unix.AF_INET, nil
	case ip.Is6() && !ip.Is4In6() && ip.Zone() == "":
		return unix.AF_INET6, nil
	}
	d.sa, family, err = sockaddr(d.addr)
	return family, err
}

// connect starts the connect, or tries it again.
func (d *dial) connect() error {
	var err error
	if d.sa != nil {
		err = unix.Connect(int(d.fd), d.sa)
	} else if e := sysConnect(d.fd, d.addr); e != 0 {
		err = e
	}
	switch {
	case err == nil || err == unix.EINPROGRESS || err == unix.EINTR:
		// A connect that is done already makes the socket writable: one way for both.
		d.slot, err = d.loop.register(d.fd, d)
	case err == unix.EAGAIN && !d.addr.IsValid():
		d.again()
		err = nil
	}
	return err
}

// again waits a moment for room in the backlog of a unix listener.
func (d *dial) again() {
	if d.retry == nil {
		d.pause = firstRetry
		d.retry = &Timer{Fire: func() {
			if err := d.connect(); err != nil {
				d.fail(err)
			}
		}}
	}
	d.loop.After(d.pause, d.retry)
	d.pause = min(2*d.pause, lastRetry)
}

func (d *dial) timedOut() { d.fail(os.ErrDeadlineExceeded) }

// event ends the connect.
func (d *dial) event(ev uint32) {
	if ev&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
		return
	}
	// A connect that failed shows as ERR or HUP; without them there is no
	// error to ask for.
	if ev&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		if e := soError(d.fd); e != 0 {
			d.fail(e)
			return
		}
	}
	if d.self() {
		d.fail(unix.ECONNREFUSED)
		return
	}
	l := d.loop
	c := &Conn{loop: l, fd: d.fd, slot: d.slot, remote: d.addr}
	l.slots[c.slot].entry = c
	d.fd, d.slot = -1, 0
	l.raise(c, d.keep)
	done := d.done
	d.close()
	c.event(ev &^ unix.EPOLLOUT) // remembers what this edge also said
	done(c, nil)
}

// self reports whether the socket is connected to itself, which happens where a
// local port without a listener lies in the ephemeral range.
func (d *dial) self() bool {
	return d.addr.Port() >= d.loop.ephemeral && d.addr.Addr().IsLoopback() && localAddr(d.fd) == d.addr
}

// begin connects at the end of the turn, unless that was cancelled.
func (d *dial) begin() {
	if d.done == nil {
		return
	}
	if d.err == nil {
		d.err = d.connect()
	}
	if d.err != nil {
		d.fail(d.err)
	}
}

func (d *dial) turn() {} // it never asks for one

func (d *dial) stop() { d.fail(ErrStopped) }

// fail tells the error, unless the dial is over.
func (d *dial) fail(err error) {
	done := d.done
	d.close()
	if done == nil {
		return
	}
	target := d.path
	if d.addr.IsValid() {
		target = d.addr.String()
	}
	done(nil, fmt.Errorf("dial %s: %w", target, err))
}

func (d *dial) cancel() { d.close() }

// close gives everything back; done does not come any more.
func (d *dial) close() {
	d.done = nil
	d.timeout.Stop()
	if d.retry != nil {
		d.retry.Stop()
	}
	if d.slot != 0 {
		d.loop.unregister(d.slot)
		d.slot = 0
	}
	if d.fd >= 0 {
		sysClose(d.fd)
		d.fd = -1
	}
}
