package loop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// silent checks that nothing has come to the peer.
func silent(t testing.TB, peer *net.TCPConn) {
	t.Helper()
	raw, err := peer.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT); err != unix.EAGAIN {
			t.Errorf("got %d octets, %v at the peer, want nothing yet", n, err)
		}
	})
}

// wantRead reads exactly want.
func wantRead(t testing.TB, peer io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(peer, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got[:n], err, want)
	}
}

// Small writes go out at the end of the turn, in order; where nothing lies between
// them, together.
func TestSmallWritesGoOutAtTheEndOfTheTurn(t *testing.T) {
	l := newLoop(t)
	a, peerA := adopted(t, l)
	b, peerB := adopted(t, l)
	on(t, l, func() {
		for _, w := range []struct {
			o *owner
			s string
		}{{a, "one "}, {a, "two "}, {b, "three "}, {a, "four"}, {b, "five"}} {
			if n := w.o.c.Write([]byte(w.s)); n != len(w.s) {
				t.Errorf("got %d octets taken, want %d", n, len(w.s))
			}
		}
		if n := len(l.lates); n != 4 {
			t.Errorf("got %d writes for the end of the turn, want 4", n)
		}
		silent(t, peerA)
		silent(t, peerB)
	})
	wantRead(t, peerA, "one two four")
	wantRead(t, peerB, "three five")
	on(t, l, func() {
		if len(l.lates)+len(l.lateBuf) != 0 || a.c.late || b.c.late || a.c.owed != nil {
			t.Errorf("got %d writes of %d octets left, want none", len(l.lates), len(l.lateBuf))
		}
	})
}

// What does not wait finds what waits ahead of it.
func TestSmallWritesGoAheadOfWhatFollows(t *testing.T) {
	large := pattern(lateWrite + 1)
	for _, next := range []struct {
		name string
		do   func(*Conn)
		want []byte
		end  error // io.EOF or a reset
	}{
		{"a large write", func(c *Conn) { c.Write(large); c.Write([]byte(" more")); c.CloseWrite() }, append(bytes.Clone(large), " more"...), io.EOF},
		{"our end", (*Conn).CloseWrite, nil, io.EOF},
		{"Finish", func(c *Conn) { c.Finish(patience) }, nil, io.EOF},
		{"our reset", func(c *Conn) { c.Reset(ReasonFarSide) }, nil, syscall.ECONNRESET},
	} {
		t.Run(next.name, func(t *testing.T) {
			l := newLoop(t)
			o, peer := adopted(t, l)
			on(t, l, func() {
				o.c.Write([]byte("small"))
				next.do(o.c)
			})
			wantRead(t, peer, "small"+string(next.want))
			if n, err := peer.Read(make([]byte, 1)); n != 0 || !errors.Is(err, next.end) {
				t.Errorf("got %d octets, %v; want %v", n, err, next.end)
			}
			peer.Close()
			empty(t, l)
		})
	}
}

// A large write may not overtake a small one that the kernel does not take.
func TestLargeWriteBehindASmallOneThatWaits(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	on(t, l, func() {
		o.c.Write([]byte("small"))
		o.c.owed = &debt{buf: append(l.Buffer(5), "kept "...)}
		if n := o.c.Write(pattern(lateWrite + 1)); n != 0 {
			t.Errorf("got %d octets taken, want 0", n)
		}
		o.c.drained()
		o.c.CloseWrite()
	})
	if got := readAll(t, peer); string(got) != "kept small" {
		t.Errorf("got %d octets, %.20q; want \"kept small\"", len(got), got)
	}
}

// So that no more than one piece of ciphertext waits besides small writes, a large
// one is not begun.
func TestTLSLargeWriteBehindASmallOneThatWaits(t *testing.T) {
	l := newLoop(t)
	sc, shim, _, _ := shaken(t, serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	o := adoptTLS(t, l, sc, shim)
	on(t, l, func() {
		o.c.Write([]byte("small"))
		o.c.owed = &debt{buf: append(l.Buffer(5), "kept "...)}
		if n := o.c.Write(pattern(lateWrite + 1)); n != 0 {
			t.Errorf("got %d octets taken, want 0", n)
		}
		if n := o.c.owing(); n > 100 {
			t.Errorf("got %d octets kept, want those of the small write", n)
		}
		o.c.Reset(ReasonInternal)
	})
}

// The loop ends in the turn in which it was written.
func TestSmallWritesGoOutBeforeTheLoopEnds(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	on(t, l, func() {
		o.c.Write([]byte("last words"))
		l.Stop()
	})
	wantRead(t, peer, "last words")
	wantReset(t, peer)
}

// Behind the last work of a turn, when a dial fails at once, there is another turn.
func TestSmallWriteAtTheEndOfTheTurn(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	failed := make(chan error, 1)
	on(t, l, func() {
		wait := l.epoll
		l.epoll = func(fd int, ev []unix.EpollEvent, ms int, park bool) (int, unix.Errno) {
			if ms != 0 && len(l.lates) > 0 {
				t.Error("got a loop that sleeps, want it to send first")
			}
			return wait(fd, ev, ms, park)
		}
		l.Dial("nothing", netip.AddrPort{}, "", DialOptions{}, func(_ *Conn, err error) {
			o.c.Write([]byte("502"))
			failed <- err
		})
	})
	wantRead(t, peer, "502")
	if err := await(t, failed, "an answer"); err == nil {
		t.Error("got a connection, want an error")
	}
}

// More small writes in one turn than wait at a time.
func TestManySmallWritesInATurn(t *testing.T) {
	for _, size := range []int{1, lateWrite} {
		l := newLoop(t)
		a, peerA := adopted(t, l)
		b, peerB := adopted(t, l)
		want := pattern(3 * maxLates)
		if size > 1 {
			want = pattern(3 * scratchSize)
		}
		on(t, l, func() {
			for p := want; len(p) > 0; {
				n := min(size, len(p))
				if a.c.Write(p[:n]) != n || b.c.Write(p[:n]) != n {
					t.Errorf("got a short write with %d octets left, want all taken", len(p))
					break
				}
				p = p[n:]
				if len(l.lates) > maxLates || cap(l.lates) != maxLates || cap(l.lateBuf) != scratchSize {
					t.Errorf("got %d writes in %d octets, want at most %d in %d", len(l.lates), cap(l.lateBuf), maxLates, scratchSize)
					break
				}
			}
			a.c.CloseWrite()
			b.c.CloseWrite()
		})
		same(t, readAll(t, peerA), want)
		same(t, readAll(t, peerB), want)
	}
}

// choke fills the socket with small writes, so that the last of them wait in our
// memory, and returns what was taken.
func choke(t *testing.T, o *owner) []byte {
	t.Helper()
	l := o.c.loop
	sent := pattern(16 << 20)
	taken := 0
	on(t, l, func() {
		for n := 1; n > 0 && taken+1000 < len(sent); taken += n {
			n = o.c.Write(sent[taken : taken+1000])
		}
		if o.c.Room() != 0 {
			t.Errorf("got room after %d octets, want a full socket", taken)
		}
	})
	on(t, l, func() {
		if n := o.c.owing(); n == 0 || n > scratchSize+lateWrite {
			t.Errorf("got %d octets kept, want some, at most %d", n, scratchSize+lateWrite)
		}
		if n := o.c.Write([]byte("x")); n != 0 {
			t.Errorf("got %d octets taken behind what waits, want 0", n)
		}
	})
	return sent[:taken]
}

func choked(t *testing.T, l *Loop) (*owner, *net.TCPConn, []byte) {
	t.Helper()
	o, peer := adopted(t, l)
	return o, peer, choke(t, o)
}

// Records of small writes keep their order among others, and close_notify goes out
// with the last of them.
func TestTLSSmallWrites(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		l := newLoop(t)
		sc, shim, cc, peer := shaken(t, serverConfig(t, version), clientConfig(version))
		o := adoptTLS(t, l, sc, shim)
		large := pattern(lateWrite)
		on(t, l, func() {
			o.c.Write([]byte("one "))
			o.c.Write([]byte("two "))
			silent(t, peer)
			o.c.Write(large)
			o.c.Write([]byte("three"))
			if len(l.lates) != 1 {
				t.Errorf("got %d writes for the end of the turn, want 1", len(l.lates))
			}
			o.c.CloseWrite()
		})
		if got, want := string(readAll(t, cc)), "one two "+string(large)+"three"; got != want {
			t.Errorf("got %d octets, want the same %d", len(got), len(want))
		}
		cc.Close()
		story(t, l, o, "end")
		empty(t, l)
	})
}

func TestTLSSmallWritesThatTheKernelDoesNotTake(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		l := newLoop(t)
		sc, shim, cc, _ := shaken(t, serverConfig(t, version), clientConfig(version))
		o := adoptTLS(t, l, sc, shim)
		sent := choke(t, o)
		on(t, l, o.c.CloseWrite)
		same(t, readAll(t, cc), sent)
		cc.Close()
		story(t, l, o, "end")
		empty(t, l)
	})
}

func TestSmallWritesThatTheKernelDoesNotTake(t *testing.T) {
	t.Run("go out when it does", func(t *testing.T) {
		l := newLoop(t)
		o, peer, sent := choked(t, l)
		on(t, l, func() { o.onWrite = func() { o.c.Write([]byte(" more")); o.c.CloseWrite() } })
		same(t, readAll(t, peer), append(sent, " more"...))
		on(t, l, func() {
			if o.c.owes() {
				t.Error("got a buffer kept, want it given back")
			}
		})
		peer.Close()
		story(t, l, o, "writable end")
		empty(t, l)
	})
	t.Run("go ahead of our end", func(t *testing.T) {
		l := newLoop(t)
		o, peer, sent := choked(t, l)
		on(t, l, func() {
			o.c.CloseWrite()
			if o.c.has(finSent) {
				t.Error("got FIN sent, want it behind what waits")
			}
		})
		same(t, readAll(t, peer), sent)
		peer.Close()
		story(t, l, o, "end")
		empty(t, l)
	})
	t.Run("arrive though both ends are over", func(t *testing.T) {
		l := newLoop(t)
		o, peer, sent := choked(t, l)
		on(t, l, func() { o.onEnd = func() { o.c.CloseWrite(); o.c.Reset(ReasonFarSide) } })
		peer.CloseWrite()
		story(t, l, o, "end")
		same(t, readAll(t, peer), sent)
		empty(t, l)
	})
	t.Run("arrive after Finish", func(t *testing.T) {
		l := newLoop(t)
		o, peer, sent := choked(t, l)
		on(t, l, func() { o.c.Finish(patience) })
		same(t, readAll(t, peer), sent)
		peer.Close()
		empty(t, l)
		story(t, l, o, "")
	})
	t.Run("are lost with our reset", func(t *testing.T) {
		l := newLoop(t)
		o, peer, _ := choked(t, l)
		on(t, l, func() {
			o.c.Reset(ReasonFarSide)
			if o.c.owes() {
				t.Error("got a buffer kept, want it given back")
			}
		})
		wantReset(t, peer)
		empty(t, l)
		story(t, l, o, "")
	})
	t.Run("are lost with the peer's reset", func(t *testing.T) {
		l := newLoop(t)
		o, peer, _ := choked(t, l)
		abort(peer)
		story(t, l, o, "broken")
		if o.fail.Reason != ReasonReset || !o.fail.Remote {
			t.Errorf("got %v, want a reset by the peer", o.fail)
		}
		empty(t, l)
	})
	t.Run("are lost when nobody reads after Finish", func(t *testing.T) {
		l := newLoop(t)
		o, peer, _ := choked(t, l)
		on(t, l, func() { o.c.Finish(time.Millisecond) })
		empty(t, l)
		wantReset(t, peer)
	})
}

// TestWriteMore: the octets go out with what follows them.
func TestWriteMore(t *testing.T) {
	l := newLoop(t)
	o, _ := adopted(t, l)
	on(t, l, func() {
		o.c.WriteMore([]byte("this and"))
		o.c.Write([]byte(" that"))
		l.runLate()
		if n, err := unix.IoctlGetInt(int(o.c.fd), unix.SIOCOUTQNSD); n != 0 || err != nil {
			t.Errorf("got %d octets not sent behind a write, %v; want 0", n, err)
		}
	})
	for _, next := range []struct {
		name string
		do   func(*Conn)
		want string
	}{
		{"the end", (*Conn).CloseWrite, "close"},
		{"more", func(c *Conn) { c.Write([]byte(" more")); c.CloseWrite() }, "close more"},
	} {
		o, peer := adopted(t, l)
		on(t, l, func() {
			if n := o.c.WriteMore([]byte("close")); n != 5 {
				t.Errorf("%s: got %d octets taken, want 5", next.name, n)
			}
			l.runLate()
			if n, err := unix.IoctlGetInt(int(o.c.fd), unix.SIOCOUTQNSD); n != 5 || err != nil {
				t.Errorf("%s: got %d octets not sent, %v; want 5", next.name, n, err)
			}
			next.do(o.c)
			if n := o.c.WriteMore([]byte("late")); n != 0 {
				t.Errorf("%s: got %d octets taken behind the end, want 0", next.name, n)
			}
		})
		if got := readAll(t, peer); string(got) != next.want {
			t.Errorf("%s: got %q, want %q", next.name, got, next.want)
		}
		peer.Close()
	}
}
