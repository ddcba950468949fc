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
	// What each choice reads stands together.
	count    count
	requests atomic.Int64
	pass     atomic.Uint64 // RoundRobin: when its turn is, on the ledger's clock
	since    atomic.Int64  // when it was new or came back, ns
	health

	ledger  *ledger
	id      string // in logs and in the signature of cookies
	entry   string // name of its entry
	network string
	address string
	addr    netip.AddrPort // of a TCP server
}

// marks are what may be special about a server; 0 is the rule. Any goroutine.
type marks struct{ atomic.Uint32 }

const (
	drained uint32 = 1 << iota // by the operator
	down                       // by active checks
	ejected                    // by passive ones, for some time
	trial                      // an ejection is over, but nothing has gone well since
	gone                       // in no table
)

func (m *marks) has(what uint32) bool { return m.Load()&what != 0 }

// set puts a mark or takes it away and reports whether it was there.
func (m *marks) set(what uint32, on bool) bool {
	if on {
		return m.Or(what)&what != 0
	}
	return m.And(^what)&what != 0
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
	switch m := s.marks.Load(); {
	case m&gone != 0:
		return Gone
	case m&drained != 0:
		return Drained
	case m&down != 0:
		return Down
	case m&ejected != 0 && now.UnixNano() < s.until.Load():
		return Ejected
	case m&(ejected|trial) != 0:
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
		s.marks.set(drained, g.drained[id] || g.drained[e.Name])
		g.servers[id] = s
	}
	s.marks.set(gone, false)
	return s
}

// forget drops servers that are in no table and hold nothing. The caller holds mu.
func (g *ledger) forget(in map[string]*endpoint) {
	for id, s := range g.servers {
		if in[id] != nil {
			continue
		}
		s.marks.set(gone, true)
		if s.load() == 0 {
			delete(g.servers, id)
		}
	}
}
