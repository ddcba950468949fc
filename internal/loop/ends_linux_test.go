package loop

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wantReset reads until the peer's socket reports a reset.
func wantReset(t testing.TB, peer net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, peer)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v at the peer, want ECONNRESET", err)
	}
}

// abort closes the peer so that it sends an RST.
func abort(peer *net.TCPConn) {
	peer.SetLinger(0)
	peer.Close()
}

func TestResetSendsRST(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	on(t, l, func() {
		o.c.Write([]byte("tail"))
		o.c.Reset(ReasonFarSide)
		o.c.Reset(ReasonFarSide) // idempotent
	})
	wantReset(t, peer)
	turns(t, l, 3)
	on(t, l, func() {
		if o.story() != "" {
			t.Errorf("got %q after Reset, want no call", o.story())
		}
		if n := o.c.Write([]byte("x")); n != 0 || o.c.Room() != 0 {
			t.Errorf("got %d taken and room %d after Reset, want 0", n, o.c.Room())
		}
		o.c.CloseWrite()
		o.c.Resume()
		o.c.Finish(time.Second)
		o.c.Bind(o)
	})
	empty(t, l)
}

func TestResetFirstSeenByAWriteIsStillAReset(t *testing.T) {
	for _, tail := range []string{"the tail", ""} {
		t.Run(fmt.Sprintf("tail %q", tail), func(t *testing.T) {
			l := newLoop(t)
			o, peer := adopted(t, l)
			on(t, l, func() { o.c.Bind(nil) }) // nobody reads, so a write is first
			write(t, peer, tail)
			abort(peer)
			until(t, l, "reset at the socket", func() bool { return o.c.has(sockErr) })
			on(t, l, func() {
				o.c.Write([]byte("x"))
				o.c.Write(make([]byte, lateWrite+1)) // EPIPE, but the first failure counts
			})
			on(t, l, func() {
				if o.c.fail == nil || o.story() != "" {
					t.Errorf("got failure %v and story %q, want it remembered and not told yet", o.c.fail, o.story())
				}
				if n := o.c.Write([]byte("x")); n != 0 || o.c.Room() != 0 {
					t.Errorf("got %d taken and room %d, want none", n, o.c.Room())
				}
				o.c.Bind(o)
			})
			want := "data broken"
			if tail == "" {
				want = "broken"
			}
			story(t, l, o, want)
			if o.got.String() != tail {
				t.Errorf("got tail %q, want %q", o.got.String(), tail)
			}
			if o.fail.Reason != ReasonReset || !o.fail.Remote || !errors.Is(o.fail, syscall.ECONNRESET) {
				t.Errorf("got %v, want a reset by the peer", o.fail)
			}
			empty(t, l)
		})
	}
}

func TestResetSeenByARead(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	write(t, peer, "tail")
	abort(peer)
	story(t, l, o, "data broken")
	if o.got.String() != "tail" || o.fail.Reason != ReasonReset || !o.fail.Remote {
		t.Errorf("got %q and %v, want the tail and a reset by the peer", o.got.String(), o.fail)
	}
	empty(t, l)
}

// TestUrgentDataAheadOfTheFIN: a read stops where urgent data begins, which is no
// end. The kernel takes the urgent octet itself out of the stream (RFC 6093 section 3.1).
func TestUrgentDataAheadOfTheFIN(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	on(t, l, func() { o.c.Bind(nil) }) // nobody reads until all of it is there
	write(t, peer, "before ")
	raw, err := peer.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	write(t, peer, "behind")
	peer.CloseWrite()
	until(t, l, "FIN at the socket", func() bool { return o.c.has(hup) })
	on(t, l, func() { o.c.Bind(o) })
	story(t, l, o, "data end")
	if got := o.got.String(); got != "before behind" {
		t.Errorf("got %q, want all of it", got)
	}
}

// TestTailAndFINAtOnce: what comes ahead of the FIN is delivered, whoever takes it
// and in however many pieces, and then the end.
func TestTailAndFINAtOnce(t *testing.T) {
	tail := strings.Repeat("0123456789", 20000) // more than one read
	for _, take := range []int{len(tail), 7000} {
		l := newLoop(t)
		o, peer := adopted(t, l)
		on(t, l, func() { o.c.Bind(nil) })
		go func() {
			io.WriteString(peer, tail)
			peer.CloseWrite()
		}()
		until(t, l, "something at the socket", func() bool { return o.c.has(readable) })
		on(t, l, func() {
			o.want = take
			o.c.Bind(o)
		})
		until(t, l, "the end", func() bool { return o.c.has(eof) })
		turns(t, l, 2)
		on(t, l, func() {
			if o.got.String() != tail || !strings.HasSuffix(o.story(), "data end") {
				t.Errorf("got %d octets and %q, want %d and the end", o.got.Len(), o.story(), len(tail))
			}
		})
	}
}

func TestResetBehindTheFINIsNotOrderly(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	write(t, peer, "tail")
	peer.CloseWrite()
	story(t, l, o, "data end")
	abort(peer)
	story(t, l, o, "data end broken")
	if o.fail.Reason != ReasonReset {
		t.Errorf("got %v, want a reset", o.fail)
	}
	empty(t, l)
}

func TestResetWhileAWriteWaits(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	on(t, l, func() {
		o.pump(pattern(8 << 20))
		if o.c.Room() != 0 {
			t.Error("got room, want a full socket")
		}
	})
	abort(peer)
	until(t, l, "broken", func() bool { return o.fail != nil })
	if o.fail.Reason != ReasonReset {
		t.Errorf("got %v, want a reset", o.fail)
	}
	empty(t, l)
}

// The four orders of two FINs. The tail always arrives, nobody sees a reset, and
// the socket is closed only after both.
func TestOrderlyEnds(t *testing.T) {
	t.Run("peer first", func(t *testing.T) {
		l := newLoop(t)
		o, peer := adopted(t, l)
		write(t, peer, "from peer")
		peer.CloseWrite()
		story(t, l, o, "data end")
		on(t, l, func() {
			if l.entries != 1 {
				t.Errorf("got %d sockets, want ours open until our FIN", l.entries)
			}
			o.c.Write([]byte("from us"))
			o.c.CloseWrite()
			o.c.Reset(ReasonFarSide) // nothing after two clean ends
			if l.entries != 0 {
				t.Errorf("got %d sockets, want it closed with our FIN", l.entries)
			}
		})
		if got := readAll(t, peer); string(got) != "from us" || o.got.String() != "from peer" {
			t.Errorf("got %q and %q, want both tails", got, o.got.String())
		}
	})
	t.Run("we first", func(t *testing.T) {
		l := newLoop(t)
		o, peer := adopted(t, l)
		on(t, l, func() {
			o.c.Write([]byte("from us"))
			o.c.CloseWrite()
			o.c.CloseWrite() // idempotent
			if n := o.c.Write([]byte("x")); n != 0 {
				t.Errorf("got %d taken after CloseWrite, want 0", n)
			}
		})
		if got := readAll(t, peer); string(got) != "from us" {
			t.Errorf("got %q, want our tail", got)
		}
		turns(t, l, 5)
		on(t, l, func() {
			if l.entries != 1 {
				t.Errorf("got %d sockets, want ours open until the peer's FIN", l.entries)
			}
		})
		write(t, peer, "from peer")
		peer.CloseWrite()
		story(t, l, o, "data end")
		empty(t, l)
		on(t, l, func() { o.c.Reset(ReasonFarSide) })
		readAll(t, peer) // still EOF, no reset
	})
	t.Run("both at once", func(t *testing.T) {
		l := newLoop(t)
		o, peer := adopted(t, l)
		on(t, l, func() {
			o.c.Write([]byte("from us"))
			write(t, peer, "from peer")
			peer.CloseWrite()
			o.c.CloseWrite()
		})
		story(t, l, o, "data end")
		if got := readAll(t, peer); string(got) != "from us" || o.got.String() != "from peer" {
			t.Errorf("got %q and %q, want both tails", got, o.got.String())
		}
		empty(t, l)
	})
	t.Run("within End", func(t *testing.T) {
		l := newLoop(t)
		o, peer := adopted(t, l)
		on(t, l, func() {
			o.onEnd = func() { o.c.Write([]byte("from us")); o.c.CloseWrite(); o.c.Reset(ReasonFarSide) }
		})
		peer.CloseWrite()
		if got := readAll(t, peer); string(got) != "from us" {
			t.Errorf("got %q, want our tail", got)
		}
		empty(t, l)
	})
	t.Run("nothing but FINs", func(t *testing.T) {
		l := newLoop(t)
		o, peer := adopted(t, l)
		on(t, l, o.c.CloseWrite)
		peer.CloseWrite()
		story(t, l, o, "end")
		readAll(t, peer)
		empty(t, l)
	})
}

func TestPeerThatClosesAtOnceEndsInOrder(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	write(t, peer, "tail")
	peer.Close() // one FIN; the peer is gone altogether
	story(t, l, o, "data end")
	on(t, l, o.c.CloseWrite)
	empty(t, l)
}

func TestEndsComeWhileWantIsZero(t *testing.T) {
	t.Run("fin", func(t *testing.T) {
		l := newLoop(t)
		o, peer := adopted(t, l)
		on(t, l, func() { o.want = 0 })
		peer.CloseWrite()
		story(t, l, o, "end")
	})
	t.Run("reset", func(t *testing.T) {
		l := newLoop(t)
		o, peer := adopted(t, l)
		on(t, l, func() { o.want = 0 })
		abort(peer)
		story(t, l, o, "broken")
		empty(t, l)
	})
	t.Run("a tail waits", func(t *testing.T) {
		l := newLoop(t)
		o, peer := adopted(t, l)
		on(t, l, func() { o.want = 0 })
		write(t, peer, "tail")
		abort(peer)
		until(t, l, "reset at the socket", func() bool { return o.c.has(sockErr) })
		on(t, l, func() {
			if o.story() != "" {
				t.Errorf("got %q, want silence while a tail waits", o.story())
			}
			o.want = 100
			o.c.Resume()
		})
		story(t, l, o, "data broken")
	})
}

func TestFinishDiscardsUntilTheFIN(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	on(t, l, func() {
		o.c.Write([]byte("413"))
		o.c.Finish(time.Hour)
		o.c.Reset(ReasonInternal) // the socket is the loop's now
	})
	write(t, peer, string(pattern(300000)))
	if got := readAll(t, peer); string(got) != "413" {
		t.Errorf("got %q, want the answer and EOF", got)
	}
	write(t, peer, string(pattern(300000))) // still no RST
	peer.CloseWrite()
	empty(t, l)
	on(t, l, func() {
		if o.story() != "" {
			t.Errorf("got %q, want no call after Finish", o.story())
		}
		if l.wheel.count != 0 {
			t.Errorf("got %d timers, want the linger stopped", l.wheel.count)
		}
	})
	readAll(t, peer)
}

func TestFinishLingerEndsInAReset(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	on(t, l, func() {
		o.c.Write([]byte("413"))
		o.c.Finish(20 * time.Millisecond)
	})
	if got := readAll(t, peer); string(got) != "413" {
		t.Errorf("got %q, want the answer and EOF", got)
	}
	empty(t, l)
	// EOF was read already, so the reset shows at a write.
	deadline := time.Now().Add(patience)
	for {
		_, err := peer.Write([]byte("x"))
		if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("got %v, want ECONNRESET or EPIPE", err)
		}
	}
}

func TestFinishAfterThePeersFINClosesAtOnce(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	peer.CloseWrite()
	story(t, l, o, "end")
	on(t, l, func() {
		o.c.Finish(time.Hour)
		if l.entries != 0 {
			t.Errorf("got %d sockets, want it closed", l.entries)
		}
	})
	readAll(t, peer)
}

// No call comes after Reset or Finish, from wherever the owner makes them.
func TestOwnerMayEndItFromWithinACallback(t *testing.T) {
	ends := map[string]func(*Conn){
		"reset":  func(c *Conn) { c.Reset(ReasonInternal) },
		"finish": func(c *Conn) { c.Finish(0) },
	}
	for name, end := range ends {
		t.Run(name+" in data", func(t *testing.T) {
			l := newLoop(t)
			o, peer := adopted(t, l)
			on(t, l, func() {
				o.want = 2
				o.take = func(p []byte) int { end(o.c); return 1 }
			})
			write(t, peer, "0123")
			peer.CloseWrite()
			empty(t, l)
			story(t, l, o, "data")
		})
		t.Run(name+" in end", func(t *testing.T) {
			l := newLoop(t)
			o, peer := adopted(t, l)
			on(t, l, func() { o.onEnd = func() { end(o.c) } })
			peer.CloseWrite()
			empty(t, l)
			story(t, l, o, "end")
		})
		t.Run(name+" in writable", func(t *testing.T) {
			l := newLoop(t)
			o, peer := adopted(t, l)
			on(t, l, func() {
				o.c.Write(make([]byte, 8<<20))
				o.onWrite = func() { end(o.c) }
			})
			go io.Copy(io.Discard, peer)
			until(t, l, "writable", func() bool { return o.story() != "" })
			peer.Close()
			empty(t, l)
			story(t, l, o, "writable")
		})
		t.Run(name+" in broken", func(t *testing.T) {
			l := newLoop(t)
			o, peer := adopted(t, l)
			on(t, l, func() { o.onBroken = func(*ResetError) { end(o.c) } })
			abort(peer)
			story(t, l, o, "broken")
			empty(t, l)
		})
	}
}

// An RST would take back what was written last; ReasonComplete sends none.
func TestResetCompleteLetsTheTailArrive(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	on(t, l, func() { o.want = 0 })
	write(t, peer, "unread") // a plain close would answer this with an RST
	on(t, l, func() {
		o.c.Write([]byte("last words"))
		o.c.Reset(ReasonComplete)
		o.c.Reset(ReasonInternal) // the socket is the loop's now
	})
	if got := readAll(t, peer); string(got) != "last words" {
		t.Errorf("got %q, want the last words and EOF", got)
	}
	peer.CloseWrite()
	empty(t, l)
	on(t, l, func() {
		if o.story() != "" {
			t.Errorf("got %q, want no call", o.story())
		}
	})
}

// TestEnding: an owner knows of octets that the end follows them, if it does.
func TestEnding(t *testing.T) {
	l := newLoop(t)
	for _, fin := range []bool{true, false} {
		o, peer := adopted(t, l)
		on(t, l, func() { o.c.Bind(nil) })
		write(t, peer, "tail")
		if fin {
			peer.CloseWrite()
		}
		until(t, l, "all of it at the socket", func() bool { return o.c.has(readable) && o.c.has(hup) == fin })
		on(t, l, func() {
			o.take = func(p []byte) int {
				if got := o.c.Ending(); got != fin {
					t.Errorf("FIN behind it %v: got ending %v", fin, got)
				}
				return len(p)
			}
			o.c.Bind(o)
		})
		until(t, l, "the octets", func() bool { return o.got.String() == "tail" })
		on(t, l, func() {
			if o.c.Ending() {
				t.Error("got ending outside of Data")
			}
			o.c.Reset(ReasonInternal)
		})
	}
}
