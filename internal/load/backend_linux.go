package load

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ServeEcho is a cheap HTTP/1.1 WebSocket echo server; see mirror for what it
// answers. One thread waits for all connections, and a message costs it a read
// and a write, so that it is not what a gateway before it waits for. It takes ln
// over and returns when that fails.
func ServeEcho(ln *net.TCPListener) error {
	file, err := ln.File()
	if err != nil {
		return err
	}
	defer file.Close()
	ln.Close()
	s := &server{listen: int(file.Fd()), conns: make(map[int32]*served), in: make([]byte, 64<<10)}
	if err := unix.SetNonblock(s.listen, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	defer unix.Close(s.epoll)
	if err := s.control(unix.EPOLL_CTL_ADD, s.listen, unix.EPOLLIN); err != nil {
		return err
	}
	return s.run()
}

// server is the echo server. Its goroutine owns everything.
type server struct {
	epoll, listen int
	conns         map[int32]*served
	in, out       []byte // of the connection that is being served
}

// served is a connection of the server.
type served struct {
	fd      int
	mirror  mirror
	pending []byte // what the kernel did not take; nothing is read meanwhile
}

func (s *server) control(op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(s.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

func (s *server) run() error {
	var events [256]unix.EpollEvent
	for {
		n, err := unix.EpollWait(s.epoll, events[:], -1)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, ev := range events[:max(n, 0)] {
			if int(ev.Fd) == s.listen {
				if err := s.accept(); err != nil {
					return err
				}
			} else if c := s.conns[ev.Fd]; c != nil && !s.serve(c) {
				delete(s.conns, ev.Fd)
				unix.Close(c.fd)
			}
		}
	}
}

func (s *server) accept() error {
	for {
		fd, _, err := unix.Accept4(s.listen, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EAGAIN:
			return nil
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			return fmt.Errorf("accept with %d connections open: %w", len(s.conns), err)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if err := s.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
			return err
		}
		s.conns[int32(fd)] = &served{fd: fd}
	}
}

// serve does what a connection is ready for, and reports whether it goes on.
func (s *server) serve(c *served) bool {
	if len(c.pending) > 0 {
		return s.resume(c)
	}
	n, err := unix.Read(c.fd, s.in)
	if err == unix.EAGAIN || err == unix.EINTR {
		return true
	}
	if n <= 0 {
		return false
	}
	s.out = c.mirror.feed(s.out[:0], s.in[:n])
	sent := 0
	if len(s.out) > 0 {
		if sent, err = unix.Write(c.fd, s.out); err != nil && err != unix.EAGAIN {
			return false
		}
	}
	if sent = max(sent, 0); sent < len(s.out) {
		c.pending = append([]byte(nil), s.out[sent:]...)
		return s.control(unix.EPOLL_CTL_MOD, c.fd, unix.EPOLLOUT) == nil
	}
	return !c.mirror.over
}

// resume writes what was left, and reads again once that is done.
func (s *server) resume(c *served) bool {
	n, err := unix.Write(c.fd, c.pending)
	if err != nil {
		return err == unix.EAGAIN || err == unix.EINTR
	}
	if c.pending = c.pending[n:]; len(c.pending) > 0 {
		return true
	}
	c.pending = nil
	return !c.mirror.over && s.control(unix.EPOLL_CTL_MOD, c.fd, unix.EPOLLIN) == nil
}
