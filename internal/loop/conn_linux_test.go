package loop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// story waits until the owner's log is want.
func story(t testing.TB, l *Loop, o *owner, want string) {
	t.Helper()
	got, deadline := "", time.Now().Add(patience)
	for {
		on(t, l, func() { got = o.story() })
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got story %q, want %q", got, want)
		}
	}
}

// empty waits until the loop has closed all its sockets.
func empty(t testing.TB, l *Loop) {
	t.Helper()
	until(t, l, "closed socket", func() bool { return l.entries == 0 })
}

func write(t testing.TB, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func TestConnIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(Conn{}); got > 250 {
		t.Errorf("got %d octets per Conn, want at most 250", got)
	}
}

func TestPlainEcho(t *testing.T) {
	l := newLoop(t)
	ours, peer := pipe(t)
	on(t, l, func() {
		c, err := l.AdoptTCP(ours)
		if err != nil {
			t.Error(err)
			return
		}
		c.Bind(&echoer{c: c})
	})
	want := pattern(4 << 20)
	go func() {
		peer.Write(want)
		peer.CloseWrite()
	}()
	same(t, readAll(t, peer), want)
	empty(t, l)
}

// socketsOf counts the descriptors of this process that name the same file as fd.
func socketsOf(t *testing.T, fd int) int {
	t.Helper()
	want, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if got, _ := os.Readlink("/proc/self/fd/" + name.Name()); got == want {
			n++
		}
	}
	return n
}

// wantFlags checks that fd is non-blocking, close-on-exec and the only one.
func wantFlags(t *testing.T, fd int) {
	t.Helper()
	status, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || status&unix.O_NONBLOCK == 0 {
		t.Errorf("got flags %#x (%v), want O_NONBLOCK", status, err)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("got flags %#x (%v), want FD_CLOEXEC", flags, err)
	}
	if n := socketsOf(t, fd); n != 1 {
		t.Errorf("got %d descriptors of the socket, want exactly 1", n)
	}
}

func TestMovedDescriptorIsTheOnlyOne(t *testing.T) {
	l := newLoop(t)
	t.Run("tcp", func(t *testing.T) {
		ours, peer := pipe(t)
		on(t, l, func() {
			c, err := l.AdoptTCP(ours)
			if err != nil {
				t.Error(err)
				return
			}
			wantFlags(t, int(c.fd))
			if c.RemoteAddr().String() != peer.LocalAddr().String() || c.LocalAddr().String() != peer.RemoteAddr().String() {
				t.Errorf("got %v and %v, want %v and %v", c.RemoteAddr(), c.LocalAddr(), peer.LocalAddr(), peer.RemoteAddr())
			}
			if c.Loop() != l {
				t.Error("got another loop, want its own")
			}
		})
		if _, err := ours.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v from the old connection, want it closed", err)
		}
	})
	t.Run("tls", func(t *testing.T) {
		sc, shim, _, peer := shaken(t, serverConfig(t, 0x304), clientConfig(0x304))
		o := adoptTLS(t, l, sc, shim)
		on(t, l, func() { wantFlags(t, int(o.c.fd)) })
		if got := shim.RemoteAddr().String(); got != peer.LocalAddr().String() {
			t.Errorf("got remote %v, want %v", got, peer.LocalAddr())
		}
	})
}

func TestShortDataIsSilentUntilResume(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	take := 3
	on(t, l, func() { o.take = func(p []byte) int { return min(take, len(p)) } })
	write(t, peer, "0123456789")
	until(t, l, "data", func() bool { return o.datas == 1 })
	write(t, peer, "abc")
	peer.CloseWrite()
	turns(t, l, 10)
	on(t, l, func() {
		if o.datas != 1 || o.story() != "data" {
			t.Errorf("got %d calls of Data and %q, want silence until Resume", o.datas, o.story())
		}
		o.c.Resume()
		o.c.Resume()
		if o.datas != 1 {
			t.Error("got Data within Resume, want it in the next turn")
		}
	})
	until(t, l, "data", func() bool { return o.datas == 2 })
	turns(t, l, 5)
	on(t, l, func() {
		if got := o.got.String(); got != "012345" || o.datas != 2 {
			t.Errorf("got %q in %d calls, want \"012345\" in 2", got, o.datas)
		}
		take = 100
		o.c.Resume()
	})
	story(t, l, o, "data end")
	if got := o.got.String(); got != "0123456789abc" {
		t.Errorf("got %q, want all in order", got)
	}
	on(t, l, o.c.CloseWrite)
	empty(t, l)
}

func TestResumeWithinDataCounts(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	on(t, l, func() {
		o.take = func(p []byte) int {
			o.c.Resume()
			return 1
		}
	})
	write(t, peer, "0123456789")
	peer.CloseWrite()
	story(t, l, o, "data end")
	if got := o.got.String(); got != "0123456789" || o.datas != 10 {
		t.Errorf("got %q in %d calls, want all in 10", got, o.datas)
	}
}

func TestWantBoundsData(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	on(t, l, func() { o.want = 7 })
	write(t, peer, "0123456789abcdefghij")
	until(t, l, "data", func() bool { return o.got.Len() == 20 })
	on(t, l, func() {
		if o.maxData > 7 {
			t.Errorf("got %d octets at once, want at most 7", o.maxData)
		}
		o.want = 0
	})
	write(t, peer, "more")
	turns(t, l, 5)
	on(t, l, func() {
		if o.got.Len() != 20 {
			t.Errorf("got %d octets, want 20 while Want is 0", o.got.Len())
		}
		o.want = 2
	})
	write(t, peer, "!")
	turns(t, l, 5)
	on(t, l, func() {
		if o.got.Len() != 20 {
			t.Errorf("got %d octets, want silence until Resume", o.got.Len())
		}
		// The rest of a short take obeys Want as well.
		short := true
		o.take = func(p []byte) int {
			if short {
				short = false
				return 0
			}
			return len(p)
		}
		o.c.Resume()
	})
	until(t, l, "short take", func() bool { return o.c.pend != nil })
	on(t, l, func() { o.want, o.maxData = 1, 0; o.c.Resume() })
	until(t, l, "data", func() bool { return o.got.Len() == 25 })
	on(t, l, func() {
		if o.maxData != 1 {
			t.Errorf("got %d octets at once, want 1", o.maxData)
		}
	})
}

func TestBindHandsOverMidStream(t *testing.T) {
	l := newLoop(t)
	first, peer := adopted(t, l)
	second := newOwner(first.c)
	within := false
	on(t, l, func() {
		second.take = func(p []byte) int {
			if within {
				t.Error("got Data for the new owner within the old one's, want the next turn")
			}
			return len(p)
		}
		first.take = func(p []byte) int {
			within = true
			defer func() { within = false }()
			first.c.Bind(second)
			return 3
		}
	})
	write(t, peer, "GETthe rest")
	until(t, l, "data", func() bool { return second.got.Len() == 8 })
	write(t, peer, " and more")
	peer.CloseWrite()
	story(t, l, second, "data end")
	if first.got.String() != "GET" || second.got.String() != "the rest and more" || first.story() != "data" {
		t.Errorf("got %q (%s) and %q, want \"GET\" and the rest", first.got.String(), first.story(), second.got.String())
	}
}

func TestBindWithinAFullTakeWaitsForTheNextTurn(t *testing.T) {
	l := newLoop(t)
	first, peer := adopted(t, l)
	second := newOwner(first.c)
	var bound time.Time
	on(t, l, func() {
		first.want = 3
		first.take = func(p []byte) int {
			bound = l.Now()
			first.c.Bind(second)
			return len(p)
		}
		second.take = func(p []byte) int {
			if l.Now() == bound {
				t.Error("got Data in the turn of Bind, want the next")
			}
			return len(p)
		}
	})
	write(t, peer, "GETthe rest")
	until(t, l, "data", func() bool { return second.got.String() == "the rest" })
}

func TestBindAfterAShortTakeWakesTheStream(t *testing.T) {
	l := newLoop(t)
	first, peer := adopted(t, l)
	on(t, l, func() { first.take = func([]byte) int { return 0 } })
	write(t, peer, "glued")
	until(t, l, "data", func() bool { return first.datas == 1 })
	second := newOwner(first.c)
	on(t, l, func() { first.c.Bind(second) })
	until(t, l, "data", func() bool { return second.got.String() == "glued" })
}

func TestFourRoundsPerTurn(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	var turn time.Time
	rounds, most := 0, 0
	on(t, l, func() {
		o.want = 100
		o.c.Bind(nil)
		o.take = func(p []byte) int {
			if l.Now() != turn {
				turn, rounds = l.Now(), 0
			}
			rounds++
			most = max(most, rounds)
			return len(p)
		}
	})
	write(t, peer, string(pattern(50000)))
	until(t, l, "input", func() bool {
		n, err := unix.IoctlGetInt(int(o.c.fd), unix.TIOCINQ)
		return err == nil && n == 50000
	})
	on(t, l, func() { o.c.Bind(o) })
	// No event comes any more: the loop must go on by itself.
	until(t, l, "all of it", func() bool { return o.got.Len() == 50000 })
	if most != maxRounds {
		t.Errorf("got %d rounds in a turn, want %d", most, maxRounds)
	}
}

func TestPooledRestIsGivenBack(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	on(t, l, func() { o.take = func([]byte) int { return 0 } })
	write(t, peer, "rest")
	until(t, l, "rest", func() bool { return o.c.pend != nil })
	on(t, l, func() {
		o.c.Reset(ReasonInternal)
		if n := len(l.pool.free[0]); n != 1 {
			t.Errorf("got %d buffers in the pool, want 1", n)
		}
	})
}

func TestNotSentLowatBoundsWhatAPeerAbsorbs(t *testing.T) {
	l := newLoop(t)
	ours, _ := pipe(t)
	raw, err := ours.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = setOptions(int(fd), 0) })
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	quiet := make(chan struct{})
	on(t, l, func() {
		c, err := l.AdoptTCP(ours)
		if err != nil {
			t.Error(err)
			return
		}
		o := newOwner(c)
		still := &Timer{Fire: func() { close(quiet) }}
		o.onWrite = func() {
			for c.Room() > 0 {
				taken += c.Write(l.scratch)
			}
			l.After(200*time.Millisecond, still) // until nothing moves any more
		}
		c.Bind(o)
		o.onWrite()
	})
	await(t, quiet, "a full socket")
	on(t, l, func() {
		if taken > 1<<20 {
			t.Errorf("got %d KiB absorbed by a peer that never reads, want less than 1024", taken>>10)
		}
	})
}

func TestAdoptUnix(t *testing.T) {
	l := newLoop(t)
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	ours, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	on(t, l, func() {
		c, err := l.AdoptUnix(ours.(*net.UnixConn))
		if err != nil {
			t.Error(err)
			return
		}
		wantFlags(t, int(c.fd))
		c.Bind(&echoer{c: c})
	})
	want := pattern(1 << 20)
	go func() { peer.Write(want); peer.(*net.UnixConn).CloseWrite() }()
	same(t, readAll(t, peer), want)
	empty(t, l)
}
