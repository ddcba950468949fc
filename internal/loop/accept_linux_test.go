package loop

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func listen(t *testing.T, address string) *net.TCPListener {
	t.Helper()
	lc := ListenConfig(33 * time.Second)
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return ln.(*net.TCPListener)
}

// acceptOn accepts on the loop into a channel.
func acceptOn(t *testing.T, l *Loop, ln *net.TCPListener) (<-chan Accepted, <-chan error, func()) {
	t.Helper()
	got, paused := make(chan Accepted, 1000), make(chan error, 100)
	var stop func()
	on(t, l, func() {
		var err error
		stop, err = l.Accept(ln, func(a Accepted) { got <- a }, func(err error, d time.Duration) {
			if d != acceptPause {
				t.Errorf("got a pause of %v, want %v", d, acceptPause)
			}
			paused <- err
		})
		if err != nil {
			t.Error(err)
		}
	})
	return got, paused, stop
}

func TestAcceptDualStackPlacesOnAnotherLoop(t *testing.T) {
	l, other := newLoop(t), newLoop(t)
	ln := listen(t, ":0")
	port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
	got, _, stop := acceptOn(t, l, ln)
	for _, ip := range []string{"127.0.0.1", "::1"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
		peer, err := net.Dial("tcp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		a := await(t, got, "a connection")
		if a.RemoteAddr().String() != peer.LocalAddr().String() {
			t.Errorf("got remote %v, want %v", a.RemoteAddr(), peer.LocalAddr())
		}
		on(t, other, func() {
			c, err := other.Adopt(a)
			if err != nil {
				t.Error(err)
				return
			}
			wantFlags(t, int(c.fd))
			wantOptions(t, c.fd, 33)
			if c.LocalAddr() != to || c.Loop() != other {
				t.Errorf("got local %v, want %v on the other loop", c.LocalAddr(), to)
			}
			c.Bind(&echoer{c: c})
		})
		want := pattern(100000)
		go func() { peer.Write(want); peer.(*net.TCPConn).CloseWrite() }()
		same(t, readAll(t, peer), want)
	}
	empty(t, other)
	on(t, l, func() {
		stop()
		stop()
		if l.entries != 0 {
			t.Errorf("got %d descriptors, want the listener closed", l.entries)
		}
	})
	if c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()); err == nil {
		c.Close()
		t.Error("got a connection after stop, want it refused")
	}
}

func TestListenConfigServesPackageNetToo(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { wantOptions(t, int32(fd), 33) })
}

func TestAcceptIsBoundedPerTurnAndLosesNone(t *testing.T) {
	l := newLoop(t)
	ln := listen(t, "127.0.0.1:0")
	const n = 3*acceptBurst + 1
	for range n { // all wait before the loop looks: one edge for all of them
		peer, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
	}
	var turn time.Time
	inTurn, most, all := 0, 0, make(chan struct{})
	total := 0
	on(t, l, func() {
		_, err := l.Accept(ln, func(a Accepted) {
			if l.Now() != turn {
				turn, inTurn = l.Now(), 0
			}
			inTurn++
			most = max(most, inTurn)
			if total++; total == n {
				close(all)
			}
			a.Close()
		}, nil)
		if err != nil {
			t.Error(err)
		}
	})
	await(t, all, "all connections")
	if most > acceptBurst {
		t.Errorf("got %d accepted in a turn, want at most %d", most, acceptBurst)
	}
}

func TestAcceptPausesWithoutDescriptors(t *testing.T) {
	l := newLoop(t)
	ln := listen(t, "127.0.0.1:0")
	address := ln.Addr().String()
	got, paused, stop := acceptOn(t, l, ln)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	sa, _, err := sockaddr(netip.MustParseAddrPort(address))
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := unix.Rlimit{Cur: 3, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	restored := false
	restore := func() {
		if !restored {
			restored = true
			unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
		}
	}
	defer restore()
	if err := unix.Connect(fd, sa); err != nil {
		t.Fatal(err)
	}
	err = await(t, paused, "a pause")
	restore()
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("got %v, want EMFILE", err)
	}
	await(t, got, "the connection after the pause").Close()
	on(t, l, stop)
}

func TestStopWhileAcceptIsPaused(t *testing.T) {
	l := newLoop(t)
	_, paused, stop := acceptOn(t, l, listen(t, "127.0.0.1:0"))
	on(t, l, func() {
		for _, s := range l.slots {
			if a, ok := s.entry.(*listener); ok {
				a.pause(unix.ENFILE)
			}
		}
		stop()
		if l.wheel.count != 0 || l.entries != 0 {
			t.Errorf("got %d timers and %d entries, want none", l.wheel.count, l.entries)
		}
	})
	await(t, paused, "the pause")
}

func TestAcceptedForAStoppedLoop(t *testing.T) {
	l, other := newLoop(t), newLoop(t)
	ln := listen(t, "127.0.0.1:0")
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	got, _, stop := acceptOn(t, l, ln)
	a := await(t, got, "a connection")
	other.Stop()
	adopted := make(chan error, 1)
	if other.TryPost(func() { _, err := other.Adopt(a); adopted <- err }) {
		if err := await(t, adopted, "an answer"); err == nil {
			until(t, l, "end", func() bool { return other.state.Load() == stateStopped })
		}
	} else {
		a.Close()
	}
	peer.SetDeadline(time.Now().Add(patience))
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want the connection closed", err)
	}
	on(t, l, stop)
}

// A connection that brings nothing is kept from the loop, but not for long.
func TestSilentConnectionComesLate(t *testing.T) {
	l := newLoop(t)
	ln := listen(t, "127.0.0.1:0")
	got, _, _ := acceptOn(t, l, ln)
	dial := func() *net.TCPConn {
		peer, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { peer.Close() })
		return peer.(*net.TCPConn)
	}
	for range 5 { // a machine that stands still for a second has it come first
		silent, speaks := dial().LocalAddr().String(), dial()
		write(t, speaks, "hello")
		first, second := await(t, got, "the one that speaks"), await(t, got, "the silent one")
		first.Close()
		second.Close()
		if second.RemoteAddr().String() == silent && first.RemoteAddr().String() == speaks.LocalAddr().String() {
			return
		}
	}
	t.Error("got the silent connection first, want the one that speaks")
}

// TestAnswerCarriesTheACK: what acknowledges a connection's first octets is the
// answer to them, not a packet of its own.
func TestAnswerCarriesTheACK(t *testing.T) {
	l := newLoop(t)
	ln := listen(t, "127.0.0.1:0")
	address := ln.Addr().String()
	got, _, _ := acceptOn(t, l, ln)
	var last uint32
	for range 20 { // a machine that stands still for 40 ms has the kernel send it
		peer, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		write(t, peer.(*net.TCPConn), "hello")
		c := adoptNext(t, l, got)
		on(t, l, func() { c.Bind(&echoer{c: c}) })
		if _, err := io.ReadFull(peer, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		if last = segmentsIn(t, peer.(*net.TCPConn)); last == 2 { // SYN-ACK and echo
			return
		}
	}
	t.Errorf("got %d packets for an answer, want 2", last)
}

// adoptNext puts the next connection on the loop.
func adoptNext(t *testing.T, l *Loop, got <-chan Accepted) (c *Conn) {
	t.Helper()
	a := await(t, got, "a connection")
	var err error
	on(t, l, func() { c, err = l.Adopt(a) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func segmentsIn(t *testing.T, c *net.TCPConn) (n uint32) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	if e := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return info.Segs_in
}

// TestAcknowledge: an owner that needs more before it can answer has the kernel
// acknowledge at once.
func TestAcknowledge(t *testing.T) {
	l := newLoop(t)
	ln := listen(t, "127.0.0.1:0")
	address := ln.Addr().String()
	got, _, _ := acceptOn(t, l, ln)
	peer, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c := adoptNext(t, l, got)
	on(t, l, func() {
		for _, want := range []int{0, 1} {
			quick, err := unix.GetsockoptInt(int(c.fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK)
			if err != nil || quick != want {
				t.Errorf("got TCP_QUICKACK %d (%v), want %d", quick, err, want)
			}
			c.Acknowledge()
		}
		c.Reset(ReasonInternal)
		c.Acknowledge() // nothing is left to do
	})
}
