package h1

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"wsgate/bridge"
	"wsgate/internal/exchange"
)

// Defaults of Server.
const (
	defaultMaxHeader       = 64 << 10
	defaultMaxTarget       = 16 << 10
	defaultMaxHeaderFields = 200
	defaultHeaderTimeout   = 10 * time.Second
	defaultBodyTimeout     = 30 * time.Second
	defaultIdleTimeout     = 3 * time.Minute
	defaultStallTimeout    = 60 * time.Second
	defaultLinger          = 2 * time.Second
)

// Server is the HTTP/1.1 front. The zero value of an option is its default. It
// is not changed once it is in use, and not copied; any number of loops may
// serve connections of it at once.
type Server struct {
	// Offer gets the opening handshakes, on their loop. nil: no WebSocket, an
	// Upgrade is ignored and the request an ordinary one.
	Offer func(bridge.Offer)
	// Exchange serves ordinary requests. nil: 404 for all.
	Exchange *exchange.Config
	// H2 gets, on the loop, a cleartext connection that begins with the
	// preface of HTTP/2 (RFC 9113 section 3.3). nil: such a connection gets 505.
	H2 func(l bridge.Loop, transport bridge.Side, client *bridge.Client)

	// MaxHeader bounds a request head in octets; over it 431. Default 64 KiB.
	MaxHeader int
	// MaxTarget bounds the request line in octets; over it 414. Default 16 KiB,
	// never more than MaxHeader.
	MaxTarget int
	// MaxFields bounds the field lines of a request; over it 431. Default 200.
	MaxFields int

	// HeaderTimeout is how long a head may take from its first octet on; after
	// it 408 and the end of the connection. Default 10 s.
	HeaderTimeout time.Duration
	// BodyTimeout is how long a client may send nothing of a request's content
	// that there is room for; after it 408. Default 30 s.
	BodyTimeout time.Duration
	// IdleTimeout is how long a connection may be without a request, the first
	// one included. Default 3 min.
	IdleTimeout time.Duration
	// StallTimeout is how long a client may take nothing of a waiting answer;
	// after it the connection is reset. Default 60 s.
	StallTimeout time.Duration
	// Linger is how long input is discarded behind the last answer of a
	// connection, so that the client can read it (RFC 9112 section 9.6).
	// Default 2 s.
	Linger time.Duration

	// PathDots lets "." and ".." segments in targets pass.
	PathDots bool
	// SynthesizeKey serves handshakes without a Sec-WebSocket-Key: the backend
	// gets a key, the 101 no Accept.
	SynthesizeKey bool

	// Counters, if not nil, are kept up to date.
	Counters *Counters
	// Rejected is told, on the loop, of each request that this package answered
	// by itself; code is the reason that stands in the answer. It must not
	// block. nil: nobody is told.
	Rejected func(client *bridge.Client, status int, code string)

	draining atomic.Bool
	conns    atomic.Int64
	shards   sync.Map // bridge.Loop -> *shard
}

// Counters are figures of a Server since its start. Any goroutine may read them.
type Counters struct {
	Connections atomic.Uint64 // served
	Requests    atomic.Uint64 // whose head was read, refused ones included
	Handshakes  atomic.Uint64 // offered
	Accepted    atomic.Uint64 // became a tunnel
	Refused     atomic.Uint64 // offers answered by an ordinary response
	Rejected    atomic.Uint64 // requests answered by the front itself
	TimedOut    atomic.Uint64 // heads and contents that came too slowly
	Aborted     atomic.Uint64 // connections cut with an answer incomplete
}

// shard holds the connections of one loop and belongs to it.
type shard struct{ first *conn }

func (h *shard) add(c *conn) {
	c.next = h.first
	if c.next != nil {
		c.next.prev = c
	}
	h.first = c
}

func (h *shard) remove(c *conn) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		h.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.next, c.prev = nil, nil
}

// each calls f for each connection; f may remove that one.
func (h *shard) each(f func(*conn)) {
	for c := h.first; c != nil; {
		next := c.next
		f(c)
		c = next
	}
}

// Serve serves a connection, on its loop. transport is the server's from now
// on; its first octets may already be waiting. client is what handshakes and
// requests are told of it.
func (s *Server) Serve(l bridge.Loop, transport bridge.Side, client *bridge.Client) {
	v, ok := s.shards.Load(l)
	if !ok {
		v, _ = s.shards.LoadOrStore(l, new(shard))
	}
	c := &conn{s: s, l: l, t: transport, client: client, shard: v.(*shard)}
	maxHeader := orDefault(s.MaxHeader, defaultMaxHeader)
	c.scan = scanner{maxHead: maxHeader, maxLine: min(orDefault(s.MaxTarget, defaultMaxTarget), maxHeader)}
	c.sniffing = s.H2 != nil && client.TLS == nil
	c.timer.Fire = c.expired
	c.shard.add(c)
	s.conns.Add(1)
	if s.Counters != nil {
		s.Counters.Connections.Add(1)
	}
	idle := orDefault(s.IdleTimeout, defaultIdleTimeout)
	if s.draining.Load() { // its request may be on the way, but not for long
		idle = orDefault(s.HeaderTimeout, defaultHeaderTimeout)
	}
	c.setClock(clockIdle, idle)
	transport.Bind(c)
}

// Drain lets no connection begin another request: idle ones are closed, the
// others with the end of their answer, which says Connection: close. Offers
// that are accepted still become tunnels. Any goroutine.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.onLoops(func(h *shard) { h.each((*conn).drain) })
}

// Close cuts all connections. Tunnels are no longer connections of the Server.
// Any goroutine; it does not wait.
func (s *Server) Close() {
	s.draining.Store(true)
	s.onLoops(func(h *shard) { h.each((*conn).shut) })
}

func (s *Server) onLoops(f func(*shard)) {
	s.shards.Range(func(l, h any) bool {
		l.(bridge.Loop).Post(func() { f(h.(*shard)) })
		return true
	})
}

// Connections returns how many connections there are that are no tunnels. Any
// goroutine.
func (s *Server) Connections() int { return int(s.conns.Load()) }

func (s *Server) rules() requestRules {
	return requestRules{
		maxFields:     orDefault(s.MaxFields, defaultMaxHeaderFields),
		dots:          s.PathDots,
		websocket:     s.Offer != nil,
		synthesizeKey: s.SynthesizeKey,
	}
}

// exchange returns what serves ordinary requests.
func (s *Server) exchange() *exchange.Config {
	if s.Exchange != nil {
		return s.Exchange
	}
	return &exchange.Config{Handler: http.NotFoundHandler()}
}

func (s *Server) count(which func(*Counters) *atomic.Uint64) {
	if s.Counters != nil {
		which(s.Counters).Add(1)
	}
}
