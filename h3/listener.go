package h3

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"wsgate/bridge"
)

// Listener is a UDP socket that connections come on.
type Listener struct {
	srv      atomic.Pointer[Server] // of new connections
	tr       *quic.Transport
	ln       *quic.Listener
	pick     func() bridge.Loop
	name     func() string
	pending  atomic.Int64 // handshakes under way with addresses that are not validated
	finished chan struct{}
}

// Binding is what a Listener has beside its Server.
type Binding struct {
	// TLS needs certificates; ALPN and the version are set by the Listener.
	TLS *tls.Config
	// Pick chooses the loop of each connection.
	Pick func() bridge.Loop
	// Name is that of the listener for handshakes; nil: none.
	Name func() string
	// Key is what stateless reset tokens (RFC 9000 section 10.3) and address
	// validation tokens (section 8.1.3) are made from, the same before and after
	// a restart and on all replicas. nil: at random.
	Key []byte
}

// windows of a connection (RFC 9000 section 4): a stream's, and one for all that
// never binds before those of the streams do.
const (
	streamWindow    = 64 << 10
	maxStreamWindow = 128 << 10
	maxUniStreams   = 16
)

// config is what connections of a server are like.
func (s *Server) config() *quic.Config {
	lim := s.limits()
	window := uint64(lim.streams+maxUniStreams) * maxStreamWindow
	return &quic.Config{
		HandshakeIdleTimeout: lim.headerTime, MaxIdleTimeout: idleQUIC, KeepAlivePeriod: lim.alive,
		InitialStreamReceiveWindow: streamWindow, MaxStreamReceiveWindow: maxStreamWindow,
		InitialConnectionReceiveWindow: window, MaxConnectionReceiveWindow: window,
		MaxIncomingStreams: int64(lim.streams), MaxIncomingUniStreams: maxUniStreams,
		RequireStreamCreditRelease: true,
		// RFC 8470: no handshake is dialled on data that may be a replay.
		Allow0RTT: false,
	}
}

// Listen serves HTTP/3 on pc, which belongs to the listener from now on.
func (s *Server) Listen(pc *net.UDPConn, b Binding) (*Listener, error) {
	l := &Listener{pick: b.Pick, name: b.Name, finished: make(chan struct{})}
	if l.name == nil {
		l.name = func() string { return "" }
	}
	l.srv.Store(s)
	l.tr = &quic.Transport{Conn: pc, VerifySourceAddress: l.verify, ConnContext: l.arriving}
	if len(b.Key) > 0 {
		var reset quic.StatelessResetKey
		var token quic.TokenGeneratorKey
		if err := derive(b.Key, "stateless reset", reset[:]); err != nil {
			return nil, err
		}
		if err := derive(b.Key, "address validation token", token[:]); err != nil {
			return nil, err
		}
		l.tr.StatelessResetKey, l.tr.TokenGeneratorKey = &reset, &token
	}
	t := b.TLS.Clone()
	t.NextProtos, t.MinVersion = []string{"h3"}, tls.VersionTLS13
	conf := s.config()
	conf.GetConfigForClient = l.configure
	var err error
	if l.ln, err = l.tr.Listen(t, conf); err != nil {
		return nil, err
	}
	go l.accept()
	return l, nil
}

var errNotServed = errors.New("HTTP/3 is not served here any more")

// configure is quic-go's question for each connection.
func (l *Listener) configure(*quic.ClientInfo) (*quic.Config, error) {
	if s := l.srv.Load(); s != nil {
		return s.config(), nil
	}
	return nil, errNotServed
}

// Serve lets another server take new connections, nil none. Those that are there
// stay with theirs.
func (l *Listener) Serve(s *Server) { l.srv.Store(s) }

// derive makes a key of the server's.
func derive(key []byte, what string, out []byte) error {
	k, err := hkdf.Key(sha256.New, key, nil, "wsgate "+what, len(out))
	copy(out, k)
	return err
}

// pendingKey marks the context of a connection whose handshake is counted.
type pendingKey struct{}

// arriving counts handshakes with clients that have not shown their address.
func (l *Listener) arriving(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	if info.AddrVerified {
		return ctx, nil
	}
	l.pending.Add(1)
	counted := new(atomic.Bool)
	counted.Store(true)
	context.AfterFunc(ctx, func() { l.settled(counted) })
	return context.WithValue(ctx, pendingKey{}, counted), nil
}

// settled gives back what arriving counted, once.
func (l *Listener) settled(counted *atomic.Bool) {
	if counted.Swap(false) {
		l.pending.Add(-1)
	}
}

// verify asks for Retry when many handshakes are under way (RFC 9000 section 8.1.2).
func (l *Listener) verify(net.Addr) bool {
	s := l.srv.Load()
	if s == nil || l.pending.Load() < int64(or(s.RetryAbove, 200)) {
		return false
	}
	s.counters().Retry.Add(1)
	return true
}

// accept is the listener's goroutine; it ends with Close.
func (l *Listener) accept() {
	defer close(l.finished)
	for {
		q, err := l.ln.Accept(context.Background())
		if err != nil {
			return
		}
		if counted, ok := q.Context().Value(pendingKey{}).(*atomic.Bool); ok {
			l.settled(counted)
		}
		s := l.srv.Load()
		if s == nil {
			go q.CloseWithError(quic.ApplicationErrorCode(errNone), "")
			continue
		}
		state := q.ConnectionState().TLS
		go s.run(q, l.pick(), &bridge.Client{
			Remote: addrOf(q.RemoteAddr()), Local: addrOf(q.LocalAddr()), TLS: &state, Listener: l.name(),
		})
	}
}

// Stop refuses new connections; those that are there go on.
func (l *Listener) Stop() {
	_ = l.ln.Close() // it has no error but that of a second call
	<-l.finished
}

// Close ends the listener with all its connections, which hear nothing of it; see
// Server.Close. It may be called after Stop.
func (l *Listener) Close() error {
	l.Stop()
	err := l.tr.Close()
	if cerr := l.tr.Conn.Close(); err == nil && !errors.Is(cerr, net.ErrClosed) {
		err = cerr
	}
	return err
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }
