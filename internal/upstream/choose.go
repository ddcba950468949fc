package upstream

import (
	"math"
	"slices"
)

// table is the servers of a generation as they are now. It is never changed.
type table struct {
	list    []*endpoint
	byTag   map[string]*endpoint // of sticky cookies
	settled bool                 // every name was looked up once
}

// level is how choosy a pick is.
type level uint8

const (
	strict  level = iota // fit servers, one handshake at a time for those on trial
	loose                // fit servers
	panicky              // no server is fit: all but those that are drained
)

// pick is one choice of a server.
type pick struct {
	u     *Upstream
	t     *table
	w     *want
	now   int64
	level level
}

// choose finds a server and takes a place there; nil if none has one. It takes
// no lock and allocates nothing.
func (u *Upstream) choose(w *want) *endpoint {
	p := pick{u: u, t: u.table.Load(), w: w, now: u.env.Now().UnixNano()}
	for range 8 { // others may take the place that was seen
		p.survey()
		e := p.one()
		if e == nil {
			return nil
		}
		if e.enter(w.kind) {
			return e
		}
	}
	return nil
}

// survey finds out how choosy one may be. It ends at the first good server.
func (p *pick) survey() {
	fit, any := false, false
	p.level = strict
	for _, e := range p.t.list {
		if p.may(e) {
			p.u.setPanic(false)
			return
		}
		if !e.marks.has(drained) {
			any = true
			fit = fit || e.fit(p.now)
		}
	}
	p.level = loose
	if any && !fit {
		p.level = panicky
	}
	if any {
		p.u.setPanic(!fit)
	}
}

// may reports whether the client may go there.
func (p *pick) may(e *endpoint) bool {
	if e.marks.Load() != 0 && !p.fit(e) {
		return false
	}
	return (!e.limited || e.room(p.w.kind)) && !slices.Contains(p.w.tried, e.server)
}

// fit is may for the rare server that has a mark.
func (p *pick) fit(e *endpoint) bool {
	if e.marks.has(drained) || p.level != panicky && !e.fit(p.now) {
		return false
	}
	if p.level > strict || !e.marks.has(trial) {
		return true
	}
	_, pending := e.count.load()
	return pending == 0 && e.requests.Load() == 0
}

func (p *pick) one() *endpoint {
	switch p.u.config.Balance.Policy {
	case RoundRobin:
		return p.byTurn()
	case RandomTwo:
		return p.byTwo()
	case Hash:
		if p.w.keyed {
			return p.byHash(p.w.key)
		}
	case Sticky:
		if e := p.t.byTag[p.w.tag]; e != nil {
			was := p.level
			p.level = max(p.level, loose) // its own client need not wait for the trial
			if p.may(e) {
				return e
			}
			p.level = was
		}
	}
	return p.byLeast()
}

// byLeast takes the server that has least to do for its weight, with the client
// counted. It begins at random, so that equals share.
func (p *pick) byLeast() *endpoint {
	var best *endpoint
	least := math.Inf(1)
	n := len(p.t.list)
	if n == 0 {
		return nil
	}
	from := int(p.u.env.Rand() % uint64(n))
	for i := range n {
		if i += from; i >= n {
			i -= n
		}
		e := p.t.list[i]
		if !p.may(e) {
			continue
		}
		if l := float64(e.load()+1) * p.share(e); l < least {
			best, least = e, l
		}
	}
	return best
}

// byTwo takes two at random and the better of them.
func (p *pick) byTwo() *endpoint {
	a := p.random(nil)
	if a == nil {
		return nil
	}
	b := p.random(a)
	if b != nil && float64(b.load()+1)*p.share(b) < float64(a.load()+1)*p.share(a) {
		return b
	}
	return a
}

// random takes a server at random, but not that one.
func (p *pick) random(not *endpoint) *endpoint {
	n := len(p.t.list)
	if n == 0 {
		return nil
	}
	at := 0
	for range 8 {
		at = int(p.u.env.Rand() % uint64(n))
		if e := p.t.list[at]; e != not && p.may(e) {
			return e
		}
	}
	for range n { // few are fit: the next one
		if at++; at >= n {
			at = 0
		}
		if e := p.t.list[at]; e != not && p.may(e) {
			return e
		}
	}
	return nil
}

// turn is the distance between two turns of a server of weight 1.
const turn = 1 << 20

// byTurn takes the server whose turn comes first. Each time a server is taken
// its next turn is the further away the lighter it is. The clock is the earliest
// turn that anyone has left: who was away does not catch up on what he missed.
func (p *pick) byTurn() *endpoint {
	clock := &p.u.ledger.clock
	for {
		var best *endpoint
		var was, first uint64
		begin := clock.Load()
		low := uint64(math.MaxUint64)
		for _, e := range p.t.list {
			if !p.may(e) {
				continue
			}
			pass := e.pass.Load()
			start := max(pass, begin)
			low = min(low, start)
			// Half a distance early makes the turns of a heavy server lie
			// around those of a light one.
			if at := start + uint64(turn/2*p.share(e)); best == nil || at < first {
				best, was, first = e, pass, at
			}
		}
		if best == nil {
			return nil
		}
		next := max(was, begin) + uint64(turn*p.share(best))
		if best.pass.CompareAndSwap(was, next) {
			if low > begin {
				clock.CompareAndSwap(begin, low)
			}
			return best
		}
	}
}

// share is what one more client weighs at the server: 1/weight, and more while it
// starts slowly.
func (p *pick) share(e *endpoint) float64 {
	if slow := int64(p.u.config.SlowStart); slow > 0 {
		if age := p.now - e.since.Load(); age < slow {
			return e.one / max(0.1, float64(age)/float64(slow))
		}
	}
	return e.one
}

// enter takes a place at the server.
func (e *endpoint) enter(k kind) bool {
	if k == request {
		return enterRequest(&e.requests, e.limits.MaxRequests)
	}
	return e.count.enter(&e.limits)
}

// room reports whether the server has a place.
func (e *endpoint) room(k kind) bool {
	if k == request {
		return e.limits.MaxRequests <= 0 || e.requests.Load() < int64(e.limits.MaxRequests)
	}
	tunnels, pending := e.count.load()
	return e.limits.room(tunnels, pending)
}

// take takes a place of the upstream and one at a server.
func (u *Upstream) take(w *want) *endpoint {
	g := u.ledger
	if w.kind == request {
		if !enterRequest(&g.requests, u.config.Limits.MaxRequests) {
			return nil
		}
	} else if !g.count.enter(&u.config.Limits) {
		return nil
	}
	e := u.choose(w)
	if e == nil {
		if w.kind == request {
			g.requests.Add(-1)
		} else {
			g.count.failed() // wakes nobody: no place at a server has come free
		}
	}
	return e
}
