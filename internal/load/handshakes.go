package load

import (
	"context"
	"errors"
)

// Handshakes makes full TLS handshakes, Conns of them at once, each on a
// connection of its own that is closed when it stands. Result.Messages counts
// them.
func Handshakes(ctx context.Context, t *Target, o Options) (*Result, error) {
	if t.TLS == nil {
		return nil, errors.New("TLS handshakes need a target with TLS: wss:// or https://")
	}
	if t.HTTP == 3 {
		return nil, errors.New("TLS handshakes are those of HTTP/1.1 and HTTP/2 over TCP")
	}
	o.Tunnels = 1
	f := newFleet(ctx, t, o, nil)
	defer f.end()
	for n := range o.Conns {
		f.alive.Add(1)
		f.wg.Go(func() { f.shakeHands(n) })
	}
	f.until("handshakes", f.count, func() bool { return f.count() >= int64(o.Conns) || f.count() == 0 && f.lost.Load() >= int64(5*o.Conns) })
	if f.count() == 0 {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, f.nothing()
	}
	r, err := f.measure(nil)
	if err == nil {
		f.close(r, 0)
	}
	return r, err
}

func (f *fleet) shakeHands(n int) {
	defer f.alive.Add(-1)
	for !f.stopped.Load() && f.ctx.Err() == nil {
		began := f.clock()
		c, err := f.target.dial(f.ctx, n)
		if err != nil {
			if !f.stopped.Load() && f.ctx.Err() == nil {
				f.lost.Add(1)
				f.note("handshake on connection %d: %v", n, err)
			}
			f.pause(calm)
			continue
		}
		if f.recording.Load() {
			f.latency.add(f.clock() - began)
		}
		f.apart.Add(1)
		c.Close()
	}
}
