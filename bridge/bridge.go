package bridge

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const defaultLinger = 30 * time.Second

// Bridge decides about offers and keeps the tunnels. Trace is set before the
// first offer; its methods may be called from any goroutine unless they say
// otherwise. The zero value works.
type Bridge struct {
	Trace Trace

	places   Places
	opened   atomic.Uint64
	refused  atomic.Uint64
	ids      atomic.Uint64
	bounds   [len(boundCodes)]atomic.Uint64
	draining atomic.Pointer[order]

	mu     sync.Mutex
	shards map[Loop]*shard
	idle   chan struct{} // closed when draining and nothing is left; nil before
}

// Limit sets the limits over all services from now on.
func (b *Bridge) Limit(l Limits) { b.places.Limit(l) }

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
	s := Stats{b.places.active.Load(), b.places.pending.Load(), b.opened.Load(), b.refused.Load(), make(map[string]uint64, len(boundCodes))}
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

func (sh *shard) add(t *tunnel) { sh.insert(t, &sh.first) }

// insert puts t into the ring before at.
func (sh *shard) insert(t, at *tunnel) {
	t.prev, t.next = at.prev, at
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

// Serve decides about an offer: it refuses it, or asks the service's backend and
// joins the two sides. It is called on the offer's loop and returns at once.
func (b *Bridge) Serve(o Offer, s *Service) {
	p := b.opening(o, s)
	if r := p.admit(); r != nil {
		p.refuse(r)
		return
	}
	p.ask()
}

// Refuse answers an offer that no service takes; route names who decided so, for
// the log. It is called on the offer's loop.
func (b *Bridge) Refuse(o Offer, route string, r *Refusal) {
	b.opening(o, &Service{Name: route}).refuse(notOpen(r, o.Handshake().Major))
}

func (b *Bridge) opening(o Offer, s *Service) *opening {
	h := o.Handshake()
	info := &Tunnel{ID: b.ids.Add(1), Client: h.Client, Major: h.Major, Authority: h.Authority, Path: pathOnly(h.Path), Service: s}
	return &opening{bridge: b, offer: o, info: info, asked: o.Loop().Now()}
}

// pathOnly is the target without its query, which no log may show.
func pathOnly(p string) string {
	p, _, _ = strings.Cut(p, "?")
	return strings.Clone(p)
}

// opening is an offer while the backend is asked.
type opening struct {
	bridge *Bridge
	offer  Offer
	info   *Tunnel
	asked  time.Time
	seat   seat
	over   bool
	cancel func()
	timer  *Timer // nil if the service has no time for it
}

func (p *opening) ask() {
	p.offer.OnGone(p.gone)
	cancel := p.info.Service.Backend.Open(p.offer.Loop(), p.offer.Handshake(), p.answered)
	if p.over {
		return
	}
	p.cancel = cancel
	if d := p.info.Service.Open; d > 0 {
		p.timer = &Timer{Fire: p.late}
		p.offer.Loop().After(d, p.timer)
	}
}

// late is the end of the time that the service gives a handshake.
func (p *opening) late() {
	if !p.over {
		p.cancel()
		p.refuse(&Refusal{Status: 504, Code: "open-timeout"})
	}
}

// close says that the answer is known.
func (p *opening) close() {
	p.over = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

// gone is the client's leaving before the answer: it cancels the dial.
func (p *opening) gone(err *ResetError) {
	if p.over {
		return
	}
	p.close()
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
		if s := p.offer.Handshake().Server; s != nil && err == nil {
			s.Release()
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
	p.close()
	b, h := p.bridge, p.offer.Handshake()
	p.seat.opened(b, p.info.Service)
	b.opened.Add(1)
	sh := b.shardOf(p.offer.Loop())
	p.info.Handshake = sh.loop.Now().Sub(p.asked)
	p.info.Server = h.Server
	client := p.offer.Accept(fields)
	if b.Trace.Opened != nil {
		b.Trace.Opened(p.info, h)
	}
	t := b.join(sh, p.info, client, backend)
	t.seat = p.seat
	t.start()
	if d := b.draining.Load(); d != nil {
		t.obey(d)
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
	p.close()
	r.explain()
	p.failed(r)
	p.offer.Refuse(r)
}

// failed gives back what admit took and tells the trace.
func (p *opening) failed(r *Refusal) {
	b := p.bridge
	p.seat.giveUp(b, p.info.Service, p.info.Client)
	b.checkIdle()
	b.refused.Add(1)
	if b.Trace.Refused != nil {
		p.info.Handshake = p.offer.Loop().Now().Sub(p.asked)
		b.Trace.Refused(p.info, r)
	}
}

// admit judges what every HTTP version has in common and takes a place under
// the limits. The refusal is nil if the handshake may go on.
func (p *opening) admit() *Refusal {
	b, h := p.bridge, p.offer.Handshake()
	switch v := h.Fields.Values("Sec-WebSocket-Version"); {
	case len(v) == 0 && (h.Major == 1 || p.info.Service.RejectMissingVersion):
		return &Refusal{Status: 400, Code: "missing-version"}
	case len(v) > 1 || len(v) == 1 && v[0] != "13": // RFC 6455 section 4.4
		return &Refusal{Status: 426, Code: "wrong-version", Fields: Fields{{"Sec-WebSocket-Version", "13"}}}
	case b.draining.Load() != nil:
		return b.busy("draining")
	}
	var code string
	if p.seat, code = b.take(p.info.Service, h.Client); code != "" {
		return b.busy(code)
	}
	return nil
}

// retryAfter is what a refused client is asked to wait, in seconds.
const retryAfter = 5

func (b *Bridge) busy(code string) *Refusal {
	b.reached(code)
	return &Refusal{Status: 503, Code: code, Fields: Fields{{"Retry-After", strconv.Itoa(retryAfter)}}}
}

// release gives back what a tunnel held and tells the trace.
func (b *Bridge) release(t *tunnel) {
	t.seat.giveBack(b, t.info.Service, t.info.Client)
	if s := t.info.Server; s != nil {
		s.Release()
	}
	if b.Trace.Done != nil {
		b.Trace.Done(t.info, t.end())
	}
	b.checkIdle()
}
