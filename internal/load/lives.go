package load

import (
	"context"
	"time"
)

// lives opens tunnels or requests, ends each at once, and begins anew in its
// slot.
type lives struct {
	f   *fleet
	get bool
}

// bye is a Close frame without a code.
var bye = appendFrame(nil, opClose, [4]byte{}, nil)

// Open opens and closes tunnels as fast as answers come, Tunnels of them under
// way on each connection. A life is: the handshake, its answer, a Close frame
// each way, and the ends of both directions. Over HTTP/1.1 each has a connection
// of its own. Result.Messages counts whole lives, Latency is their length.
func Open(ctx context.Context, t *Target, o Options) (*Result, error) {
	return runLives(ctx, t, o, false)
}

// Get makes ordinary requests as fast as answers come, Tunnels of them under way
// on each connection. Result.Messages counts requests.
func Get(ctx context.Context, t *Target, o Options) (*Result, error) {
	return runLives(ctx, t, o, true)
}

func runLives(ctx context.Context, t *Target, o Options, get bool) (*Result, error) {
	o.Size = 0
	p := &lives{get: get}
	f := newFleet(ctx, t, o, p)
	p.f = f
	f.expect(0)
	defer f.end()
	work := p.again
	if t.HTTP == 1 && !get {
		work = nil
		for n := range o.Conns {
			f.alive.Add(1)
			f.wg.Go(func() { p.singles(n) })
		}
	} else {
		if err := f.dial(); err != nil {
			return nil, err
		}
		f.start()
	}
	// The first few lives of each slot are warm-up too.
	enough := int64(5 * len(f.slots))
	f.until("opening", func() int64 { return f.answers() + f.count() }, func() bool {
		n := f.count()
		return n >= enough || n == 0 && f.refused.Load()+f.lost.Load() >= enough
	})
	if f.count() == 0 {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, f.nothing()
	}
	r, err := f.measure(work)
	if err == nil {
		if work == nil {
			f.last()
		} else {
			f.linger(f.since.Load())
		}
		f.close(r, f.since.Load())
	}
	return r, err
}

func (p *lives) ask(s session, t *tunnel) {
	t.plain = p.get
	if p.get {
		s.get(t)
	} else {
		s.open(t)
	}
}

func (p *lives) opened(t *tunnel) {
	t.times.push(t.since)
	if !p.get {
		t.s.send(t, bye)
		t.s.finish(t)
	}
}

func (p *lives) payload(*tunnel, []byte) {}
func (p *lives) message(*tunnel)         {}

func (p *lives) ended(t *tunnel, err error) {
	l := t.s.state()
	if err != nil {
		p.f.fail(t, err)
		return // again tries it anew
	}
	t.lived = true
	single := p.f.target.HTTP == 1 && !p.get
	if single { // the session does not last
		p.f.apart.Add(1)
	} else {
		l.messages.Add(1)
	}
	if p.f.recording.Load() {
		p.f.latency.add(l.now - t.since)
	}
	if single || p.f.stopped.Load() {
		return
	}
	t.stage = over
	p.f.ask(t.s, t.number)
}

// again begins anew in slots whose last life ended badly: not at once, so that a
// target that refuses everything is not asked in a frenzy.
func (p *lives) again() {
	f := p.f
	f.each(func(s session) {
		l := s.state()
		if !l.mu.TryLock() {
			return // busy, or stuck in a write
		}
		l.now = l.clock()
		for n := l.number * f.o.Tunnels; n < l.number*f.o.Tunnels+l.asked; n++ {
			if f.slots[n].stage == over && !l.closed.Load() {
				f.ask(s, n)
			}
		}
		_ = s.end() // the reader tells
	})
}

// singles is the lives of one slot over HTTP/1.1, one connection after the other.
func (p *lives) singles(n int) {
	f := p.f
	defer f.alive.Add(-1)
	for !f.stopped.Load() && !f.enough.Load() {
		began := f.clock()
		s, err := f.target.connect(f.dialer, n)
		if err != nil {
			if !f.stopped.Load() && f.ctx.Err() == nil {
				f.lost.Add(1)
				f.note("connection %d: %v", n, err)
			}
			f.pause(calm)
			continue
		}
		f.keep(n, s)
		s.begin()
		s.state().now, s.state().asked = began, 1 // the life begins with the connection
		f.ask(s, n)
		if err := s.end(); err == nil {
			_ = s.run() // the tunnel tells
		}
		s.close()
		if !f.slots[n].lived {
			f.pause(calm)
		}
	}
}

// calm is the pause before a target that failed is asked again.
const calm = 10 * time.Millisecond
