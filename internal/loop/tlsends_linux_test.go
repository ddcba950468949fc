package loop

import (
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTLSCloseNotifyIsEnd(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		l := newLoop(t)
		sc, shim, cc, peer := shaken(t, serverConfig(t, version), clientConfig(version))
		o := adoptTLS(t, l, sc, shim)
		write(t, cc, "tail")
		cc.CloseWrite()
		story(t, l, o, "data end")
		on(t, l, func() {
			o.c.Write([]byte("ours goes on"))
			o.c.CloseWrite()
			o.c.Reset(ReasonFarSide) // nothing after two clean ends, though the peer's FIN is not there yet
			if l.entries != 1 {
				t.Errorf("got %d sockets, want it open until the peer's FIN", l.entries)
			}
		})
		if got := readAll(t, cc); string(got) != "ours goes on" {
			t.Errorf("got %q, want our tail", got)
		}
		peer.CloseWrite()
		empty(t, l)
		if n, err := peer.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %d octets and %v behind close_notify, want FIN", n, err)
		}
		story(t, l, o, "data end")
	})
}

func TestTLSOurCloseNotifyFirst(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		l := newLoop(t)
		sc, shim, cc, _ := shaken(t, serverConfig(t, version), clientConfig(version))
		o := adoptTLS(t, l, sc, shim)
		want := pattern(300000)
		on(t, l, func() { o.pump(want) })
		same(t, readAll(t, cc), want)
		write(t, cc, "answer")
		cc.Close() // close_notify and FIN
		until(t, l, "end", func() bool { return strings.HasSuffix(o.story(), "data end") })
		if o.got.String() != "answer" {
			t.Errorf("got %q, want \"answer\"", o.got.String())
		}
		empty(t, l)
	})
}

// Ciphertext that waits for the kernel when both directions end still arrives,
// with our close_notify behind it, though the owner calls Reset last.
func TestTLSCloseWriteDrainsFirst(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		l := newLoop(t)
		sc, shim, cc, _ := shaken(t, serverConfig(t, version), clientConfig(version))
		o := adoptTLS(t, l, sc, shim)
		sent := pattern(8 << 20)
		on(t, l, func() {
			sent = sent[:o.c.Write(sent)]
			if !o.c.owes() {
				t.Error("got no ciphertext waiting, want some")
			}
			o.onEnd = func() {
				o.c.CloseWrite()
				o.c.Reset(ReasonFarSide)
			}
		})
		cc.CloseWrite()
		story(t, l, o, "end")
		same(t, readAll(t, cc), sent)
		cc.Close()
		empty(t, l)
		story(t, l, o, "end")
	})
}

func TestTLSCloseLingerIsBounded(t *testing.T) {
	l, err := New(Config{CloseLinger: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	start(t, l)
	sc, shim, cc, _ := shaken(t, serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	o := adoptTLS(t, l, sc, shim)
	cc.CloseWrite() // and no FIN, ever
	story(t, l, o, "end")
	on(t, l, o.c.CloseWrite)
	empty(t, l)
	story(t, l, o, "end")
}

func TestTLSFinish(t *testing.T) {
	l := newLoop(t)
	sc, shim, cc, _ := shaken(t, serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	o := adoptTLS(t, l, sc, shim)
	write(t, cc, "request")
	until(t, l, "data", func() bool { return o.got.Len() > 0 })
	on(t, l, func() {
		o.c.Write([]byte("413"))
		o.c.Finish(time.Hour)
	})
	write(t, cc, string(pattern(200000)))
	if got := readAll(t, cc); string(got) != "413" {
		t.Errorf("got %q, want \"413\"", got)
	}
	cc.Close()
	empty(t, l)
	story(t, l, o, "data")
}

func TestTLSBareFINIsTruncation(t *testing.T) {
	for _, rest := range []int{0, 3, 20} {
		l := newLoop(t)
		sc, shim, w := wired(t)
		o := adoptTLS(t, l, sc, shim)
		w.Write(w.send.record(typeData, []byte("tail")))
		w.Write(w.send.record(typeData, []byte("the beginning of a record"))[:rest])
		w.CloseWrite()
		story(t, l, o, "data broken")
		if o.got.String() != "tail" || o.fail.Reason != ReasonTruncated || !o.fail.Remote {
			t.Errorf("got %q and %v, want the tail and a truncation", o.got.String(), o.fail)
		}
		empty(t, l)
	}
}

func TestTLSReset(t *testing.T) {
	l := newLoop(t)
	sc, shim, cc, peer := shaken(t, serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	o := adoptTLS(t, l, sc, shim)
	write(t, cc, "tail")
	abort(peer)
	story(t, l, o, "data broken")
	if o.got.String() != "tail" || o.fail.Reason != ReasonReset {
		t.Errorf("got %q and %v, want the tail and a reset", o.got.String(), o.fail)
	}
	sc, shim, _, peer = shaken(t, serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	o = adoptTLS(t, l, sc, shim)
	on(t, l, func() { o.c.Reset(ReasonFarSide) })
	wantReset(t, peer)
}

func TestTLSResetFirstSeenByAWriteIsStillAReset(t *testing.T) {
	l := newLoop(t)
	sc, shim, w := wired(t)
	o := adoptTLS(t, l, sc, shim)
	on(t, l, func() { o.c.Bind(nil) })
	w.Write(w.send.record(typeData, []byte("tail")))
	abort(w.TCPConn)
	until(t, l, "reset at the socket", func() bool { return o.c.has(sockErr) })
	on(t, l, func() {
		o.c.Write([]byte("x"))
	})
	on(t, l, func() {
		if o.c.fail == nil {
			t.Error("got no failure remembered, want one")
		}
		o.c.Bind(o)
	})
	story(t, l, o, "data broken")
	if o.got.String() != "tail" || o.fail.Reason != ReasonReset {
		t.Errorf("got %q and %v, want the tail and a reset", o.got.String(), o.fail)
	}
}

func TestTLSBadRecordIsAnsweredWithAnAlert(t *testing.T) {
	l := newLoop(t)
	sc, shim, w := wired(t)
	o := adoptTLS(t, l, sc, shim)
	bad := w.send.record(typeData, []byte("hello"))
	bad[len(bad)-1] ^= 1
	w.Write(append(w.send.record(typeData, nil), bad...)) // wrong sequence: broken anyhow
	story(t, l, o, "broken")
	if o.fail.Reason != ReasonProtocol || !o.fail.Remote {
		t.Errorf("got %v, want a protocol error of the peer", o.fail)
	}
	w.want(t, typeAlert, "\x02\x14") // fatal bad_record_mac
	if _, _, err := w.next(); err != io.EOF {
		t.Errorf("got %v behind the alert, want FIN", err)
	}
	w.CloseWrite()
	empty(t, l)
}

func TestTLSOversizedRecordIsRefusedOnSight(t *testing.T) {
	l := newLoop(t)
	sc, shim, w := wired(t)
	o := adoptTLS(t, l, sc, shim)
	w.Write([]byte{typeData, 3, 3, 0xff, 0xff})
	story(t, l, o, "broken")
	w.want(t, typeAlert, "\x02\x16") // fatal record_overflow
	if o.fail.Reason != ReasonProtocol {
		t.Errorf("got %v, want a protocol error", o.fail)
	}
}

func TestTLSWriteToAPeerThatIsGone(t *testing.T) {
	l := newLoop(t)
	sc, shim, _, peer := shaken(t, serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	o := adoptTLS(t, l, sc, shim)
	on(t, l, func() { o.pump(pattern(8 << 20)) })
	abort(peer)
	until(t, l, "broken", func() bool { return o.fail != nil })
	if !errors.Is(o.fail, syscall.ECONNRESET) {
		t.Errorf("got %v, want ECONNRESET", o.fail)
	}
	empty(t, l)
}

func TestTLSEndsComeWhileWantIsZero(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*wire)
		want Reason
	}{
		{"fin", func(w *wire) { w.CloseWrite() }, ReasonTruncated},
		{"reset", func(w *wire) { abort(w.TCPConn) }, ReasonReset},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLoop(t)
			sc, shim, w := wired(t)
			o := adoptTLS(t, l, sc, shim)
			w.Write(w.send.record(typeData, []byte("x")))
			until(t, l, "data", func() bool { return o.got.Len() == 1 })
			on(t, l, func() { o.want = 0 })
			c.end(w)
			story(t, l, o, "data broken")
			if o.fail.Reason != c.want {
				t.Errorf("got %v, want %v", o.fail, c.want)
			}
		})
	}
}
