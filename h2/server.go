package h2

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"

	"wsgate/bridge"
	"wsgate/internal/exchange"
)

// Server serves HTTP/2 connections (RFC 9113) and the WebSocket handshakes on
// them (RFC 8441). The exported fields are options: set before the first Serve,
// never changed after it. The zero value of each has the meaning or the default
// that its comment names.
type Server struct {
	// Offer takes a WebSocket handshake, on the loop of its connection. nil:
	// SETTINGS_ENABLE_CONNECT_PROTOCOL is not announced and an extended
	// CONNECT is malformed (RFC 8441 section 3).
	Offer func(bridge.Offer)
	// Announce says at the birth of a connection whether there is a route that
	// can serve WebSocket on it; without one it is as if Offer were nil. What
	// was announced once holds for the life of the connection (RFC 8441 section
	// 3). nil: always.
	Announce func() bool
	// Exchange serves ordinary requests. nil: they are answered 404.
	Exchange *exchange.Config

	// MaxStreams is SETTINGS_MAX_CONCURRENT_STREAMS; default 250. A slot is
	// free only once the work behind its stream is over.
	MaxStreams int
	// MaxTunnels bounds tunnels and pending offers of one connection, so that
	// ordinary requests still run; default 200. One more is answered 503.
	MaxTunnels int
	// MaxHeader bounds a decoded header section in octets as RFC 9113 section
	// 6.5.2 counts them; default 64 KiB. Above it the answer is 431.
	MaxHeader int

	// HeaderTimeout bounds the preface, a header block and any other frame
	// that comes in pieces; default 10 s.
	HeaderTimeout time.Duration
	// IdleTimeout ends a connection that has had no stream for so long; default 3 min.
	IdleTimeout time.Duration
	// KeepAlive is the silence after which a connection is asked with a PING; a
	// second such period of silence means it is dead; default 30 s. An answer
	// does not put IdleTimeout off.
	KeepAlive time.Duration
	// StallTimeout resets a tunnel whose waiting octets make no progress, and
	// a connection that takes nothing of its output; default 60 s.
	StallTimeout time.Duration

	// PathDots lets "." and ".." segments pass in targets.
	PathDots bool
	// TrustScheme says that the peer is a proxy whose word on the scheme
	// counts: it is that of handshakes and of the URLs of requests. nil: never;
	// the scheme is that of the transport, and "https" on a cleartext connection
	// is answered 421.
	TrustScheme func(*bridge.Client) bool
	// BufferMemory is the budget of the process for queued octets and grown
	// windows. nil: only the bounds of each connection hold.
	BufferMemory *Memory
	// Counters counts; nil: nobody looks.
	Counters *Counters
	// Rejected is told, on the loop, of each request that this package answered
	// by itself, and with status 0 of each one that it reset as malformed. code
	// is the reason that stands in the answer. It must not block. nil: nobody
	// is told.
	Rejected func(client *bridge.Client, status int, code string)

	draining atomic.Bool
	conns    atomic.Int64

	mu     sync.Mutex // taken at the birth of a connection and by Drain and Close
	shards map[bridge.Loop]*shard
}

// limits are the options of a Server with their defaults filled in.
type limits struct {
	streams, tunnels, header       int
	headerTime, idle, alive, stall time.Duration
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
	mem   *Memory
	epoch time.Time
	emit  func(f hpack.HeaderField) // sh.onField, one closure for all decoders
	work  func()                    // sh.run, one closure for all posts

	conns  map[*conn]struct{}
	head   headScratch
	block  []byte // scratch for a header block on its way out
	date   dateCache
	todo   *conn // connections with work for the next turn
	last   *conn
	posted bool
	queues []*queue // free list
}

// shardOf returns the loop's shard, made on first use.
func (s *Server) shardOf(l bridge.Loop) *shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh := s.shards[l]; sh != nil {
		return sh
	}
	sh := &shard{
		srv: s, loop: l, mem: s.BufferMemory, count: s.Counters, epoch: l.Now(),
		conns: make(map[*conn]struct{}),
		lim: limits{
			streams: or(s.MaxStreams, 250), tunnels: or(s.MaxTunnels, 200), header: or(s.MaxHeader, 64<<10),
			headerTime: or(s.HeaderTimeout, 10*time.Second), idle: or(s.IdleTimeout, 3*time.Minute),
			alive: or(s.KeepAlive, 30*time.Second), stall: or(s.StallTimeout, time.Minute),
		},
	}
	if sh.count == nil {
		sh.count = new(Counters)
	}
	sh.emit, sh.work = sh.onField, sh.run
	if s.shards == nil {
		s.shards = make(map[bridge.Loop]*shard)
	}
	s.shards[l] = sh
	return sh
}

// Serve takes a connection over, on its loop l. The transport holds the client's
// preface unread; it is bound here. Serve returns at once; the connection ends
// by itself, by Drain or by Close.
func (s *Server) Serve(l bridge.Loop, transport bridge.Side, client *bridge.Client) {
	if client == nil {
		client = new(bridge.Client)
	}
	c := newConn(s.shardOf(l), transport, client)
	c.start()
}

// Drain asks every connection to end: GOAWAY with the highest stream id, after
// a round trip GOAWAY with the real one (RFC 9113 section 6.8). A connection
// ends when its last stream has ended. Any goroutine may call it.
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
		if c.late = c.client.Tunnels > 0; !c.late {
			c.drain()
		}
	})
}

// Close ends every connection at once. Any goroutine may call it.
func (s *Server) Close() {
	s.draining.Store(true)
	s.each((*conn).shut)
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

// later puts c on the list of connections with work for the next turn.
func (sh *shard) later(c *conn) {
	if c.listed {
		return
	}
	c.listed = true
	if sh.last == nil {
		sh.todo = c
	} else {
		sh.last.nextTodo = c
	}
	sh.last = c
	if !sh.posted {
		sh.posted = true
		sh.loop.Post(sh.work)
	}
}

// run does the work that was put off to this turn.
func (sh *shard) run() {
	c := sh.todo
	sh.todo, sh.last, sh.posted = nil, nil, false
	for c != nil {
		next := c.nextTodo
		c.nextTodo, c.listed = nil, false
		c.runTodo()
		c = next
	}
}

// now is the time of this turn in nanoseconds since the shard was made; never 0.
func (sh *shard) now() int64 { return int64(sh.loop.Now().Sub(sh.epoch)) + 1 }
