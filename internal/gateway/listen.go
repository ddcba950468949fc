package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"wsgate/bridge"
	"wsgate/internal/loop"
)

// listener is one --listen.
type listener struct {
	g     *Gateway
	front front
	addr  netip.AddrPort
	tcp   *net.TCPListener // https: accepts on a goroutine
	stop  func()           // http: accepts on a loop; called on it
	home  *loop.Loop
	once  sync.Once
}

// listen opens all listeners, then serves them: a port in use is found before
// the first connection is taken.
func (g *Gateway) listen() error {
	if len(g.config.Listen) == 0 {
		return wrong("--listen", "nothing to listen on; say for example --listen https://:8443")
	}
	for _, s := range g.config.Listen {
		f, err := parseListen(s)
		if err != nil {
			return err
		}
		if f.tls && g.certs == nil {
			if g.certs, err = newCertificates(&g.config); err != nil {
				return err
			}
		}
		lc := loop.ListenConfig(keepAlive(g.config.KeepAlive))
		ln, err := lc.Listen(context.Background(), "tcp", f.addr)
		if err != nil {
			return listenError("--listen", s, err)
		}
		l := &listener{g: g, front: f, tcp: ln.(*net.TCPListener), home: g.loops.Loops()[0]}
		l.addr = ln.Addr().(*net.TCPAddr).AddrPort()
		g.fronts = append(g.fronts, l)
	}
	for _, l := range g.fronts {
		if err := l.serve(); err != nil {
			return err
		}
		versions := "h1 and h2 with prior knowledge"
		if l.front.tls {
			versions = "h2 and h1 by ALPN"
		}
		g.log.Info("listening", slog.String("on", l.front.name), slog.String("address", l.addr.String()), slog.String("http", versions))
	}
	return nil
}

func (l *listener) serve() error {
	if l.front.tls {
		go l.acceptTLS(l.g.certs.config())
		return nil
	}
	started := make(chan error)
	l.home.Post(func() {
		stop, err := l.home.Accept(l.tcp, l.accepted, l.paused)
		l.stop = stop
		started <- err
	})
	return <-started
}

// paused is told that accepting has to wait.
func (l *listener) paused(err error, d time.Duration) {
	l.g.log.Warn("accepting pauses", slog.String("on", l.front.name), slog.String("for", d.String()), slog.String("error", err.Error()))
}

// accepted gives a cleartext connection to a loop, on the accepting loop.
func (l *listener) accepted(a loop.Accepted) {
	to := l.g.loops.Pick()
	adopt := func() {
		if c, err := to.Adopt(a); err == nil {
			l.g.h1.Serve(to, c, l.client(c, nil))
		}
	}
	if to == l.home {
		adopt()
	} else if !to.TryPost(adopt) {
		a.Close()
	}
}

func (l *listener) client(c *loop.Conn, state *tls.ConnectionState) *bridge.Client {
	return &bridge.Client{Remote: c.RemoteAddr(), Local: c.LocalAddr(), TLS: state, Listener: l.front.name}
}

// acceptTLS is the accept loop of an https listener. At the bound of
// handshakes in progress it stops accepting.
func (l *listener) acceptTLS(config *tls.Config) {
	wait := 5 * time.Millisecond
	for {
		c, err := l.tcp.AcceptTCP()
		if err == nil {
			wait = 5 * time.Millisecond
			select {
			case l.g.pending <- struct{}{}:
				go l.handshake(c, config)
			case <-l.g.closed:
				c.Close()
				return
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		l.paused(err, wait)
		time.Sleep(wait)
		wait = min(2*wait, time.Second)
	}
}

// handshake runs one TLS handshake and gives the connection to a loop.
func (l *listener) handshake(c *net.TCPConn, config *tls.Config) {
	defer func() { <-l.g.pending }()
	shim := loop.NewShim(c, l.g.slots)
	tc := tls.Server(shim, config)
	ctx, cancel := context.WithTimeout(context.Background(), orOff(l.g.config.HeaderTimeout))
	defer cancel()
	if err := shim.Handshake(ctx, tc); err != nil {
		c.Close()
		return
	}
	to := l.g.loops.Pick()
	if !to.TryPost(func() { l.adopt(to, tc, shim) }) {
		c.Close()
	}
}

// adopt serves a TLS connection, on its loop.
func (l *listener) adopt(to *loop.Loop, tc *tls.Conn, shim *loop.Shim) {
	c, err := to.AdoptTLS(tc, shim)
	if err != nil {
		l.g.log.Warn("connection lost", slog.String("error", err.Error()))
		return
	}
	state := tc.ConnectionState()
	if state.NegotiatedProtocol == "h2" {
		l.g.h2.Serve(to, c, l.client(c, &state))
	} else {
		l.g.h1.Serve(to, c, l.client(c, &state))
	}
}

func (g *Gateway) stopListening() {
	for _, l := range g.fronts {
		l.once.Do(l.close)
	}
}

func (l *listener) close() {
	if l.front.tls {
		l.tcp.Close()
		return
	}
	l.home.Post(func() {
		if l.stop != nil {
			l.stop()
		}
	})
}
