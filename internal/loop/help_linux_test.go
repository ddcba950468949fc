package loop

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const patience = 10 * time.Second // bound of a failing test, never of a passing one

// newLoop runs a loop until the end of the test.
func newLoop(t testing.TB) *Loop {
	t.Helper()
	l, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	start(t, l)
	return l
}

func start(t testing.TB, l *Loop) {
	done := make(chan struct{})
	go func() { l.Run(); close(done) }()
	t.Cleanup(func() {
		l.Stop()
		await(t, done, "the end of the loop")
	})
}

func await[T any](t testing.TB, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		buf := make([]byte, 1<<16)
		t.Fatalf("got nothing, want %s\n%s", what, buf[:runtime.Stack(buf, true)])
	}
	return v
}

// on runs f on the loop and waits for it.
func on(t testing.TB, l *Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.TryPost(func() { f(); close(done) }) {
		t.Fatal("got a stopped loop, want a running one")
	}
	await(t, done, "a turn of the loop")
}

// until polls cond, once per turn of the loop.
func until(t testing.TB, l *Loop, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for ok := false; !ok; {
		on(t, l, func() { ok = cond() })
		if !ok && time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("got no %s after %v\n%s", what, patience, buf[:runtime.Stack(buf, true)])
		}
	}
}

// turns lets n turns go by, so that what should not happen had its chance.
func turns(t testing.TB, l *Loop, n int) {
	t.Helper()
	for range n {
		on(t, l, func() {})
	}
}

// owner is a Far that records; all fields belong to the loop.
type owner struct {
	c        *Conn
	want     int
	take     func(p []byte) int // nil: all
	onEnd    func()
	onWrite  func()
	onBroken func(*ResetError)
	got      bytes.Buffer
	log      []string // data (once per run), end, broken, writable
	fail     *ResetError
	datas    int
	maxData  int
	out      []byte // what pump still has to write
}

func newOwner(c *Conn) *owner { return &owner{c: c, want: 1 << 20} }

func (o *owner) note(s string) {
	if k := len(o.log); k == 0 || o.log[k-1] != s {
		o.log = append(o.log, s)
	}
}

func (o *owner) story() string { return strings.Join(o.log, " ") }

func (o *owner) Want() int { return o.want }

func (o *owner) Data(p []byte) int {
	o.note("data")
	o.datas++
	o.maxData = max(o.maxData, len(p))
	n := len(p)
	if o.take != nil {
		n = o.take(p)
	}
	o.got.Write(p[:n])
	return n
}

func (o *owner) End() {
	o.note("end")
	if o.onEnd != nil {
		o.onEnd()
	}
}

func (o *owner) Broken(e *ResetError) {
	o.note("broken")
	o.fail = e
	if o.onBroken != nil {
		o.onBroken(e)
	}
}

func (o *owner) Writable() {
	o.note("writable")
	if o.onWrite != nil {
		o.onWrite()
	}
}

// pump writes p as room comes, and closes our direction behind it.
func (o *owner) pump(p []byte) {
	o.out = p
	push := func() {
		n := o.c.Write(o.out)
		o.out = o.out[n:]
		if len(o.out) == 0 {
			o.onWrite = nil
			o.c.CloseWrite()
		}
	}
	o.onWrite = push
	push()
}

// echoer writes back what it reads, with no queue of its own.
type echoer struct {
	c    *Conn
	fail chan *ResetError
}

func (e *echoer) Want() int {
	if e.c.Room() == 0 {
		return 0
	}
	return 1 << 20
}
func (e *echoer) Data(p []byte) int { return e.c.Write(p) }
func (e *echoer) End()              { e.c.CloseWrite() }
func (e *echoer) Broken(r *ResetError) {
	if e.fail != nil {
		e.fail <- r
	}
}
func (e *echoer) Writable() { e.c.Resume() }

// pipe returns the two ends of a TCP connection over loopback.
func pipe(t testing.TB) (ours, peer *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); a.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return a.(*net.TCPConn), c.(*net.TCPConn)
}

// adopted returns a Conn with a recording owner and its peer.
func adopted(t testing.TB, l *Loop) (*owner, *net.TCPConn) {
	t.Helper()
	ours, peer := pipe(t)
	var o *owner
	on(t, l, func() {
		c, err := l.AdoptTCP(ours)
		if err != nil {
			t.Error(err)
			return
		}
		o = newOwner(c)
		c.Bind(o)
	})
	if o == nil {
		t.FailNow()
	}
	return o, peer
}

// pattern is n octets that show where they come from.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i>>8*7 + i)
	}
	return p
}

func same(t testing.TB, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d octets (%.40q), want %d (%.40q)", len(got), got, len(want), want)
	}
}

func readAll(t testing.TB, r io.Reader) []byte {
	t.Helper()
	p, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("got %v after %d octets, want EOF", err, len(p))
	}
	return p
}

var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"loop.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

func serverConfig(t testing.TB, version uint16) *tls.Config {
	t.Helper()
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: version, MaxVersion: version,
		DynamicRecordSizingDisabled: true,
	}
}

func clientConfig(version uint16) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, ServerName: "loop.test",
		DynamicRecordSizingDisabled: true,
	}
}

// shaken returns a TLS server connection after its handshake over a shim, and
// the client that it spoke with.
func shaken(t testing.TB, server, client *tls.Config) (*tls.Conn, *Shim, *tls.Conn, *net.TCPConn) {
	t.Helper()
	ours, peer := pipe(t)
	shim := NewShim(ours, nil)
	sc := tls.Server(shim, server)
	cc := tls.Client(peer, client)
	errc := make(chan error, 1)
	go func() { errc <- shim.Handshake(context.Background(), sc) }()
	if err := cc.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := await(t, errc, "the server's handshake"); err != nil {
		t.Fatal(err)
	}
	return sc, shim, cc, peer
}

// adoptTLS puts it on the loop under a recording owner.
func adoptTLS(t testing.TB, l *Loop, tc *tls.Conn, s *Shim) *owner {
	t.Helper()
	var o *owner
	on(t, l, func() {
		c, err := l.AdoptTLS(tc, s)
		if err != nil {
			t.Error(err)
			return
		}
		o = newOwner(c)
		c.Bind(o)
	})
	if o == nil {
		t.FailNow()
	}
	return o
}
