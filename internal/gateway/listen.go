package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"wsgate/bridge"
	"wsgate/h3"
	"wsgate/internal/config"
	"wsgate/internal/loop"
)

// listener is an address that clients connect to. It outlives the configuration
// that brought it, as long as the next ones have the address.
type listener struct {
	g      *Gateway
	addr   netip.AddrPort
	tcp    *net.TCPListener // https: accepts on a goroutine
	stop   func()           // http: accepts on a loop; called on it
	home   *loop.Loop
	once   sync.Once
	secure bool
	front  atomic.Pointer[front]
	udp    atomic.Pointer[h3.Listener] // nil without HTTP/3
	gone   atomic.Bool                 // nothing new is taken
}

// name is that of the present configuration.
func (l *listener) name() string { return l.front.Load().name }

// open opens a listener; it does not accept yet.
func (g *Gateway) open(c *config.Config, path string, l *config.Listener) (*listener, error) {
	ln, err := listen(l.Address, keepAlive(c.Timeouts.Keepalive), l.TLS != nil)
	if err != nil {
		return nil, listenError(c, path+".address", l.Name, err)
	}
	return &listener{
		g: g, secure: l.TLS != nil, tcp: ln.(*net.TCPListener),
		addr: ln.Addr().(*net.TCPAddr).AddrPort(), home: g.loops.Loops()[0],
	}, nil
}

// listen opens a TCP listener. Where the kernel chooses the port, HTTP/3 wants the
// same one over UDP: if that is taken another one is tried.
func listen(address string, alive time.Duration, secure bool) (net.Listener, error) {
	lc := loop.ListenConfig(alive)
	_, port, _ := net.SplitHostPort(address)
	for tries := 0; ; tries++ {
		ln, err := lc.Listen(context.Background(), "tcp", address)
		if err != nil || !secure || port != "0" || tries == 100 {
			return ln, err
		}
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		if err == nil {
			pc.Close()
			return ln, nil
		}
		ln.Close()
	}
}

// openUDP opens the UDP port beside the TCP one if a front serves HTTP/3 and it is
// not open yet.
func (l *listener) openUDP(c *config.Config, path string, conf *config.Listener, f *front) error {
	if f.h3 == nil || l.udp.Load() != nil {
		return nil
	}
	host, _, err := net.SplitHostPort(conf.Address)
	if err != nil {
		return err
	}
	at := net.JoinHostPort(host, strconv.Itoa(int(l.addr.Port())))
	pc, err := net.ListenPacket("udp", at)
	if err != nil {
		return listenError(c, path+".address", "UDP "+at, err)
	}
	key := []byte(conf.QUIC.Secret)
	if len(key) == 0 {
		key = keyOf(f.shown.first)
	}
	u, err := f.h3.Listen(pc.(*net.UDPConn), h3.Binding{
		TLS: &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return l.front.Load().shown.choose(hello), nil
		}},
		Pick: func() bridge.Loop { return l.g.loops.Pick() }, Name: func() string { return l.name() }, Key: key,
	})
	if err != nil {
		pc.Close()
		return listenError(c, path+".address", "UDP "+at, err)
	}
	l.udp.Store(u)
	return nil
}

// use puts a front in the place of the one before.
func (l *listener) use(f *front) {
	l.g.retire(l.front.Swap(f), f)
	if u := l.udp.Load(); u != nil {
		u.Serve(f.h3)
	}
}

// alternative is the Alt-Svc of answers over TCP, "" for none. Where HTTP/3 was
// served and is no more, what was said is taken back (RFC 7838 section 3).
func (l *listener) alternative() string {
	switch f := l.front.Load(); {
	case l.udp.Load() == nil:
		return ""
	case f.h3 == nil, l.gone.Load(), !l.g.ready.Load():
		return "clear"
	default:
		return f.alt
	}
}

// closeUDP ends HTTP/3, at once.
func (l *listener) closeUDP() {
	if u := l.udp.Swap(nil); u != nil {
		_ = u.Close() // nobody is left to tell
	}
}

// serve begins to accept.
func (l *listener) serve() error {
	l.g.log.Info("listening", slog.String("on", l.name()), slog.String("address", l.addr.String()), slog.String("http", l.front.Load().versions()))
	if l.secure {
		go l.acceptTLS()
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
	l.g.log.Warn("accepting pauses", slog.String("on", l.name()), slog.String("for", d.String()), slog.String("error", err.Error()))
}

// accepted gives a cleartext connection to a loop, on the accepting loop.
func (l *listener) accepted(a loop.Accepted) {
	if to := l.g.loops.Pick(); to == l.home {
		l.place(to, a)
	} else if !to.TryPost(func() { l.place(to, a) }) {
		a.Close()
	}
}

// place serves a cleartext connection, on its loop.
func (l *listener) place(on *loop.Loop, a loop.Accepted) {
	c, err := on.Adopt(a)
	if err != nil {
		return
	}
	if f := l.front.Load(); f.h1 != nil {
		f.h1.Serve(on, c, l.client(c, nil))
	} else {
		f.h2.Serve(on, c, l.client(c, nil))
	}
}

func (l *listener) client(c *loop.Conn, state *tls.ConnectionState) *bridge.Client {
	local := l.addr // that of all its connections, if it is one
	if local.Addr().IsUnspecified() {
		local = c.LocalAddr()
	}
	return &bridge.Client{Remote: c.RemoteAddr(), Local: local, TLS: state, Listener: l.name()}
}

// acceptTLS is the accept loop of an https listener. At the bound of
// handshakes in progress it stops accepting.
func (l *listener) acceptTLS() {
	wait := 5 * time.Millisecond
	for {
		c, err := l.tcp.AcceptTCP()
		if err == nil {
			wait = 5 * time.Millisecond
			select {
			case l.g.pending <- struct{}{}:
				go l.handshake(c, l.front.Load())
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
func (l *listener) handshake(c *net.TCPConn, f *front) {
	defer func() { <-l.g.pending }()
	shim := loop.NewShim(c, l.g.slots)
	tc := tls.Server(shim, f.tls)
	ctx, cancel := context.WithTimeout(context.Background(), orOff(f.wire.timeouts.Header))
	defer cancel()
	if err := shim.Handshake(ctx, tc); err != nil {
		c.Close()
		return
	}
	to := l.g.loops.Pick()
	if !to.TryPost(func() { l.adopt(to, tc, shim, f) }) {
		c.Close()
	}
}

// adopt serves a TLS connection, on its loop.
func (l *listener) adopt(to *loop.Loop, tc *tls.Conn, shim *loop.Shim, f *front) {
	c, err := to.AdoptTLS(tc, shim)
	if err != nil {
		l.g.log.Warn("connection lost", slog.String("error", err.Error()))
		return
	}
	state := tc.ConnectionState()
	switch {
	case state.NegotiatedProtocol == "h2":
		f.h2.Serve(to, c, l.client(c, &state))
	case f.h1 != nil:
		f.h1.Serve(to, c, l.client(c, &state))
	default: // the client did not ask for the one version that is spoken here
		c.Reset(bridge.ReasonProtocol)
	}
}

// close stops accepting. Connections live on.
func (l *listener) close() {
	l.once.Do(func() {
		l.gone.Store(true)
		if u := l.udp.Load(); u != nil {
			u.Stop()
		}
		if l.secure {
			l.tcp.Close()
			return
		}
		l.home.Post(func() {
			if l.stop != nil {
				l.stop()
			}
		})
	})
}
