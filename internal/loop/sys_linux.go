package loop

import (
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the hot path. They are raw: on a non-blocking descriptor they
// return at once, so the scheduler need not hear of them. Nor does it where a loop
// sleeps for a short time: what the runtime wants of the thread meanwhile (to stop
// for the collector, to yield) it says by a signal, which ends the sleep.

const allEvents = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// epollWait asks for events and waits for them for at most ms milliseconds, without
// an end if ms is -1. With park the scheduler hears of it and has the P meanwhile.
func epollWait(epfd int, events []unix.EpollEvent, ms int, park bool) (int, unix.Errno) {
	var n uintptr
	var e unix.Errno
	if park {
		n, _, e = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd),
			uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(ms), 0, 0)
	} else {
		n, _, e = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd),
			uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(ms), 0, 0)
	}
	return int(n), e
}

// sysSleep sleeps, or less.
func sysSleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// sysRead reads without waiting. 0 without an error is the end of the stream.
func sysRead(fd int32, p []byte) (int, unix.Errno) {
	return sysIO(unix.SYS_RECVFROM, fd, p, 0)
}

// sysPeek looks at the next octets without taking them.
func sysPeek(fd int32, p []byte) (int, unix.Errno) {
	return sysIO(unix.SYS_RECVFROM, fd, p, unix.MSG_PEEK)
}

// sysSend writes without waiting and without SIGPIPE.
func sysSend(fd int32, p []byte, flags uintptr) (int, unix.Errno) {
	return sysIO(unix.SYS_SENDTO, fd, p, unix.MSG_NOSIGNAL|flags)
}

func sysIO(call uintptr, fd int32, p []byte, flags uintptr) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		if e == 0 {
			return int(n), 0
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}

// sysAccept accepts one connection, non-blocking and close-on-exec.
func sysAccept(fd int32, from *unix.RawSockaddrAny) (int32, unix.Errno) {
	size := uint32(unix.SizeofSockaddrAny)
	n, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(from)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int32(n), e
}

// sysSockname asks for a socket's own address.
func sysSockname(fd int32, own *unix.RawSockaddrAny) unix.Errno {
	size := uint32(unix.SizeofSockaddrAny)
	_, _, e := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(own)), uintptr(unsafe.Pointer(&size)))
	return e
}

// sysWake adds to an eventfd.
func sysWake(fd int) {
	one := [8]byte{1} // any value but 0 and 2^64-1 does, so the byte order is no matter
	unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one[0])), 8)
}

// sysSocket makes a stream socket, non-blocking and close-on-exec.
func sysSocket(family int) (int32, unix.Errno) {
	fd, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return int32(fd), e
}

// sysConnect starts a TCP connect to an address without a zone.
func sysConnect(fd int32, to netip.AddrPort) unix.Errno { return sysAddr(unix.SYS_CONNECT, fd, to) }

// sysBind gives a socket its own address, without a zone.
func sysBind(fd int32, own netip.AddrPort) unix.Errno { return sysAddr(unix.SYS_BIND, fd, own) }

func sysAddr(call uintptr, fd int32, a netip.AddrPort) unix.Errno {
	port := a.Port()
	var raw unix.RawSockaddrInet6 // the larger of the two
	size := uintptr(unix.SizeofSockaddrInet6)
	if ip := a.Addr(); ip.Is4() {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(&raw))
		four.Family, four.Port, four.Addr = unix.AF_INET, networkOrder(&port), ip.As4()
		size = unix.SizeofSockaddrInet4
	} else {
		raw.Family, raw.Port, raw.Addr = unix.AF_INET6, networkOrder(&port), ip.As16()
	}
	_, _, e := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&raw)), size)
	return e
}

// sysShutdown sends FIN behind what was written.
func sysShutdown(fd int32) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return e
}

// sysClose closes a socket, which never waits: none has a lingering close.
func sysClose(fd int32) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// sysSetOption sets an option that is an int.
func sysSetOption(fd, level, name, value int) unix.Errno {
	v := int32(value)
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v)), 4, 0)
	return e
}

// sysWatch adds a descriptor to an epoll.
func sysWatch(epfd int, fd int32, ev *unix.EpollEvent) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(ev)), 0, 0)
	return e
}

// soError takes the pending error of a socket.
func soError(fd int32) unix.Errno {
	v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err.(unix.Errno)
	}
	return unix.Errno(v)
}
