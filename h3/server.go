package h3

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"wsgate/bridge"
	"wsgate/internal/exchange"
)

// Server serves HTTP/3 connections (RFC 9114) and the WebSocket handshakes on
// them (RFC 9220). The exported fields are options: set before the first Listen,
// never changed after it. The zero value of each has the meaning or the default
// that its comment names.
type Server struct {
	// Offer takes a WebSocket handshake, on the loop of its connection. nil:
	// SETTINGS_ENABLE_CONNECT_PROTOCOL is not announced and an extended
	// CONNECT is malformed (RFC 9220 section 3).
	Offer func(bridge.Offer)
	// Announce says at the birth of a connection whether there is a route that
	// can serve WebSocket on it; without one it is as if Offer were nil. What
	// was announced once holds for the life of the connection. nil: always.
	Announce func() bool
	// Exchange serves ordinary requests. nil: they are answered 404.
	Exchange *exchange.Config

	// MaxStreams is how many request streams a connection may have at once;
	// default 250. A slot is free only once the work behind its stream is over.
	MaxStreams int
	// MaxTunnels bounds tunnels and pending offers of one connection, so that
	// ordinary requests still run; default 200. One more is answered 503.
	MaxTunnels int
	// MaxHeader bounds a decoded field section in octets as RFC 9114 section
	// 4.2.2 counts them; default 64 KiB. Above it the answer is 431.
	MaxHeader int

	// HeaderTimeout bounds the QUIC handshake and the head of a request; default 10 s.
	HeaderTimeout time.Duration
	// IdleTimeout ends a connection that has had no request for so long; default 3 min.
	IdleTimeout time.Duration
	// StallTimeout cuts a stream whose last octets the client does not take for so
	// long; default 60 s. Before its end that is a matter of the tunnel and of
	// Exchange.
	StallTimeout time.Duration
	// KeepAlive is the interval of QUIC PINGs, which keep a connection alive
	// while it has tunnels, and find a dead one; default 15 s, at most 15 s.
	KeepAlive time.Duration

	// PathDots lets "." and ".." segments pass in targets.
	PathDots bool
	// RetryAbove is how many handshakes with clients whose address is not
	// validated may be under way; above it they are asked to show it (Retry, RFC
	// 9000 section 8.1.2). Default 200.
	RetryAbove int
	// Counters counts; nil: nobody looks.
	Counters *Counters
	// Rejected is told, on the loop, of each request that this package answered
	// by itself, and with status 0 of each one that it reset as malformed. code
	// is the reason that stands in the answer. It must not block. nil: nobody
	// is told.
	Rejected func(client *bridge.Client, status int, code string)
	// Moved is told, on the loop, that a client's address has changed (RFC 9000
	// section 9). Its tunnels live on; new handshakes and requests count for the
	// new address. nil: nobody is told.
	Moved func(client *bridge.Client, from, to netip.AddrPort)

	draining atomic.Bool
	conns    atomic.Int64

	mu     sync.Mutex // taken at the birth and death of a connection and by Drain and Close
	shards map[bridge.Loop]*shard
	open   map[*quic.Conn]bool
}

// limits are the options of a Server with their defaults filled in.
type limits struct {
	streams, tunnels, header int
	headerTime, idle, alive  time.Duration
	stall                    time.Duration
}

// maxKeepAlive is half of the time after which QUIC takes a silent peer for dead.
const maxKeepAlive = idleQUIC / 2

func (s *Server) limits() limits {
	return limits{
		streams: or(s.MaxStreams, 250), tunnels: or(s.MaxTunnels, 200), header: or(s.MaxHeader, 64<<10),
		headerTime: or(s.HeaderTimeout, 10*time.Second), idle: or(s.IdleTimeout, 3*time.Minute),
		alive: min(or(s.KeepAlive, maxKeepAlive), maxKeepAlive), stall: or(s.StallTimeout, time.Minute),
	}
}

func or[T int | time.Duration](v, d T) T {
	if v > 0 {
		return v
	}
	return d
}

// shard is what the connections of one loop share. Only that loop touches it.
type shard struct {
	// Immutable.
	srv   *Server
	loop  bridge.Loop
	lim   limits
	count *Counters

	conns map[*conn]struct{}
	head  headScratch
	out   []byte // scratch for frames on their way out
	enc   encoder
}

// shardOf returns the loop's shard, made on first use.
func (s *Server) shardOf(l bridge.Loop) *shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh := s.shards[l]; sh != nil {
		return sh
	}
	sh := &shard{srv: s, loop: l, lim: s.limits(), count: s.counters(), conns: make(map[*conn]struct{})}
	sh.enc.init()
	if s.shards == nil {
		s.shards = make(map[bridge.Loop]*shard)
	}
	s.shards[l] = sh
	return sh
}

func (s *Server) counters() *Counters {
	if s.Counters == nil {
		return new(Counters)
	}
	return s.Counters
}

// serve takes a connection over, on its loop.
func (s *Server) serve(l bridge.Loop, q quicConn, client *bridge.Client) *conn {
	c := newConn(s.shardOf(l), q, client)
	c.start()
	return c
}

// Drain asks every connection to end: GOAWAY with the highest stream id, a while
// later with the real one (RFC 9114 section 5.2). A connection ends with
// H3_NO_ERROR when its last stream has ended. Any goroutine may call it.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.each((*conn).drain)
}

// DrainLate is Drain for clients that drop their tunnels when they see GOAWAY:
// a connection with tunnels hears of it only once the last of them has ended. A
// Drain afterwards is not late. Any goroutine may call it.
func (s *Server) DrainLate() {
	s.draining.Store(true)
	s.each(func(c *conn) {
		if c.late = c.tunnels > 0; !c.late {
			c.drain()
		}
	})
}

// Close ends every connection at once, with H3_NO_ERROR. It waits for a moment
// until the clients were told, and is not to be called on a loop.
func (s *Server) Close() {
	s.draining.Store(true)
	s.mu.Lock()
	told := make(chan bool, len(s.open))
	left := len(s.open)
	for q := range s.open {
		go func() {
			q.CloseWithError(quic.ApplicationErrorCode(errNone), "")
			told <- true
		}()
	}
	s.mu.Unlock()
	enough := time.NewTimer(time.Second)
	defer enough.Stop()
	for ; left > 0; left-- {
		select {
		case <-told:
		case <-enough.C:
			return
		}
	}
}

// hold keeps a connection for Close until the returned function is called.
func (s *Server) hold(q *quic.Conn) (letGo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*quic.Conn]bool)
	}
	s.open[q] = true
	return func() {
		s.mu.Lock()
		delete(s.open, q)
		s.mu.Unlock()
	}
}

// Connections returns how many connections are open. Any goroutine may call it.
func (s *Server) Connections() int { return int(s.conns.Load()) }

// each calls f for every connection, on the connection's loop.
func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, sh := range s.shards {
		l.Post(func() {
			for c := range sh.conns {
				f(c)
			}
		})
	}
}
