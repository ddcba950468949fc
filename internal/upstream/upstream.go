// Package upstream is where tunnels and requests go when there are several
// servers: it chooses one, keeps the limits, knows which are fit, tries another
// while nothing was sent, and looks names up again.
package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wsgate/bridge"
	"wsgate/h1"
)

// Upstream is one generation of an upstream: what one configuration says of it.
// It is a bridge.Backend. All methods may be called from any goroutine, but for
// Open, which is called on a loop.
//
// A reload makes a new generation with the old one as its base, starts it and
// closes the old one. They share what outlives a configuration: tunnels and
// their places, health, ejections, and what the operator ordered.
type Upstream struct {
	config  Config
	env     Env
	ledger  *ledger
	old     *Upstream // until Start
	entries []*entry
	table   atomic.Pointer[table]

	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex // the lists of addresses, and who makes the table
	points map[string]*endpoint
}

// entry is one of the list of servers.
type entry struct {
	ServerConfig
	host    string // to be looked up, "" if there is no need
	port    uint16
	addrs   []netip.AddrPort // of a TCP entry; guarded by Upstream.mu
	settled bool             // looked up once, with whatever result
	err     error            // of the last lookup
}

// endpoint is a server as one generation sees it.
type endpoint struct {
	// What each choice reads stands together.
	*server
	weight  int
	one     float64 // what one tunnel weighs: 1/weight
	seed    uint64  // of rendezvous hashing
	limited bool
	limits  Limits

	backend h1.Backend
	tag     string    // of the sticky cookie
	cookies [2]string // Set-Cookie in cleartext and over https
	of      *entry
	key     string // of pooled connections
	tls     *tls.Config
	sources []netip.Addr       // of its family
	turn    atomic.Uint32      // of sources, for dial
	stop    context.CancelFunc // ends its checks
}

// New checks the configuration and makes a generation. It begins nothing and
// changes nothing for others until Start; one that is not started needs no
// Close. old is the generation that this one will follow; nil for the first.
// The error is one line and says which option is wrong.
func New(c Config, env Env, old *Upstream) (*Upstream, error) {
	if err := c.settle(); err != nil {
		return nil, fmt.Errorf("upstream %q: %w", c.Name, err)
	}
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.Rand == nil {
		env.Rand = rand.Uint64
	}
	if env.Resolver == nil {
		env.Resolver = net.DefaultResolver
	}
	u := &Upstream{config: c, env: env, old: old, points: make(map[string]*endpoint)}
	seen := make(map[[2]string]bool)
	names := make(map[string]bool)
	for _, s := range c.Servers {
		if seen[[2]string{s.Network, s.Address}] || names[s.Name] {
			return nil, fmt.Errorf("upstream %q: server %q stands there twice", c.Name, s.Name)
		}
		seen[[2]string{s.Network, s.Address}], names[s.Name] = true, true
		u.entries = append(u.entries, newEntry(s))
	}
	if old != nil {
		u.ledger = old.ledger
	} else {
		u.ledger = newLedger()
	}
	u.table.Store(&table{})
	u.ctx, u.stop = context.WithCancel(context.Background())
	return u, nil
}

func newLedger() *ledger {
	g := &ledger{servers: make(map[string]*server), drained: make(map[string]bool)}
	take := func(w *want) (*endpoint, error) {
		if u := g.current.Load(); u != nil {
			return u.grant(w)
		}
		return nil, nil // Start wakes the queue
	}
	g.tunnels.take, g.asking.take = take, take
	return g
}

// Start puts the generation in the place of the one before it: from now on it
// answers, also what the old one is asked. It looks names up and checks servers
// until Close. Call it once.
func (u *Upstream) Start() {
	u.mu.Lock()
	if u.old != nil {
		u.inherit(u.old)
		u.old = nil
	}
	u.ledger.mu.Lock()
	u.build() // first: who asks sees no generation without its servers
	u.ledger.current.Store(u)
	u.ledger.mu.Unlock()
	u.mu.Unlock()
	for _, e := range u.entries {
		if e.host != "" {
			u.wg.Go(func() { u.watch(e) })
		}
	}
	u.wake()
}

// serving is the generation that serves: this one, or one that followed it.
func (u *Upstream) serving() *Upstream {
	if now := u.ledger.current.Load(); now != nil {
		return now
	}
	return u
}

// inherit takes over what the old generation knows of names.
func (u *Upstream) inherit(old *Upstream) {
	old.mu.Lock()
	defer old.mu.Unlock()
	for _, e := range u.entries {
		i := slices.IndexFunc(old.entries, func(o *entry) bool { return o.host == e.host && o.port == e.port })
		if e.host != "" && i >= 0 {
			o := old.entries[i]
			e.addrs, e.settled, e.err = o.addrs, o.settled, o.err
		}
	}
}

// Close ends the generation's goroutines: lookups and checks. Tunnels and
// handshakes go on.
func (u *Upstream) Close() {
	u.stop()
	u.wg.Wait()
}

// rebuild makes the table anew unless a later generation serves. The caller holds
// mu.
func (u *Upstream) rebuild() {
	u.ledger.mu.Lock()
	defer u.ledger.mu.Unlock()
	if u.ledger.current.Load() == u {
		u.build()
	}
}

// build makes the table. The caller holds mu and that of the ledger.
func (u *Upstream) build() {
	g := u.ledger
	now := u.env.Now()
	t := &table{byTag: make(map[string]*endpoint), settled: true}
	points := make(map[string]*endpoint)
	for _, e := range u.entries {
		t.settled = t.settled && (e.host == "" || e.settled)
		for _, addr := range e.addresses() {
			id := e.id(addr)
			p := u.points[id]
			if p == nil {
				p = u.endpoint(e, g.serverAt(id, e, addr, now), addr)
			}
			points[id] = p
			t.list = append(t.list, p)
			if p.tag != "" {
				t.byTag[p.tag] = p
			}
		}
	}
	for id, p := range u.points {
		if points[id] == nil {
			p.stop()
		}
	}
	u.points = points
	u.table.Store(t)
	g.forget(points)
}

// endpoint makes a server usable by this generation and begins its checks.
func (u *Upstream) endpoint(e *entry, s *server, addr netip.AddrPort) *endpoint {
	c := &u.config
	u.ledger.made++
	p := &endpoint{
		server: s, weight: e.Weight, one: 1 / float64(e.Weight), limits: e.Limits, limited: e.Limits != Limits{}, of: e,
		tls: e.tlsConfig(c.TLS), sources: family(c.Sources, addr), key: fmt.Sprintf("server-%d", u.ledger.made),
	}
	p.backend = h1.Backend{
		Network: e.Network, Address: s.address, TLS: p.tls, Sources: p.sources, Slots: u.env.Slots,
		ConnectTimeout: c.ConnectTimeout, TLSTimeout: c.TLSTimeout, OpenTimeout: c.OpenTimeout, KeepAlive: c.KeepAlive,
		HostHeader: c.HostHeader,
	}
	if c.HostOfServer {
		p.backend.HostHeader = e.Host
	}
	name := e.Name // a server that moves keeps its clients, one of several addresses is itself
	if e.host != "" {
		name = s.id
	}
	p.seed = mix(hashString(hashSeed, name))
	if c.Balance.Policy == Sticky {
		p.tag = c.Balance.Cookie.tag(c.Name, name)
		p.cookies[0], p.cookies[1] = c.Balance.Cookie.fields(p.tag)
	}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(u.ctx)
	if c.Active != nil {
		u.wg.Go(func() { u.check(ctx, p) })
	} else {
		s.unchecked()
	}
	return p
}

// wake lets those that wait look again.
func (u *Upstream) wake() {
	u.ledger.tunnels.wake()
	u.ledger.asking.wake()
}

// grant is what the first in a queue is told: a place, why there will be none,
// or nothing yet.
func (u *Upstream) grant(w *want) (*endpoint, error) {
	if e := u.take(w); e != nil {
		return e, nil
	}
	if t := u.table.Load(); len(t.list) == 0 && t.settled {
		return nil, u.noServer()
	}
	return nil, nil
}

// noServer is the refusal when the names have no address.
func (u *Upstream) noServer() *bridge.Refusal {
	return &bridge.Refusal{Status: 502, Code: codeDNSFailed, Cause: u.lookupError()}
}

// refusal says why there is no place.
func (u *Upstream) refusal() *bridge.Refusal {
	list := u.table.Load().list
	if len(list) == 0 {
		return u.noServer()
	}
	if !slices.ContainsFunc(list, func(e *endpoint) bool { return !e.marks.has(drained) }) {
		return busy(codeNoServer)
	}
	u.ledger.stats.full.Add(1)
	return busy(codeFull)
}

// late says that there was no place in time.
func (u *Upstream) late() *bridge.Refusal {
	if len(u.table.Load().list) == 0 { // the DNS has not answered
		return u.noServer()
	}
	u.ledger.stats.late.Add(1)
	return busy(codeLate)
}

// The codes of a place that is not to be had.
const (
	codeFull      = "upstream-full"
	codeLate      = "queue-timeout"
	codeNoServer  = "no-server"
	codeDNSFailed = "dns-failed"

	// As h1 says them.
	codePorts         = "ports-exhausted"
	codeOpenTimeout   = "open-timeout"
	codeConnectFailed = "connect-failed"

	codeUnknown = "backend-failed" // as bridge says it
)

// busy asks the client to come again in some seconds.
func busy(code string) *bridge.Refusal {
	return &bridge.Refusal{Status: 503, Code: code, Fields: bridge.Fields{{Name: "Retry-After", Value: "5"}}}
}

// Name is that of the configuration.
func (u *Upstream) Name() string { return u.config.Name }

// Has reports whether a server, named as bridge.Tunnel.Server says it, still
// belongs to this configuration. One whose address has left the DNS does as
// long as its entry is there.
func (u *Upstream) Has(server string) bool {
	for _, e := range u.entries {
		if server == e.id(netip.AddrPort{}) || e.host != "" && len(server) > len(e.Name) && server[:len(e.Name)+1] == e.Name+"@" {
			return true
		}
	}
	return false
}

// SetDrain takes a server out, or lets it in again, until it is told otherwise:
// reloads do not change that. It is named as bridge.Tunnel.Server says it, or by
// its entry, which means all its addresses, also those to come. Its tunnels stay;
// it gets no new ones and no requests. false: there is none of that name.
func (u *Upstream) SetDrain(server string, on bool) bool {
	g := u.ledger
	g.mu.Lock()
	found := slices.ContainsFunc(u.entries, func(e *entry) bool { return e.Name == server })
	for id, s := range g.servers {
		if id != server && s.entry != server {
			continue
		}
		found = true
		if s.marks.set(drained, on) && !on {
			s.since.Store(u.env.Now().UnixNano())
		}
		if !on {
			delete(g.drained, id)
		}
	}
	if found && on {
		g.drained[server] = true
	} else {
		delete(g.drained, server)
	}
	g.mu.Unlock()
	u.wake()
	return found
}

// Status returns what is known of each server: those in use in the order of the
// configuration, then those that are gone but hold tunnels.
func (u *Upstream) Status() []ServerStatus {
	now := u.env.Now()
	var out []ServerStatus
	for _, e := range u.table.Load().list {
		out = append(out, e.status(now, e.weight))
	}
	from := len(out)
	g := u.ledger
	g.mu.Lock()
	for _, s := range g.servers {
		if s.marks.has(gone) && s.load() > 0 {
			out = append(out, s.status(now, 0))
		}
	}
	g.mu.Unlock()
	slices.SortFunc(out[from:], func(a, b ServerStatus) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

func (s *server) status(now time.Time, weight int) ServerStatus {
	tunnels, pending := s.count.load()
	st := ServerStatus{
		Name: s.id, Entry: s.entry, Address: s.address, State: s.state(now), Weight: weight,
		Tunnels: tunnels, Pending: pending, Requests: int(s.requests.Load()),
	}
	if st.State == Ejected {
		st.EjectedUntil = time.Unix(0, s.until.Load())
	}
	s.mu.Lock()
	if s.last != nil && st.State != Up {
		st.LastFailure = s.last.Error()
	}
	s.mu.Unlock()
	return st
}

// Stats returns the counts of now.
func (u *Upstream) Stats() Stats {
	g := u.ledger
	s := Stats{Requests: int(g.requests.Load()), Waiting: int(g.tunnels.n.Load() + g.asking.n.Load())}
	s.Tunnels, s.Pending = g.count.load()
	s.Full, s.QueueTimeouts, s.PortsExhausted = g.stats.full.Load(), g.stats.late.Load(), g.stats.ports.Load()
	s.Retries, s.RetriesDenied, s.Ejections = g.stats.retries.Load(), g.stats.denied.Load(), g.stats.ejections.Load()
	return s
}
