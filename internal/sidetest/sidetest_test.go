package sidetest_test

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/h2"
	"wsgate/internal/gateway"
	"wsgate/internal/loop"
	"wsgate/internal/rawpeer"
	"wsgate/internal/sidetest"
)

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// newLoop runs a loop until the end of the test.
func newLoop(t *testing.T) *loop.Loop {
	t.Helper()
	g := must[*loop.Group](t)(loop.NewGroup(1))
	g.Start()
	t.Cleanup(g.Stop)
	return g.Loops()[0]
}

// sockets makes a connected pair; the client's buffers are small.
func sockets(t *testing.T) (server, client *net.TCPConn) {
	t.Helper()
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer ln.Close()
	c := must[net.Conn](t)(net.Dial("tcp", ln.Addr().String())).(*net.TCPConn)
	t.Cleanup(func() { c.Close() })
	must[int](t)(0, c.SetReadBuffer(64<<10))
	return must[net.Conn](t)(ln.Accept()).(*net.TCPConn), c
}

// adopt runs f on the loop and returns its connection.
func adopt(t *testing.T, l *loop.Loop, f func() (*loop.Conn, error)) *loop.Conn {
	t.Helper()
	var c *loop.Conn
	var err error
	done := make(chan struct{})
	l.Post(func() { c, err = f(); close(done) })
	<-done
	return must[*loop.Conn](t)(c, err)
}

// socketPeer is the peer of a socket, plain or TLS.
type socketPeer struct {
	net.Conn
	tcp *net.TCPConn
}

func (p *socketPeer) Read(b []byte) (int, error) {
	p.Conn.SetReadDeadline(time.Now().Add(rawpeer.Patience))
	n, err := p.Conn.Read(b)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		err = sidetest.ErrReset
	}
	return n, err
}

func (p *socketPeer) CloseWrite() error {
	if t, ok := p.Conn.(*tls.Conn); ok {
		if err := t.CloseWrite(); err != nil {
			return err
		}
	}
	return p.tcp.CloseWrite()
}

func (p *socketPeer) Reset() error {
	if err := p.tcp.SetLinger(0); err != nil {
		return err
	}
	return p.tcp.Close()
}

func TestPlain(t *testing.T) {
	sidetest.Test(t, func(t *testing.T) sidetest.Pair {
		l := newLoop(t)
		server, client := sockets(t)
		c := adopt(t, l, func() (*loop.Conn, error) { return l.AdoptTCP(server) })
		return sidetest.Pair{Side: c, Loop: l, Peer: &socketPeer{client, client}}
	})
}

func TestTLS(t *testing.T) {
	cert := must[*tls.Certificate](t)(gateway.SelfSigned())
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			sidetest.Test(t, func(t *testing.T) sidetest.Pair {
				l := newLoop(t)
				server, client := sockets(t)
				shim := loop.NewShim(server, nil)
				tc := tls.Server(shim, &tls.Config{Certificates: []tls.Certificate{*cert}, MaxVersion: version})
				shaken := make(chan error, 1)
				go func() { shaken <- tc.Handshake() }()
				peer := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
				must[int](t)(0, peer.Handshake())
				must[int](t)(0, <-shaken)
				c := adopt(t, l, func() (*loop.Conn, error) { return l.AdoptTLS(tc, shim) })
				return sidetest.Pair{Side: c, Loop: l, Peer: &socketPeer{peer, client}}
			})
		})
	}
}

// streamPeer is the peer of an HTTP/2 stream. It gives credit for what is read.
type streamPeer struct {
	c  *rawpeer.H2
	id uint32

	mu   sync.Mutex
	sent int64
}

func (p *streamPeer) Read(b []byte) (int, error) {
	n, err := p.c.Read(p.id, b)
	switch {
	case err == rawpeer.ErrStreamReset:
		return n, sidetest.ErrReset
	case err != nil:
		return n, err
	}
	if err = p.c.WindowUpdate(0, uint32(n)); err == nil {
		err = p.c.WindowUpdate(p.id, uint32(n))
	}
	return n, err
}

func (p *streamPeer) Write(b []byte) (int, error) {
	if err := p.c.Send(p.id, b); err != nil {
		return 0, err
	}
	p.mu.Lock()
	p.sent += int64(len(b))
	p.mu.Unlock()
	return len(b), nil
}

func (p *streamPeer) CloseWrite() error { return p.c.End(p.id) }
func (p *streamPeer) Reset() error      { return p.c.Reset(p.id, 8) }

func TestH2(t *testing.T) {
	sidetest.Test(t, func(t *testing.T) sidetest.Pair {
		l := newLoop(t)
		ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
		offers := make(chan bridge.Offer, 1)
		server := &h2.Server{Offer: func(o bridge.Offer) { offers <- o }}
		go func() {
			defer ln.Close()
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			l.Post(func() {
				if c, err := l.AdoptTCP(nc.(*net.TCPConn)); err == nil {
					server.Serve(l, c, &bridge.Client{})
				}
			})
		}()
		c := must[*rawpeer.H2](t)(rawpeer.DialH2(ln.Addr().String(), nil))
		t.Cleanup(c.Close)
		c.NoCredit = true
		id := c.Connect("/")
		first, _ := c.Windows(id)
		o := <-offers
		sides := make(chan bridge.Side)
		l.Post(func() { sides <- o.Accept(nil) })
		side := <-sides
		must[rawpeer.Fields](t)(c.WantStatus(id, 200))
		peer := &streamPeer{c: c, id: id}
		return sidetest.Pair{Side: side, Loop: l, Peer: peer, Credit: func() int64 {
			if err := c.Ping(); err != nil { // what was said before is here by then
				t.Error(err)
			}
			now, _ := c.Windows(id)
			peer.mu.Lock()
			defer peer.mu.Unlock()
			return now + peer.sent - first
		}}
	})
}
