package bridge

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Service is what an offer is served with: where the far half is, and the rules
// of the tunnel. It is not changed once it is in use; any loop may use it. A
// tunnel keeps the service that it was opened with.
type Service struct {
	// Name is that of the route, for logs.
	Name    string
	Backend Backend
	Times

	// Places are limits of this service, beside those of the Bridge. Services
	// that follow one another on a reload share them. nil: none.
	Places *Places

	// CloseCode and CloseReason stand in the Close frames of an Ending that has
	// none of its own; 0 means 1001, going away (RFC 6455 section 7.4.1).
	CloseCode   int
	CloseReason string

	// RejectMissingVersion answers 400 to HTTP/2 and HTTP/3 handshakes without
	// Sec-WebSocket-Version; otherwise they are taken for version 13.
	RejectMissingVersion bool
}

// Times are those of a handshake and its tunnel. 0 means off, but for Linger.
type Times struct {
	// Open is how long a handshake may take, waiting for a place at the backend
	// included; after it 504.
	Open time.Duration
	// Idle ends a tunnel with Close 1001 after so long without an octet either
	// way; ClientIdle and BackendIdle look at what one end sends.
	Idle, ClientIdle, BackendIdle time.Duration
	// MaxLife ends a tunnel with Close 1001 after so long.
	MaxLife time.Duration
	// Linger is how long the second direction may go on after the first has
	// ended in order; 0 means 30 s, less means for ever.
	Linger time.Duration
	// StallTimeout resets a tunnel in which octets wait so long without progress.
	StallTimeout time.Duration
	// PingInterval sends a WebSocket Ping into a direction that has been silent so long.
	PingInterval time.Duration
}

// Limits bound tunnels and handshakes. 0 means no limit.
type Limits struct {
	MaxTunnels          int // tunnels and handshakes
	MaxTunnelsPerClient int // per address, IPv6 by /64
	MaxPending          int // handshakes in flight
}

// Places are limits and who holds a place under them. Any goroutine may use
// them. The zero value has no limits.
type Places struct {
	limits  atomic.Pointer[Limits]
	active  atomic.Int64 // tunnels
	pending atomic.Int64 // handshakes in flight

	mu      sync.Mutex
	clients map[netip.Prefix]int
}

// Limit sets the limits from now on. Who holds a place keeps it.
func (p *Places) Limit(l Limits) { p.limits.Store(&l) }

// enter takes a place for a handshake. counted says whether the client's
// address was counted and has to be given to leave; code names the limit that
// is reached.
func (p *Places) enter(c *Client) (counted bool, code string) {
	l := p.limits.Load()
	if l == nil {
		p.pending.Add(1)
		return false, ""
	}
	pending := p.pending.Add(1)
	switch {
	case l.MaxPending > 0 && pending > int64(l.MaxPending):
		code = "pending-limit"
	case l.MaxTunnels > 0 && pending+p.active.Load() > int64(l.MaxTunnels):
		code = "tunnel-limit"
	case l.MaxTunnelsPerClient > 0:
		if counted = p.count(c, l.MaxTunnelsPerClient); !counted {
			code = "client-limit"
		}
	}
	if code != "" {
		p.pending.Add(-1)
	}
	return counted, code
}

// opened turns the place of a handshake into one of a tunnel.
func (p *Places) opened() {
	p.active.Add(1) // before pending goes down: together they never look idle here
	p.pending.Add(-1)
}

// count takes a place for the client's address.
func (p *Places) count(c *Client, most int) bool {
	k := clientKey(c.Remote)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[k] >= most {
		return false
	}
	if p.clients == nil {
		p.clients = make(map[netip.Prefix]int)
	}
	p.clients[k]++
	return true
}

// uncount gives the address's place back.
func (p *Places) uncount(c *Client) {
	k := clientKey(c.Remote)
	p.mu.Lock()
	if p.clients[k]--; p.clients[k] <= 0 {
		delete(p.clients, k)
	}
	p.mu.Unlock()
}

// clientKey is the address that limits count by: one user of IPv6 has a /64.
func clientKey(a netip.AddrPort) netip.Prefix {
	ip := a.Addr().Unmap()
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // fails only for the zero address, whose prefix is as good a key
	return p
}

// seat is what one offer, then its tunnel, holds under the limits of the bridge
// and of its service.
type seat struct {
	bridge, service               bool // a place is held
	bridgeCounted, serviceCounted bool // the client's address is counted there
}

// take takes a place under both limits, or names the one that is reached.
func (b *Bridge) take(s *Service, c *Client) (t seat, code string) {
	if t.bridgeCounted, code = b.places.enter(c); code != "" {
		return seat{}, code
	}
	t.bridge = true
	if s.Places == nil {
		return t, ""
	}
	if t.serviceCounted, code = s.Places.enter(c); code != "" {
		b.places.pending.Add(-1)
		t.free(b, nil, c)
		return seat{}, code
	}
	t.service = true
	return t, ""
}

// opened turns the places of a handshake into those of a tunnel.
func (t *seat) opened(b *Bridge, s *Service) {
	b.places.opened()
	if t.service {
		s.Places.opened()
	}
}

// giveUp gives back the places of a handshake.
func (t *seat) giveUp(b *Bridge, s *Service, c *Client) {
	if !t.bridge {
		return
	}
	if t.service {
		s.Places.pending.Add(-1)
	}
	t.free(b, s, c)
	b.places.pending.Add(-1)
}

// giveBack gives back the places of a tunnel.
func (t *seat) giveBack(b *Bridge, s *Service, c *Client) {
	if t.service {
		s.Places.active.Add(-1)
	}
	t.free(b, s, c)
	b.places.active.Add(-1)
}

func (t *seat) free(b *Bridge, s *Service, c *Client) {
	if t.bridgeCounted {
		b.places.uncount(c)
	}
	if t.serviceCounted {
		s.Places.uncount(c)
	}
}
