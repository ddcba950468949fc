package load

import (
	"context"
	"fmt"
	"time"
)

// idle holds tunnels that say nothing but one message at the beginning and one
// at the end.
type idle struct{ *echo }

func (i idle) opened(t *tunnel) {
	if i.f.o.Size > 0 {
		i.one(t)
	}
}

func (i idle) one(t *tunnel) {
	t.times.push(t.s.state().now)
	i.send(t)
}

func (i idle) message(t *tunnel) {
	if began, ok := i.arrived(t); ok {
		i.f.latency.add(t.s.state().now - began)
	}
}

// Idle opens tunnels, sends one message of Size octets on each (none if that is
// 0), holds them, and sends one more at the end. Result.Grown is by how much the
// target's memory grew from after a first tunnel to the end of the hold,
// Result.CPU what the target used in the hold.
func Idle(ctx context.Context, t *Target, o Options) (*Result, error) {
	// Code and buffers that the first tunnel brings into memory are not the
	// cost of one more.
	first := o
	first.Conns, first.Tunnels, first.Hold, first.Notice = 1, 1, 100*time.Millisecond, nil
	first.Size = max(o.Size, 1)
	if _, err := hold(ctx, t, first); err != nil {
		return nil, err
	}
	return hold(ctx, t, o)
}

func hold(ctx context.Context, t *Target, o Options) (*Result, error) {
	i := idle{newEcho(o)}
	i.f = newFleet(ctx, t, o, i)
	f := i.f
	f.expect(o.Size)
	defer f.end()
	before, err := PSS(t.PID)
	if err != nil {
		return nil, err
	}
	if err := f.dial(); err != nil {
		return nil, err
	}
	f.start()
	if err := f.answered(); err != nil {
		return nil, err
	}
	if o.Size > 0 {
		f.until("first messages", f.count, func() bool { return f.count() >= f.opens.Load()-f.lost.Load() })
	}
	opened := time.Duration(f.clock())
	if o.Notice != nil {
		o.Notice(fmt.Sprintf("holding %d tunnels for %v; opened in %.2f s", f.opens.Load(), o.Hold, opened.Seconds()))
	}
	from, err := f.read()
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(o.Hold); time.Now().Before(end) && f.ctx.Err() == nil; {
		f.pause(min(time.Until(end), time.Second))
		f.progress(fmt.Sprintf("holding %d tunnels, %d lost, %.0f s left", f.opens.Load(), f.lost.Load(), time.Until(end).Seconds()))
	}
	to, err := f.read()
	if err != nil {
		return nil, err
	}
	after, err := PSS(t.PID)
	if err != nil {
		return nil, err
	}
	i.last()
	r := f.result(from, to)
	r.Messages, r.Grown, r.Memory = f.count(), after-before, after
	r.Octets = r.Messages * int64(o.Size)
	f.close(r, f.clock())
	return r, nil
}

// last sends one more message on each tunnel and waits for the answers.
func (i idle) last() {
	f := i.f
	if f.o.Size == 0 || f.ctx.Err() != nil {
		return
	}
	want := f.count()
	f.each(func(s session) {
		f.tunnels(s, func(t *tunnel) {
			if t.stage == opened && t.flying == 0 {
				want++
				i.one(t)
			}
		})
	})
	f.until("last messages", f.count, func() bool { return f.count() >= want })
}
