package loop

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDialSource: a connection comes from the source, whose port the kernel
// chooses when it knows where to.
func TestDialSource(t *testing.T) {
	for _, x := range []struct{ listen, source string }{{"127.0.0.1:0", "127.0.0.9"}, {"[::1]:0", "::1"}} {
		l := newLoop(t)
		ln, err := net.Listen("tcp", x.listen)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		to := netip.MustParseAddrPort(ln.Addr().String())
		o := DialOptions{Timeout: time.Minute, KeepAlive: 42 * time.Second, Source: netip.MustParseAddr(x.source)}
		d := await(t, dialOn(t, l, "tcp", to, "", o, func(c *Conn) { c.Bind(newOwner(c)) }), "a connection")
		if d.err != nil {
			t.Fatal(d.err)
		}
		peer, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		if got := netip.MustParseAddrPort(peer.RemoteAddr().String()).Addr(); got != o.Source {
			t.Errorf("got a connection from %v, want %v", got, o.Source)
		}
		wantGrown(t, l, d.c, 42)
		on(t, l, func() {
			if got := intOption(t, d.c.fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT); got != 1 {
				t.Errorf("got IP_BIND_ADDRESS_NO_PORT %d, want 1", got)
			}
			d.c.Reset(ReasonReset)
		})

		c, err := NetDialer(o).Dial("tcp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := netip.MustParseAddrPort(c.LocalAddr().String()).Addr(); got != o.Source {
			t.Errorf("package net: got a connection from %v, want %v", got, o.Source)
		}
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			wantOptions(t, int32(fd), 42)
			if got := intOption(t, int32(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT); got != 1 {
				t.Errorf("package net: got IP_BIND_ADDRESS_NO_PORT %d, want 1", got)
			}
		})
	}
}

// TestNetDialerUnix: the options are for TCP.
func TestNetDialerUnix(t *testing.T) {
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := NetDialer(DialOptions{Source: netip.MustParseAddr("127.0.0.9")}).Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestPortsExhausted: no port is told apart from a source that is not this
// machine's, which is the same errno.
func TestPortsExhausted(t *testing.T) {
	l := newLoop(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	o := DialOptions{Source: netip.MustParseAddr("192.0.2.1")}
	d := await(t, dialOn(t, l, "tcp", netip.MustParseAddrPort(ln.Addr().String()), "", o, nil), "an error")
	_, err = NetDialer(o).Dial("tcp", ln.Addr().String())
	for _, err := range []error{d.err, err} {
		if err == nil || !strings.Contains(err.Error(), "bind: cannot assign requested address") || PortsExhausted(err) {
			t.Errorf("got %v, lack of ports %v; want an error of bind and no lack", err, PortsExhausted(err))
		}
	}
	for err, want := range map[error]bool{
		fmt.Errorf("dial: %w", syscall.EADDRNOTAVAIL):                                       true,
		&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}: true,
		&net.OpError{Op: "dial", Err: os.NewSyscallError("bind", syscall.EADDRNOTAVAIL)}:    false,
		syscall.ECONNREFUSED: false,
		nil:                  false,
	} {
		if got := PortsExhausted(err); got != want {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
}
