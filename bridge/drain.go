package bridge

import (
	"context"
	"math/rand/v2"
	"time"
)

// Ending is how tunnels are ended by order: a Close frame towards both ends (RFC
// 6455 section 7.4.1), then what is left is reset.
type Ending struct {
	// Code and Reason are those of the Close frame; with 0 those of the service.
	Code   int
	Reason string
	// Why is the word for it in the log.
	Why string
	// Time is what the tunnels have: their Close frames are spread over it, and
	// what is left after it is reset. 0: all are ended at once, and there is no
	// deadline but their own.
	Time time.Duration
	// Late puts the Close frames to the end of Time, spread over a tenth of it
	// on top; the reset follows when their answers could have come.
	Late bool
}

// order is an Ending with its times fixed.
type order struct {
	Ending
	from, until time.Time // of Close frames
	deadline    time.Time // zero: none
}

// words returns what the Close frame of a tunnel of s says.
func (o *order) words(s *Service) (code int, reason string) {
	switch {
	case o.Code != 0:
		return o.Code, o.Reason
	case s.CloseCode != 0:
		return s.CloseCode, s.CloseReason
	}
	return 1001, o.Reason
}

func newOrder(e Ending) *order {
	now := time.Now()
	o := &order{Ending: e, from: now, until: now}
	switch {
	case e.Late:
		o.from = now.Add(e.Time)
		o.until = o.from.Add(e.Time / 10)
		o.deadline = o.until.Add(closeWait + time.Second)
	case e.Time > 0:
		// The last Close frame has its answer before the deadline, if Time allows.
		o.until = now.Add(max(e.Time-closeWait-time.Second, e.Time/2))
		o.deadline = now.Add(e.Time)
	}
	return o
}

// Drain refuses new offers and ends each tunnel. It returns when no tunnel and
// no handshake is left, or with the context's error.
func (b *Bridge) Drain(ctx context.Context, e Ending) error {
	select {
	case <-b.startDrain(e):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startDrain gives the order and returns what is closed once nothing is left.
func (b *Bridge) startDrain(e Ending) <-chan struct{} {
	if e.Why == "" {
		e.Why = "drain"
	}
	o := newOrder(e)
	b.mu.Lock()
	if b.idle == nil {
		b.idle = make(chan struct{})
	}
	idle := b.idle
	b.mu.Unlock()
	b.draining.Store(o)
	b.each(func(t *tunnel) { t.obey(o) })
	b.checkIdle()
	return idle
}

// Match says whether a tunnel is meant. It is called on the tunnel's loop.
type Match func(*Tunnel) bool

// End ends the tunnels that match, by e. Those that have an order already keep
// the earlier one. It returns at once.
func (b *Bridge) End(e Ending, m Match) {
	o := newOrder(e)
	b.each(func(t *tunnel) {
		if m(t.info) {
			t.obey(o)
		}
	})
}

// Spare takes an order of End back from the tunnels that match and whose Close
// frame is not yet on its way. It returns at once.
func (b *Bridge) Spare(m Match) {
	b.each(func(t *tunnel) {
		if t.order != nil && t.order != b.draining.Load() && t.closing == 0 && m(t.info) {
			t.order, t.drain, t.deadline = nil, 0, 0
		}
	})
}

// Count counts the tunnels that match. It waits for the loops and is not to be
// called on one.
func (b *Bridge) Count(ctx context.Context, m Match) (int, error) {
	shards := b.allShards()
	counts := make(chan int, len(shards))
	for _, sh := range shards {
		n := 0
		sh.walk(func(t *tunnel) {
			if m(t.info) {
				n++
			}
		}, func() { counts <- n })
	}
	sum := 0
	for range shards {
		select {
		case n := <-counts:
			sum += n
		case <-ctx.Done():
			return sum, ctx.Err()
		}
	}
	return sum, nil
}

// each calls f for every tunnel, on its loop; f may end the tunnel.
func (b *Bridge) each(f func(*tunnel)) {
	for _, sh := range b.allShards() {
		sh.walk(f, func() {})
	}
}

func (b *Bridge) allShards() []*shard {
	b.mu.Lock()
	defer b.mu.Unlock()
	shards := make([]*shard, 0, len(b.shards))
	for _, sh := range b.shards {
		shards = append(shards, sh)
	}
	return shards
}

// aTurn is how many tunnels a walk looks at before it lets others have the loop.
const aTurn = 500

// walk calls f for each tunnel of the shard, on its loop, then done. Any
// goroutine may call it. A mark in the list keeps the place from turn to turn.
func (sh *shard) walk(f func(*tunnel), done func()) {
	mark := &tunnel{done: true}
	var step func()
	step = func() {
		t := sh.first.next
		if mark.next != nil {
			t = mark.next
			sh.remove(mark)
		}
		for n := 0; t != &sh.first; n++ {
			if n == aTurn {
				sh.insert(mark, t)
				sh.loop.Post(step)
				return
			}
			next := t.next
			if !t.done {
				f(t)
			}
			t = next
		}
		done()
	}
	sh.loop.Post(step)
}

// obey gives the tunnel its place in an order. An earlier order stays if it ends
// the tunnel sooner.
func (t *tunnel) obey(o *order) {
	if t.done {
		return
	}
	now := t.shard.now()
	wait := time.Until(o.from)
	at := now + int64(max(0, wait))
	if spread := o.until.Sub(o.from) + min(0, wait); spread > 0 {
		at += rand.Int64N(int64(spread))
	}
	if t.order != nil && t.drain <= at {
		return
	}
	t.order, t.drain = o, at
	t.armBy(at)
	if t.deadline = 0; !o.deadline.IsZero() {
		t.deadline = now + int64(max(0, time.Until(o.deadline)))
		t.armBy(t.deadline)
	}
}

// checkIdle ends the wait of Drain once nothing is left.
func (b *Bridge) checkIdle() {
	if b.draining.Load() == nil || b.places.active.Load() > 0 || b.places.pending.Load() > 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.idle != nil {
		select {
		case <-b.idle:
		default:
			close(b.idle)
		}
	}
}
