package loop

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of the hot path. They are raw: on a non-blocking descriptor they
// return at once, so the scheduler need not hear of them.

const allEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// epollWait asks for what is ready now; it never waits.
func epollWait(epfd int, events []unix.EpollEvent) (int, unix.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	return int(n), e
}

// sysRead reads without waiting. 0 without an error is the end of the stream.
func sysRead(fd int32, p []byte) (int, unix.Errno) {
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		if e == 0 {
			return int(n), 0
		}
		if e != unix.EINTR {
			return 0, e
		}
	}
}

// sysPeek looks at the next octets without taking them.
func sysPeek(fd int32, p []byte) (int, unix.Errno) {
	return sysIO(unix.SYS_RECVFROM, fd, p, unix.MSG_PEEK)
}

// sysSend writes without waiting and without SIGPIPE.
func sysSend(fd int32, p []byte) (int, unix.Errno) {
	return sysIO(unix.SYS_SENDTO, fd, p, unix.MSG_NOSIGNAL)
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

// sysWake adds to an eventfd.
func sysWake(fd int) {
	one := [8]byte{1} // any value but 0 and 2^64-1 does, so the byte order is no matter
	unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one[0])), 8)
}

// soError takes the pending error of a socket.
func soError(fd int32) unix.Errno {
	v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err.(unix.Errno)
	}
	return unix.Errno(v)
}
