package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const defaultLinger = 30 * time.Second

// Bridge decides about offers and keeps the tunnels. Its options are set before
// the first offer and never changed; its methods may be called from any
// goroutine unless they say otherwise. In all durations and limits 0 means off,
// but for Linger.
type Bridge struct {
	Backend Backend

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

	MaxTunnels          int // tunnels and handshakes in all
	MaxTunnelsPerClient int // per address, IPv6 by /64
	MaxPending          int // handshakes in flight

	// RejectMissingVersion answers 400 to HTTP/2 and HTTP/3 handshakes without
	// Sec-WebSocket-Version; otherwise they are taken for version 13.
	RejectMissingVersion bool

	// DrainCode and DrainReason are what the Close frames of a drain say; 0
	// means 1001 (RFC 6455 section 7.4.1).
	DrainCode   int
	DrainReason string

	Trace Trace

	active   atomic.Int64 // tunnels
	pending  atomic.Int64 // handshakes in flight
	opened   atomic.Uint64
	refused  atomic.Uint64
	ids      atomic.Uint64
	bounds   [len(boundCodes)]atomic.Uint64
	draining atomic.Pointer[drain]

	mu      sync.Mutex
	shards  map[Loop]*shard
	clients map[netip.Prefix]int
	idle    chan struct{} // closed when draining and nothing is left; nil before
}

// Stats are counts of a bridge.
type Stats struct {
	Tunnels int64  `json:"tunnels"`           // open now
	Pending int64  `json:"pending"`           // handshakes in flight
	Opened  uint64 `json:"tunnels_opened"`    // since the start
	Refused uint64 `json:"handshakes_failed"` // since the start: refused by a backend, by the gateway, or left
	// Bounds is how often each bound was reached since the start, by the code
	// that the log shows for it.
	Bounds map[string]uint64 `json:"bounds"`
}

// boundCodes name the bounds of a bridge in answers, in the log and in Stats.
var boundCodes = [...]string{
	"pending-limit", "tunnel-limit", "client-limit",
	"idle-timeout", "client-idle-timeout", "backend-idle-timeout", "max-life", "stall-timeout", "linger-timeout",
}

// Stats returns the counts of now.
func (b *Bridge) Stats() Stats {
	s := Stats{b.active.Load(), b.pending.Load(), b.opened.Load(), b.refused.Load(), make(map[string]uint64, len(boundCodes))}
	for i, code := range boundCodes {
		s.Bounds[code] = b.bounds[i].Load()
	}
	return s
}

// reached counts a bound; any other code is none.
func (b *Bridge) reached(code string) {
	if i := slices.Index(boundCodes[:], code); i >= 0 {
		b.bounds[i].Add(1)
	}
}

// shard is what a bridge has on one loop. It belongs to that loop.
type shard struct {
	loop  Loop
	epoch time.Time
	first tunnel // head of a ring
}

func (sh *shard) now() int64 { return int64(sh.loop.Now().Sub(sh.epoch)) }

func (sh *shard) after(when int64, t *Timer) {
	sh.loop.After(max(0, time.Duration(when-sh.now())), t)
}

func (sh *shard) add(t *tunnel) {
	head := &sh.first
	t.prev, t.next = head.prev, head
	t.prev.next, t.next.prev = t, t
}

func (sh *shard) remove(t *tunnel) {
	t.prev.next, t.next.prev = t.next, t.prev
	t.prev, t.next = nil, nil
}

// shardOf finds or makes the loop's shard. It is asked once a handshake.
func (b *Bridge) shardOf(l Loop) *shard {
	b.mu.Lock()
	defer b.mu.Unlock()
	sh := b.shards[l]
	if sh == nil {
		// The epoch lies a little before now, so that no time on it is 0.
		sh = &shard{loop: l, epoch: l.Now().Add(-time.Second)}
		sh.first.next, sh.first.prev = &sh.first, &sh.first
		if b.shards == nil {
			b.shards = make(map[Loop]*shard)
		}
		b.shards[l] = sh
	}
	return sh
}

// Serve decides about an offer: it refuses it, or asks the backend and joins
// the two sides. It is called on the offer's loop and returns at once.
func (b *Bridge) Serve(o Offer) {
	h := o.Handshake()
	info := &Tunnel{ID: b.ids.Add(1), Client: h.Client, Major: h.Major, Authority: h.Authority, Path: pathOnly(h.Path)}
	p := &opening{bridge: b, offer: o, info: info, asked: o.Loop().Now()}
	if r := b.admit(h); r != nil {
		p.refuse(r)
		return
	}
	p.admitted = true
	p.ask()
}

// pathOnly is the target without its query, which no log may show.
func pathOnly(p string) string {
	p, _, _ = strings.Cut(p, "?")
	return strings.Clone(p)
}

// opening is an offer while the backend is asked.
type opening struct {
	bridge   *Bridge
	offer    Offer
	info     *Tunnel
	asked    time.Time
	admitted bool
	over     bool
	cancel   func()
}

func (p *opening) ask() {
	p.offer.OnGone(p.gone)
	cancel := p.bridge.Backend.Open(p.offer.Loop(), p.offer.Handshake(), p.answered)
	if p.over {
		return
	}
	p.cancel = cancel
}

// gone is the client's leaving before the answer: it cancels the dial.
func (p *opening) gone(err *ResetError) {
	if p.over {
		return
	}
	p.over = true
	if p.cancel != nil {
		p.cancel()
	}
	p.failed(&Refusal{Code: "client-gone", Cause: err})
}

// answered is the backend's answer, or the failure to get one.
func (p *opening) answered(backend Side, fields Fields, err error) {
	if p.over {
		if backend != nil {
			backend.Reset(ReasonFarSide)
		}
		return
	}
	if err != nil {
		r := new(Refusal)
		if !errors.As(err, &r) {
			r = &Refusal{Status: 502, Code: "backend-failed", Cause: err}
		}
		p.refuse(notOpen(r, p.info.Major))
		return
	}
	p.over = true
	b, h := p.bridge, p.offer.Handshake()
	b.active.Add(1) // before pending goes down: together they never look idle here
	b.pending.Add(-1)
	b.opened.Add(1)
	sh := b.shardOf(p.offer.Loop())
	p.info.Handshake = sh.loop.Now().Sub(p.asked)
	client := p.offer.Accept(fields)
	if b.Trace.Opened != nil {
		b.Trace.Opened(p.info, h)
	}
	t := b.join(sh, p.info, client, backend)
	if d := b.draining.Load(); d != nil {
		t.drainBy(d)
	}
}

// notOpen keeps a backend's 2xx from a client that asked by CONNECT: there it
// would mean that the tunnel is open (RFC 9110 section 9.3.6).
func notOpen(r *Refusal, major int) *Refusal {
	if major == 1 || r.Status < 200 || r.Status > 299 {
		return r
	}
	if r.Stream != nil {
		r.Stream.Reset(ReasonFarSide)
	}
	return &Refusal{Status: 502, Code: "backend-2xx", Cause: fmt.Errorf("backend answers the handshake with status %d", r.Status)}
}

func (p *opening) refuse(r *Refusal) {
	p.over = true
	r.explain()
	p.failed(r)
	p.offer.Refuse(r)
}

// failed gives back what admit took and tells the trace.
func (p *opening) failed(r *Refusal) {
	b := p.bridge
	if p.admitted {
		b.pending.Add(-1)
		b.leave(p.info.Client)
	}
	b.refused.Add(1)
	if b.Trace.Refused != nil {
		p.info.Handshake = p.offer.Loop().Now().Sub(p.asked)
		b.Trace.Refused(p.info, r)
	}
}

// admit judges what every HTTP version has in common and takes a place under
// the limits. The refusal is nil if the handshake may go on.
func (b *Bridge) admit(h *Handshake) *Refusal {
	switch v := h.Fields.Values("Sec-WebSocket-Version"); {
	case len(v) == 0 && (h.Major == 1 || b.RejectMissingVersion):
		return &Refusal{Status: 400, Code: "missing-version"}
	case len(v) > 1 || len(v) == 1 && v[0] != "13": // RFC 6455 section 4.4
		return &Refusal{Status: 426, Code: "wrong-version", Fields: Fields{{"Sec-WebSocket-Version", "13"}}}
	case b.draining.Load() != nil:
		return b.busy("draining")
	}
	pending := b.pending.Add(1)
	switch {
	case b.MaxPending > 0 && pending > int64(b.MaxPending):
		b.pending.Add(-1)
		return b.busy("pending-limit")
	case b.MaxTunnels > 0 && pending+b.active.Load() > int64(b.MaxTunnels):
		b.pending.Add(-1)
		return b.busy("tunnel-limit")
	case !b.enter(h.Client):
		b.pending.Add(-1)
		return b.busy("client-limit")
	}
	return nil
}

// retryAfter is what a refused client is asked to wait, in seconds.
const retryAfter = 5

func (b *Bridge) busy(code string) *Refusal {
	b.reached(code)
	return &Refusal{Status: 503, Code: code, Fields: Fields{{"Retry-After", strconv.Itoa(retryAfter)}}}
}

// enter takes a place for the client's address.
func (b *Bridge) enter(c *Client) bool {
	if b.MaxTunnelsPerClient <= 0 {
		return true
	}
	k := clientKey(c.Remote)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.clients[k] >= b.MaxTunnelsPerClient {
		return false
	}
	if b.clients == nil {
		b.clients = make(map[netip.Prefix]int)
	}
	b.clients[k]++
	return true
}

// leave gives the place back.
func (b *Bridge) leave(c *Client) {
	if b.MaxTunnelsPerClient > 0 {
		k := clientKey(c.Remote)
		b.mu.Lock()
		if b.clients[k]--; b.clients[k] <= 0 {
			delete(b.clients, k)
		}
		b.mu.Unlock()
	}
	b.checkIdle()
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

// release gives back what a tunnel held and tells the trace.
func (b *Bridge) release(t *tunnel) {
	b.active.Add(-1)
	if b.Trace.Done != nil {
		b.Trace.Done(t.info, t.end())
	}
	b.leave(t.info.Client)
}
