package upstream

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wsgate/bridge"
)

// server is one server: an address of an entry. Generations of an upstream that
// follow one another share it, so that its tunnels, its health and what the
// operator ordered outlive a reload. Tunnels hold it.
type server struct {
	ledger  *ledger
	id      string // in logs and in the signature of cookies
	entry   string // name of its entry
	network string
	address string
	addr    netip.AddrPort // of a TCP server

	count    count
	requests atomic.Int64
	pass     atomic.Uint64 // RoundRobin: when its turn is, on the ledger's clock
	since    atomic.Int64  // when it was new or came back, ns

	drained atomic.Bool
	gone    atomic.Bool // in no table
	health
}

var _ bridge.Server = (*server)(nil)

// String implements bridge.Server.
func (s *server) String() string { return s.id }

// Release implements bridge.Server.
func (s *server) Release() {
	s.count.ended()
	s.ledger.count.ended()
	s.ledger.tunnels.wake()
}

// opened turns the place of a handshake into one of a tunnel.
func (s *server) opened() {
	s.count.opened()
	s.ledger.count.opened()
	s.ledger.tunnels.wake()
}

// leave gives back the places of a handshake or request: at the server and in
// the upstream.
func (s *server) leave(k kind) {
	s.giveBack(k)
	s.ledger.leave(k)
}

// exit gives back the place at the server; the one in the upstream is kept.
func (s *server) exit(k kind) {
	s.giveBack(k)
	s.ledger.queue(k).wake()
}

func (s *server) giveBack(k kind) {
	if k == request {
		s.requests.Add(-1)
	} else {
		s.count.failed()
	}
}

// load is how much the server has to do.
func (s *server) load() int {
	tunnels, pending := s.count.load()
	return tunnels + pending + int(s.requests.Load())
}

// state is what the server is fit for at that time.
func (s *server) state(now time.Time) State {
	switch until := s.until.Load(); {
	case s.gone.Load():
		return Gone
	case s.drained.Load():
		return Drained
	case s.down.Load():
		return Down
	case until > now.UnixNano():
		return Ejected
	case until != 0 || s.trial.Load():
		return Trial
	}
	return Up
}

// ledger is what the generations of an upstream have in common.
type ledger struct {
	current  atomic.Pointer[Upstream] // the generation that serves
	count    count
	requests atomic.Int64
	clock    atomic.Uint64 // RoundRobin: the turn of the last choice
	panics   atomic.Bool   // no server is fit
	tunnels  queue         // handshakes that wait for a place
	asking   queue         // requests that do
	budget   budget        // of retries
	stats    stats
	portsAt  atomic.Int64 // when exhausted ports were last told, ns

	mu      sync.Mutex
	made    int                // endpoints so far
	servers map[string]*server // by id: those in use, and those that are held
	drained map[string]bool    // ids and names of entries
}

// stats are counters since the first generation.
type stats struct {
	full, late, ports, retries, denied, ejections atomic.Uint64
}

func (g *ledger) queue(k kind) *queue {
	if k == request {
		return &g.asking
	}
	return &g.tunnels
}

// leave gives back the place of a handshake or request in the upstream.
func (g *ledger) leave(k kind) {
	if k == request {
		g.requests.Add(-1)
	} else {
		g.count.failed()
	}
	g.queue(k).wake()
}

// serverAt finds or makes the server of an id. The caller holds mu.
func (g *ledger) serverAt(id string, e *entry, addr netip.AddrPort, now time.Time) *server {
	s := g.servers[id]
	if s == nil {
		s = &server{ledger: g, id: id, entry: e.Name, network: e.Network, address: e.Address, addr: addr}
		if addr.IsValid() {
			s.address = addr.String()
		}
		s.since.Store(now.UnixNano())
		s.pass.Store(g.clock.Load())
		s.drained.Store(g.drained[id] || g.drained[e.Name])
		g.servers[id] = s
	}
	s.gone.Store(false)
	return s
}

// forget drops servers that are in no table and hold nothing. The caller holds mu.
func (g *ledger) forget(in map[string]*endpoint) {
	for id, s := range g.servers {
		if in[id] != nil {
			continue
		}
		s.gone.Store(true)
		if s.load() == 0 {
			delete(g.servers, id)
		}
	}
}
