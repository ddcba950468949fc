package loop

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setOptions sets what every TCP socket of the gateway has: TCP_NODELAY,
// TCP_NOTSENT_LOWAT and keep-alive. Set on a listener, accepted sockets inherit it.
func setOptions(fd int, keepAlive time.Duration) error {
	err := setAll(fd, []option{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, NotSentLowat},
	})
	if keepAlive = orDefault(keepAlive); err == nil && keepAlive > 0 {
		err = setKeepAlive(fd, keepAlive)
	}
	return err
}

func orDefault(keepAlive time.Duration) time.Duration {
	if keepAlive == 0 {
		return DefaultKeepAlive
	}
	return keepAlive
}

func setKeepAlive(fd int, idle time.Duration) error {
	seconds := int(max(idle, time.Second) / time.Second)
	return setAll(fd, []option{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds},
	})
}

// option is one of a socket that is an int.
type option struct{ level, name, value int }

func setAll(fd int, options []option) error {
	for _, o := range options {
		if e := sysSetOption(fd, o.level, o.name, o.value); e != 0 {
			return os.NewSyscallError("setsockopt", e)
		}
	}
	return nil
}

// ListenConfig returns a configuration for TCP listeners whose accepted sockets
// inherit TCP_NODELAY, TCP_NOTSENT_LOWAT (NotSentLowat) and keep-alive with the
// given idle time and interval (0: DefaultKeepAlive, negative: none). It is for
// listeners given to Accept and for those that accept through package net alike.
func ListenConfig(keepAlive time.Duration) net.ListenConfig {
	lc := net.ListenConfig{
		KeepAlive: -1, // inherited instead
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			if e := c.Control(func(fd uintptr) { err = setOptions(int(fd), keepAlive) }); e != nil {
				return e
			}
			return err
		},
	}
	lc.SetMultipathTCP(false) // its sockets lack some of the options
	return lc
}

// bindSource sets where a socket connects from; nothing if the address is zero.
func bindSource(fd int, source netip.Addr) error {
	if !source.IsValid() {
		return nil
	}
	// Else bind takes a port that no other connection from this address may
	// have, wherever it goes.
	if e := sysSetOption(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); e != 0 {
		return os.NewSyscallError("setsockopt", e)
	}
	if e := sysBind(int32(fd), netip.AddrPortFrom(source, 0)); e != 0 {
		return os.NewSyscallError("bind", e)
	}
	return nil
}

// NetDialer returns a dialer of package net whose TCP sockets have the options
// of those that a loop dials. It is for those who may block.
func NetDialer(o DialOptions) *net.Dialer {
	d := &net.Dialer{Timeout: o.Timeout, KeepAlive: -1}
	d.SetMultipathTCP(false)
	d.Control = func(network, _ string, c syscall.RawConn) error {
		if !strings.HasPrefix(network, "tcp") {
			return nil
		}
		var err error
		if e := c.Control(func(fd uintptr) {
			if err = setOptions(int(fd), o.KeepAlive); err == nil {
				err = bindSource(int(fd), o.Source)
			}
		}); e != nil {
			return e
		}
		return err
	}
	return d
}

// PortsExhausted reports whether a dial failed because its source has no port
// left towards the address, which another source may still have.
func PortsExhausted(err error) bool {
	var call *os.SyscallError
	if errors.As(err, &call) && call.Syscall == "bind" {
		return false // no address of this machine
	}
	return errors.Is(err, unix.EADDRNOTAVAIL)
}

// takeFD duplicates the descriptor of c out of Go's netpoller and closes c, so
// that exactly one descriptor is left: with two a Reset would send no RST. The
// duplicate shares O_NONBLOCK and is close-on-exec. On an error c is closed too.
func takeFD(c interface {
	syscall.Conn
	Close() error
},
) (int32, error) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if e := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	if err != nil {
		return -1, os.NewSyscallError("fcntl", err)
	}
	return int32(fd), nil
}

// sockaddr makes the address and the family for connect.
func sockaddr(a netip.AddrPort) (unix.Sockaddr, int, error) {
	ip := a.Addr().Unmap()
	switch {
	case ip.Is4():
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}, unix.AF_INET, nil
	case ip.Is6():
		sa := &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
		if zone := ip.Zone(); zone != "" {
			if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
				sa.ZoneId = uint32(n)
			} else if ifi, err := net.InterfaceByName(zone); err == nil {
				sa.ZoneId = uint32(ifi.Index)
			} else {
				return nil, 0, fmt.Errorf("zone %q: %w", zone, err)
			}
		}
		return sa, unix.AF_INET6, nil
	}
	return nil, 0, fmt.Errorf("no address")
}

// addrPort reads an address; it is zero for other families than TCP's.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.ZoneId != 0 && ip.Is6() {
			ip = ip.WithZone(strconv.FormatUint(uint64(sa.ZoneId), 10))
		}
		return netip.AddrPortFrom(ip, uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func peerAddr(fd int32) netip.AddrPort {
	sa, err := unix.Getpeername(int(fd))
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

func localAddr(fd int32) netip.AddrPort {
	var raw unix.RawSockaddrAny
	if sysSockname(fd, &raw) != 0 {
		return netip.AddrPort{}
	}
	return rawAddr(&raw)
}

// ephemeralPort reads where the range of outgoing ports begins; 1024 if that
// cannot be known.
func ephemeralPort() uint16 {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 1024
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\t")
	n, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return 1024
	}
	return uint16(n)
}
