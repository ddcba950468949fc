package loop

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type dialled struct {
	c   *Conn
	err error
}

// dialOn dials on the loop; done must not come before Dial returns.
func dialOn(t *testing.T, l *Loop, network string, addr netip.AddrPort, path string, o DialOptions, bind func(*Conn)) <-chan dialled {
	t.Helper()
	ch := make(chan dialled, 2)
	on(t, l, func() {
		returned := false
		l.Dial(network, addr, path, o, func(c *Conn, err error) {
			if !returned {
				t.Error("got done within Dial, want it later")
			}
			if c != nil && bind != nil {
				bind(c)
			}
			ch <- dialled{c, err}
		})
		returned = true
	})
	return ch
}

func intOption(t *testing.T, fd int32, level, name int) int {
	t.Helper()
	v, err := unix.GetsockoptInt(int(fd), level, name)
	if err != nil {
		t.Error(err)
	}
	return v
}

// wantOptions checks what every TCP socket of the gateway has.
func wantOptions(t *testing.T, fd int32, keepAlive int) {
	t.Helper()
	for _, o := range []struct {
		name              string
		level, opt, value int
	}{
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{"TCP_NOTSENT_LOWAT", unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, NotSentLowat},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAlive},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAlive},
	} {
		if got := intOption(t, fd, o.level, o.opt); got != o.value {
			t.Errorf("got %s %d, want %d", o.name, got, o.value)
		}
	}
}

// wantGrown is wantOptions of a dialled socket, once it has lasted.
func wantGrown(t *testing.T, l *Loop, c *Conn, keepAlive int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // a poll: the loop acts by its own timer
		young := 0
		on(t, l, func() { young = len(l.young) })
		if young == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("got a connection without keep-alive after 10 s, want it after one")
		}
	}
	on(t, l, func() { wantOptions(t, c.fd, keepAlive) })
}

func TestDialTCP(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			l := newLoop(t)
			ln, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			to := netip.MustParseAddrPort(ln.Addr().String())
			var o *owner
			d := await(t, dialOn(t, l, "tcp", to, "", DialOptions{Timeout: time.Minute, KeepAlive: 42 * time.Second}, func(c *Conn) {
				o = newOwner(c)
				c.Bind(o)
				c.Write([]byte("ping"))
				c.CloseWrite()
			}), "a connection")
			if d.err != nil {
				t.Fatal(d.err)
			}
			peer, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			on(t, l, func() {
				wantFlags(t, int(d.c.fd))
				if got := intOption(t, d.c.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE); got != 0 {
					t.Errorf("got SO_KEEPALIVE %d at once, want it once the connection has lasted", got)
				}
				if d.c.RemoteAddr() != to || d.c.LocalAddr().String() != peer.RemoteAddr().String() {
					t.Errorf("got %v from %v, want %v from %v", d.c.RemoteAddr(), d.c.LocalAddr(), to, peer.RemoteAddr())
				}
				if l.wheel.count != 0 {
					t.Errorf("got %d timers, want the timeout stopped", l.wheel.count)
				}
			})
			wantGrown(t, l, d.c, 42)
			if got := readAll(t, peer); string(got) != "ping" {
				t.Errorf("got %q, want \"ping\"", got)
			}
			write(t, peer, "pong")
			peer.Close()
			story(t, l, o, "data end")
			empty(t, l)
		})
	}
}

// Two small writes go out without TCP_NODELAY and a bound of what is not sent; the
// third, or a large one, has both.
func TestDialSetsOptionsWhenTheyMatter(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []int
		want   int
	}{
		{"nothing written", nil, 0},
		{"two small writes", []int{bareWrite, 1}, 0},
		{"a third", []int{1, 1, 1}, 1},
		{"a large one first", []int{bareWrite + 1}, 1},
		{"a large one behind a small one", []int{1, bareWrite + 1}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLoop(t)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			d := await(t, dialOn(t, l, "tcp", netip.MustParseAddrPort(ln.Addr().String()), "", DialOptions{KeepAlive: -1}, nil), "a connection")
			if d.err != nil {
				t.Fatal(d.err)
			}
			for _, n := range c.writes { // each in a turn of its own
				on(t, l, func() {
					if got := d.c.Write(pattern(n)); got != n {
						t.Errorf("got %d octets written, want %d", got, n)
					}
				})
			}
			on(t, l, func() {
				if got := intOption(t, d.c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY); got != c.want {
					t.Errorf("got TCP_NODELAY %d, want %d", got, c.want)
				}
				if got := intOption(t, d.c.fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT); got != c.want*NotSentLowat {
					t.Errorf("got TCP_NOTSENT_LOWAT %d, want %d", got, c.want*NotSentLowat)
				}
				d.c.Reset(ReasonInternal)
			})
		})
	}
}

// The server speaks before the client is bound: the edge that says so has gone by
// with the connect.
func TestDialToAServerThatSpeaksFirst(t *testing.T) {
	l := newLoop(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	d := await(t, dialOn(t, l, "tcp", netip.MustParseAddrPort(ln.Addr().String()), "", DialOptions{}, nil), "a connection")
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	write(t, peer, "hello")
	peer.Close()
	until(t, l, "input", func() bool { return d.c.has(readable) && d.c.has(hup) })
	o := newOwner(d.c)
	on(t, l, func() { d.c.Bind(o) })
	story(t, l, o, "data end")
	on(t, l, d.c.CloseWrite)
	empty(t, l)
}

func TestDialRefused(t *testing.T) {
	l := newLoop(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(ln.Addr().String())
	ln.Close()
	d := await(t, dialOn(t, l, "tcp", to, "", DialOptions{Timeout: time.Minute}, nil), "an error")
	if want := "dial " + to.String() + ": connection refused"; d.err == nil || d.err.Error() != want || !errors.Is(d.err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, want %q", d.err, want)
	}
	empty(t, l)
}

func TestDialErrorsComeLater(t *testing.T) {
	l := newLoop(t)
	for _, c := range []struct {
		network, path, want string
		addr                netip.AddrPort
	}{
		{"udp", "x", `dial x: unknown network "udp"`, netip.AddrPort{}},
		{"tcp", "", "no address", netip.AddrPort{}},
		{"unix", "/nonexistent/socket", "dial /nonexistent/socket: no such file or directory", netip.AddrPort{}},
		{"tcp", "", `zone "no-such-zone"`, netip.MustParseAddrPort("[fe80::1%no-such-zone]:1")},
	} {
		d := await(t, dialOn(t, l, c.network, c.addr, c.path, DialOptions{}, nil), "an error")
		if d.c != nil || d.err == nil || !strings.Contains(d.err.Error(), c.want) {
			t.Errorf("got %v, want %q", d.err, c.want)
		}
	}
	empty(t, l)
}

// deaf returns the address of a listener whose backlog is full: a connect hangs.
func deaf(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	to := localAddr(int32(fd))
	for range 3 { // one is taken, the others hang with theirs
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(c) })
		sa, _, _ := sockaddr(to)
		if err := unix.Connect(c, sa); err != nil && err != unix.EINPROGRESS {
			t.Fatal(err)
		}
	}
	return to
}

func TestDialTimeout(t *testing.T) {
	l := newLoop(t)
	to := deaf(t)
	d := await(t, dialOn(t, l, "tcp", to, "", DialOptions{Timeout: 30 * time.Millisecond}, nil), "a timeout")
	if !errors.Is(d.err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a timeout", d.err)
	}
	empty(t, l)
}

func TestDialCancel(t *testing.T) {
	l := newLoop(t)
	to := deaf(t)
	on(t, l, func() {
		no := func(*Conn, error) { t.Error("got done after cancel, want nothing") }
		l.Dial("tcp", to, "", DialOptions{Timeout: time.Millisecond}, no)() // not begun
		refused := l.Dial("unix", netip.AddrPort{}, "/nonexistent", DialOptions{}, no)
		refused() // its error was on the way
		refused()
		if l.entries != 0 {
			t.Errorf("got %d sockets after cancel, want 0", l.entries)
		}
	})
	var cancel func()
	on(t, l, func() {
		cancel = l.Dial("tcp", to, "", DialOptions{Timeout: time.Minute}, func(*Conn, error) { t.Error("got done after cancel, want nothing") })
	})
	on(t, l, func() {
		if l.entries != 1 {
			t.Errorf("got %d sockets a turn after the dial, want it under way", l.entries)
		}
		cancel()
	})
	empty(t, l)
	fired := make(chan struct{})
	on(t, l, func() { l.After(5*time.Millisecond, &Timer{Fire: func() { close(fired) }}) })
	await(t, fired, "the time of the timeout to go by")
}

// A dial that is cancelled in its own turn never shows on the wire.
func TestDialCancelledAtOnceConnectsNothing(t *testing.T) {
	l := newLoop(t)
	ln := listen(t, "127.0.0.1:0")
	defer ln.Close()
	to := netip.MustParseAddrPort(ln.Addr().String())
	second := make(chan dialled, 1)
	on(t, l, func() {
		l.Dial("tcp", to, "", DialOptions{}, func(*Conn, error) { t.Error("got done after cancel, want nothing") })()
		l.Dial("tcp", to, "", DialOptions{}, func(c *Conn, err error) { second <- dialled{c, err} })
	})
	d := await(t, second, "a connection")
	if d.err != nil {
		t.Fatal(d.err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	on(t, l, func() {
		if got, want := peer.RemoteAddr().String(), d.c.LocalAddr().String(); got != want {
			t.Errorf("got a first connection from %s, want the one that was not cancelled, from %s", got, want)
		}
		d.c.Reset(ReasonInternal)
	})
	empty(t, l)
}

// Who dials again when a dial has failed, and again, shares the loop with others.
func TestDialAgainWhenItFailed(t *testing.T) {
	l := newLoop(t)
	const tries = 5
	var again func(n int)
	ends := make(chan []int, 1)
	var seen []int // tries before each post that ran between them
	failed := 0
	again = func(n int) {
		l.Dial("unix", netip.AddrPort{}, "/nonexistent", DialOptions{}, func(_ *Conn, err error) {
			if failed++; err == nil {
				t.Error("got a connection, want an error")
			}
			l.Post(func() { seen = append(seen, failed) })
			if n < tries {
				again(n + 1)
			} else {
				l.Post(func() { ends <- seen })
			}
		})
	}
	on(t, l, func() { again(1) })
	if got := await(t, ends, "the last error"); len(got) != tries || got[0] != 1 {
		t.Errorf("got posts after %v failures, want one after each of %d", got, tries)
	}
	empty(t, l)
}

func TestCancelAfterDoneIsNothing(t *testing.T) {
	l := newLoop(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan *Conn, 1)
	var cancel func()
	on(t, l, func() {
		cancel = l.Dial("tcp", netip.MustParseAddrPort(ln.Addr().String()), "", DialOptions{}, func(c *Conn, err error) { done <- c })
	})
	c := await(t, done, "a connection")
	on(t, l, func() {
		cancel()
		if c.has(dead) || l.entries != 1 {
			t.Error("got the connection closed by a late cancel, want it open")
		}
		c.Reset(ReasonInternal)
	})
}

func TestDialUnix(t *testing.T) {
	l := newLoop(t)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var o *owner
	d := await(t, dialOn(t, l, "unix", netip.AddrPort{}, path, DialOptions{}, func(c *Conn) {
		o = newOwner(c)
		c.Bind(o)
	}), "a connection")
	if d.err != nil {
		t.Fatal(d.err)
	}
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	want := pattern(1 << 20)
	on(t, l, func() { o.pump(want) })
	same(t, readAll(t, peer), want)
	write(t, peer, "tail")
	peer.Close()
	until(t, l, "end", func() bool { return strings.HasSuffix(o.story(), "data end") })
	if d.c.RemoteAddr().IsValid() || d.c.LocalAddr().IsValid() {
		t.Errorf("got %v and %v, want no addresses", d.c.RemoteAddr(), d.c.LocalAddr())
	}
	empty(t, l)
}

func TestDialUnixWaitsForTheBacklog(t *testing.T) {
	l := newLoop(t)
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	first := await(t, dialOn(t, l, "unix", netip.AddrPort{}, path, DialOptions{}, nil), "a connection")
	if first.err != nil {
		t.Fatal(first.err)
	}
	timeout := await(t, dialOn(t, l, "unix", netip.AddrPort{}, path, DialOptions{Timeout: 20 * time.Millisecond}, nil), "a timeout")
	if !errors.Is(timeout.err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want a timeout", timeout.err)
	}
	waiting := dialOn(t, l, "unix", netip.AddrPort{}, path, DialOptions{Timeout: time.Minute}, nil)
	turns(t, l, 3)
	if len(waiting) != 0 {
		t.Error("got an answer with a full backlog, want it to wait")
	}
	a, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(a)
	second := await(t, waiting, "a connection")
	if second.err != nil {
		t.Fatal(second.err)
	}
	on(t, l, func() { first.c.Reset(ReasonInternal); second.c.Reset(ReasonInternal) })
}

func TestStopEndsADial(t *testing.T) {
	l := newLoop(t)
	ch := dialOn(t, l, "tcp", deaf(t), "", DialOptions{}, nil)
	l.Stop()
	if d := await(t, ch, "an error"); !errors.Is(d.err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", d.err)
	}
}
