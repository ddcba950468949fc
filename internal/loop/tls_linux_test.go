package loop

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
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
			if shim.in != nil || e.c.owes() || e.c.pend != nil {
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
