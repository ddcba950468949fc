package loop

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func eachVersion(t *testing.T, f func(t *testing.T, version uint16)) {
	t.Run("1.3", func(t *testing.T) { f(t, tls.VersionTLS13) })
	t.Run("1.2", func(t *testing.T) { f(t, tls.VersionTLS12) })
}

// adoptEcho puts tc on the loop with an echo.
func adoptEcho(t *testing.T, l *Loop, tc *tls.Conn, s *Shim) *echoer {
	t.Helper()
	var e *echoer
	on(t, l, func() {
		c, err := l.AdoptTLS(tc, s)
		if err != nil {
			t.Error(err)
			return
		}
		e = &echoer{c: c, fail: make(chan *ResetError, 1)}
		c.Bind(e)
	})
	if e == nil {
		t.FailNow()
	}
	return e
}

func TestTLSEchoWithSlowReader(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		l := newLoop(t)
		sc, shim, cc, _ := shaken(t, serverConfig(t, version), clientConfig(version))
		e := adoptEcho(t, l, sc, shim)
		want := pattern(1 << 20)
		go func() {
			cc.Write(want)
			cc.CloseWrite()
		}()
		// Nobody reads until the echo has run into a full socket.
		until(t, l, "full socket", func() bool { return e.c.Room() == 0 })
		var got []byte
		buf := make([]byte, 3000)
		for {
			n, err := cc.Read(buf)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("got %v after %d octets, want EOF", err, len(got))
			}
		}
		same(t, got, want)
		cc.Close()
		empty(t, l)
		on(t, l, func() {
			if shim.in != nil || shim.out != nil || e.c.pend != nil {
				t.Error("got buffers kept, want them given back")
			}
		})
	})
}

func TestTLSClientOnTheLoop(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		l := newLoop(t)
		ours, peer := pipe(t)
		shim := NewShim(ours, NewSlots(1))
		cc := tls.Client(shim, clientConfig(version))
		sc := tls.Server(peer, serverConfig(t, version))
		errc := make(chan error, 1)
		want := pattern(1 << 20)
		go func() {
			if err := sc.Handshake(); err != nil {
				errc <- err
				return
			}
			got, err := io.ReadAll(sc)
			if err == nil && !bytes.Equal(got, want) {
				err = errors.New("the server read something else")
			}
			sc.Write([]byte("answer"))
			sc.Close()
			errc <- err
		}()
		if err := shim.Handshake(context.Background(), cc); err != nil {
			t.Fatal(err)
		}
		o := adoptTLS(t, l, cc, shim)
		on(t, l, func() { o.pump(want) })
		until(t, l, "end", func() bool { return strings.HasSuffix(o.story(), "end") })
		if err := await(t, errc, "the server"); err != nil {
			t.Error(err)
		}
		if o.got.String() != "answer" {
			t.Errorf("got %q, want \"answer\"", o.got.String())
		}
		empty(t, l)
	})
}

// trickle writes octet by octet.
type trickle struct{ net.Conn }

func (c trickle) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func TestTLSRecordsOctetByOctet(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		l := newLoop(t)
		ours, peer := pipe(t)
		shim := NewShim(ours, nil)
		sc := tls.Server(shim, serverConfig(t, version))
		cc := tls.Client(trickle{peer}, clientConfig(version))
		errc := make(chan error, 1)
		go func() { errc <- shim.Handshake(context.Background(), sc) }()
		if err := cc.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := await(t, errc, "the handshake"); err != nil {
			t.Fatal(err)
		}
		o := adoptTLS(t, l, sc, shim)
		want := pattern(5000)
		write(t, cc, string(want))
		until(t, l, "data", func() bool { return o.got.Len() == len(want) })
		same(t, o.got.Bytes(), want)
		on(t, l, func() {
			if shim.in != nil {
				t.Errorf("got %d octets kept, want none between records", len(shim.in))
			}
		})
	})
}

func TestTLSPartialRecordIsKeptOnlyWhilePartial(t *testing.T) {
	l := newLoop(t)
	sc, shim, w := wired(t)
	o := adoptTLS(t, l, sc, shim)
	r := w.send.record(typeData, pattern(2000))
	for _, cut := range [][2]int{{0, 3}, {3, 5}, {5, 1500}, {1500, len(r) - 1}} {
		w.Write(r[cut[0]:cut[1]])
		until(t, l, "partial record", func() bool { return len(shim.in) == cut[1] })
	}
	on(t, l, func() {
		if o.story() != "" {
			t.Errorf("got %q, want nothing before the record is whole", o.story())
		}
	})
	w.Write(r[len(r)-1:])
	until(t, l, "data", func() bool { return o.got.Len() == 2000 })
	on(t, l, func() {
		if shim.in != nil {
			t.Errorf("got %d octets kept, want none", len(shim.in))
		}
	})
}

// gathering keeps all writes but the first until release.
type gathering struct {
	net.Conn
	writes int
	held   []byte
}

func (g *gathering) Write(p []byte) (int, error) {
	if g.writes++; g.writes == 1 {
		return g.Conn.Write(p)
	}
	g.held = append(g.held, p...)
	return len(p), nil
}

// What came in one segment with the end of the handshake lies in the shim: the
// first turn must ask the codec before it waits for the socket.
func TestTLSDataGluedToTheHandshake(t *testing.T) {
	l := newLoop(t)
	ours, peer := pipe(t)
	shim := NewShim(ours, nil)
	sc := tls.Server(shim, serverConfig(t, tls.VersionTLS13))
	g := &gathering{Conn: peer}
	cc := tls.Client(g, clientConfig(tls.VersionTLS13))
	errc := make(chan error, 1)
	go func() { errc <- shim.Handshake(context.Background(), sc) }()
	if err := cc.Handshake(); err != nil {
		t.Fatal(err)
	}
	write(t, cc, "early ")
	write(t, cc, "bird")
	if _, err := peer.Write(g.held); err != nil {
		t.Fatal(err)
	}
	if err := await(t, errc, "the handshake"); err != nil {
		t.Fatal(err)
	}
	if shim.w == shim.r {
		t.Fatal("got an empty shim, want data behind the handshake in it")
	}
	o := adoptTLS(t, l, sc, shim)
	until(t, l, "data", func() bool { return o.got.String() == "early bird" })
}

func TestTLSSmallWantAndShortTakes(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		l := newLoop(t)
		sc, shim, cc, _ := shaken(t, serverConfig(t, version), clientConfig(version))
		o := adoptTLS(t, l, sc, shim)
		calls := 0
		on(t, l, func() {
			o.want = 700
			o.take = func(p []byte) int {
				if calls++; calls%3 == 0 {
					l.After(0, &Timer{Fire: o.c.Resume})
					return len(p) / 2
				}
				return len(p)
			}
		})
		want := pattern(100000)
		go func() { cc.Write(want); cc.CloseWrite() }()
		story(t, l, o, "data end")
		same(t, o.got.Bytes(), want)
		if o.maxData > 700 {
			t.Errorf("got %d octets at once, want at most 700", o.maxData)
		}
	})
}

func TestTLSBindHandsOverMidRecord(t *testing.T) {
	l := newLoop(t)
	sc, shim, cc, _ := shaken(t, serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	first := adoptTLS(t, l, sc, shim)
	second := newOwner(first.c)
	on(t, l, func() {
		first.want = 5
		first.take = func(p []byte) int { first.c.Bind(second); return 3 }
	})
	write(t, cc, "GETthe rest")
	until(t, l, "data", func() bool { return second.got.String() == "the rest" })
	if first.got.String() != "GET" {
		t.Errorf("got %q, want \"GET\"", first.got.String())
	}
}

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
			if shim.out == nil {
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

const keyUpdateReply = "\x18\x00\x00\x01\x00"

func TestTLSKeyUpdateIsAnswered(t *testing.T) {
	l := newLoop(t)
	sc, shim, w := wired(t)
	adoptEcho(t, l, sc, shim)
	w.Write(w.send.record(typeData, []byte("before")))
	w.want(t, typeData, "before")
	w.Write(w.keyUpdate(1)) // on its own: the reply must not wait for a Write
	w.want(t, typeHandshake, keyUpdateReply)
	w.recv.update()
	w.Write(w.send.record(typeData, []byte("after")))
	w.want(t, typeData, "after")
	// Glued to data on both sides, twice; and one that asks for nothing.
	p := w.send.record(typeData, []byte("one"))
	p = append(p, w.keyUpdate(1)...)
	p = append(p, w.send.record(typeData, []byte("two"))...)
	p = append(p, w.keyUpdate(1)...)
	p = append(p, w.keyUpdate(0)...)
	p = append(p, w.send.record(typeData, []byte("three"))...)
	w.Write(p)
	got, updates := "", 0
	for got != "onetwothree" {
		kind, data, err := w.next()
		switch {
		case err != nil:
			t.Fatalf("got %v after %q, want every record to open", err, got)
		case kind == typeHandshake:
			updates++
			w.recv.update()
		default:
			got += string(data)
		}
	}
	if updates != 2 {
		t.Errorf("got %d replies, want 2", updates)
	}
}

// A peer that asks for replies and does not read: the replies queue in order
// behind the output, up to a bound, and all records open afterwards.
func TestTLSKeyUpdatesWhileOutputWaits(t *testing.T) {
	l := newLoop(t)
	sc, shim, w := wired(t)
	o := adoptTLS(t, l, sc, shim)
	sent := pattern(8 << 20)
	on(t, l, func() {
		o.pump(sent)
		if o.c.Room() != 0 {
			t.Error("got room, want a full socket")
		}
	})
	const asks = 6000
	writer := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < asks && err == nil; i++ {
			_, err = w.Write(append(w.keyUpdate(1), w.send.record(typeData, []byte{'x'})...))
		}
		writer <- err
	}()
	until(t, l, "choked connection", func() bool { return shim.full() })
	turns(t, l, 20)
	on(t, l, func() {
		if n := len(shim.out); n > chokeAt+1024 {
			t.Errorf("got %d octets of output kept, want at most about %d", n, chokeAt)
		}
	})
	var got []byte
	updates := 0
	for len(got) < len(sent) || updates < asks {
		kind, data, err := w.next()
		if err != nil {
			t.Fatalf("got %v after %d octets and %d updates, want every record to open", err, len(got), updates)
		}
		switch {
		case kind == typeHandshake:
			updates++
			w.recv.update()
		case kind == typeData:
			got = append(got, data...)
		default:
			// Our close_notify ends the replies with our direction.
			if string(data) != "\x01\x00" || len(got) < len(sent) {
				t.Fatalf("got alert %x after %d octets, want close_notify behind all", data, len(got))
			}
			updates = asks
		}
	}
	same(t, got, sent)
	if err := await(t, writer, "the writer"); err != nil {
		t.Error(err)
	}
	until(t, l, "data", func() bool { return o.got.Len() == asks })
}

func TestTLSRepliesStopBehindOurCloseNotify(t *testing.T) {
	l := newLoop(t)
	sc, shim, w := wired(t)
	o := adoptTLS(t, l, sc, shim)
	on(t, l, o.c.CloseWrite)
	w.want(t, typeAlert, "\x01\x00")
	w.Write(append(w.keyUpdate(1), w.send.record(typeData, []byte("still here"))...))
	until(t, l, "data", func() bool { return o.got.String() == "still here" })
	w.Write(w.send.record(typeAlert, []byte{1, 0}))
	w.CloseWrite()
	empty(t, l)
	story(t, l, o, "data end")
	if _, _, err := w.next(); err != io.EOF {
		t.Errorf("got %v, want FIN right behind close_notify", err)
	}
}

func TestShimDeadlines(t *testing.T) {
	l := newLoop(t)
	ours, _ := pipe(t)
	shim := NewShim(ours, NewSlots(1))
	shim.SetDeadline(time.Now().Add(10 * time.Millisecond))
	err := shim.Handshake(context.Background(), tls.Server(shim, serverConfig(t, tls.VersionTLS13)))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v from a silent client, want a timeout", err)
	}
	sc, shim, cc, _ := shaken(t, serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	o := adoptTLS(t, l, sc, shim)
	past := time.Now().Add(-time.Hour)
	on(t, l, func() {
		for _, set := range []func(time.Time) error{shim.SetDeadline, shim.SetReadDeadline, shim.SetWriteDeadline} {
			if err := set(past); err != nil {
				t.Errorf("got %v from a deadline after the move, want nothing", err)
			}
		}
		if err := shim.Close(); err != nil {
			t.Errorf("got %v from Close after the move, want nothing", err)
		}
	})
	write(t, cc, "alive")
	until(t, l, "data", func() bool { return o.got.String() == "alive" })
}

// A client that stalls in its handshake holds no CPU slot.
func TestSlotIsFreeWhileTheHandshakeWaits(t *testing.T) {
	slots := NewSlots(1)
	slow, _ := pipe(t)
	slowShim := NewShim(slow, slots)
	stalled := make(chan error, 1)
	go func() {
		stalled <- slowShim.Handshake(context.Background(), tls.Server(slowShim, serverConfig(t, tls.VersionTLS13)))
	}()
	ours, peer := pipe(t)
	shim := NewShim(ours, slots)
	done := make(chan error, 1)
	go func() {
		done <- shim.Handshake(context.Background(), tls.Server(shim, serverConfig(t, tls.VersionTLS13)))
	}()
	cc := tls.Client(peer, clientConfig(tls.VersionTLS13))
	if err := cc.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := await(t, done, "the second handshake"); err != nil {
		t.Fatal(err)
	}
	slow.Close()
	if err := await(t, stalled, "the end of the first"); err == nil {
		t.Error("got no error from the stalled handshake, want one")
	}
	if n := len(slots.free); n != 0 {
		t.Errorf("got %d slots taken, want 0", n)
	}
}

func TestSlotsBoundHowManyCompute(t *testing.T) {
	slots := NewSlots(1)
	slots.acquire()
	ours, peer := pipe(t)
	shim := NewShim(ours, slots)
	done := make(chan error, 1)
	go func() {
		done <- shim.Handshake(context.Background(), tls.Server(shim, serverConfig(t, tls.VersionTLS13)))
	}()
	client := make(chan error, 1)
	go func() { client <- tls.Client(peer, clientConfig(tls.VersionTLS13)).Handshake() }()
	select {
	case <-done:
		t.Error("got a handshake without a slot, want it to wait")
	case <-client:
		t.Error("got an answer to the client, want it to wait")
	case <-time.After(20 * time.Millisecond): // nothing to wait for: it must not happen
	}
	slots.release()
	if err := await(t, done, "the handshake"); err != nil {
		t.Error(err)
	}
	if err := await(t, client, "the client"); err != nil {
		t.Error(err)
	}
}

func TestShimRefusesWhatIsNotTLS(t *testing.T) {
	ours, peer := pipe(t)
	shim := NewShim(ours, nil)
	write(t, peer, "GET / HTTP/1.1\r\n\r\n")
	err := shim.Handshake(context.Background(), tls.Server(shim, serverConfig(t, tls.VersionTLS13)))
	var head tls.RecordHeaderError
	if !errors.As(err, &head) || string(head.RecordHeader[:]) != "GET /" || head.Conn == nil {
		t.Errorf("got %v, want a RecordHeaderError with \"GET /\"", err)
	}
	ours, peer = pipe(t)
	shim = NewShim(ours, nil)
	peer.Write([]byte{22, 3, 1})
	peer.CloseWrite()
	err = shim.Handshake(context.Background(), tls.Server(shim, serverConfig(t, tls.VersionTLS13)))
	if !errors.Is(err, io.EOF) {
		t.Errorf("got %v from half a header, want EOF", err)
	}
}

func TestAdoptTLSRefuses(t *testing.T) {
	l := newLoop(t)
	refused := func(name string, tc *tls.Conn, s *Shim, want string) {
		t.Helper()
		on(t, l, func() {
			if _, err := l.AdoptTLS(tc, s); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v for %s, want %q", err, name, want)
			}
		})
	}
	ours, peer := pipe(t)
	shim := NewShim(ours, nil)
	refused("an unfinished handshake", tls.Server(shim, serverConfig(t, tls.VersionTLS13)), shim, "handshake is not complete")
	readAll(t, peer) // closed

	sc, shim, _, _ := shaken(t, serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	other, _ := pipe(t)
	refused("another shim", sc, NewShim(other, nil), "does not lie over the shim")
	adoptTLS(t, l, sc, shim)
	refused("a connection that is there", sc, shim, "on a loop already")

	a, b := net.Pipe()
	defer b.Close()
	refused("a pipe", tls.Server(NewShim(a, nil), serverConfig(t, tls.VersionTLS13)), NewShim(a, nil), "has no descriptor")
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

func BenchmarkTLSEcho(b *testing.B) {
	l := newLoop(b)
	sc, shim, cc, peer := shaken(b, serverConfig(b, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	peer.SetDeadline(time.Time{})
	on(b, l, func() {
		c, err := l.AdoptTLS(sc, shim)
		if err != nil {
			b.Error(err)
			return
		}
		c.Bind(&echoer{c: c})
	})
	msg := make([]byte, 64)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := cc.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(cc, msg); err != nil {
			b.Fatal(err)
		}
	}
}
