package bridge

import (
	"context"
	"math/rand/v2"
	"time"
)

// drain is the order to end all tunnels.
type drain struct {
	spread   time.Time
	deadline time.Time // zero: none
}

func (b *Bridge) drainCode() int {
	if b.DrainCode != 0 {
		return b.DrainCode
	}
	return 1001
}

// Drain refuses new offers and ends each tunnel with a Close frame towards both
// ends (RFC 6455 section 7.4.1: 1001), spread over the time d; what is left
// after d is reset. With d 0 all are ended at once, and there is no deadline but
// the tunnels' own. It returns when no tunnel and no handshake is left, or with
// the context's error.
func (b *Bridge) Drain(ctx context.Context, d time.Duration) error {
	select {
	case <-b.startDrain(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startDrain gives the order and returns what is closed once nothing is left.
func (b *Bridge) startDrain(d time.Duration) <-chan struct{} {
	now := time.Now()
	// The last Close frame has its answer before the deadline, if d allows.
	spread := max(d-closeWait-time.Second, d/2)
	order := &drain{spread: now.Add(spread)}
	if d > 0 {
		order.deadline = now.Add(d)
	}
	b.mu.Lock()
	if b.idle == nil {
		b.idle = make(chan struct{})
	}
	idle := b.idle
	shards := make([]*shard, 0, len(b.shards))
	for _, sh := range b.shards {
		shards = append(shards, sh)
	}
	b.mu.Unlock()
	b.draining.Store(order)
	for _, sh := range shards {
		sh.loop.Post(func() { sh.drain(order) })
	}
	b.checkIdle()
	return idle
}

func (sh *shard) drain(d *drain) {
	for t := sh.first.next; t != &sh.first; {
		next := t.next
		t.drainBy(d)
		t = next
	}
}

// drainBy gives the tunnel its place in the drain.
func (t *tunnel) drainBy(d *drain) {
	if t.done || t.drain != 0 {
		return
	}
	now := t.shard.now()
	at := now
	if left := time.Until(d.spread); left > 0 {
		at += rand.Int64N(int64(left))
	}
	t.drain = at
	t.armBy(at)
	if !d.deadline.IsZero() {
		t.deadline = now + int64(max(0, time.Until(d.deadline)))
		t.armBy(t.deadline)
	}
}

// checkIdle ends the wait of Drain once nothing is left.
func (b *Bridge) checkIdle() {
	if b.draining.Load() == nil || b.active.Load() > 0 || b.pending.Load() > 0 {
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
