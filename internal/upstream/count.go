package upstream

import "sync/atomic"

// count counts tunnels, in its upper half, and opening handshakes, in its lower,
// so that both are read and changed as one. Any goroutine.
type count struct{ n atomic.Uint64 }

const oneTunnel = 1 << 32

func (c *count) load() (tunnels, pending int) {
	n := c.n.Load()
	return int(n / oneTunnel), int(n % oneTunnel)
}

// room reports whether one more handshake is within the limits.
func (l *Limits) room(tunnels, pending int) bool {
	return (l.MaxPending <= 0 || pending < l.MaxPending) && (l.MaxTunnels <= 0 || tunnels+pending < l.MaxTunnels)
}

// enter takes a place for a handshake if the limits have one.
func (c *count) enter(l *Limits) bool {
	for {
		n := c.n.Load()
		if !l.room(int(n/oneTunnel), int(n%oneTunnel)) {
			return false
		}
		if c.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// opened turns a handshake into a tunnel.
func (c *count) opened() { c.n.Add(oneTunnel - 1) }

// failed gives the place of a handshake back.
func (c *count) failed() { c.n.Add(^uint64(0)) }

// ended gives the place of a tunnel back.
func (c *count) ended() { c.n.Add(^uint64(oneTunnel - 1)) }

// enterRequest takes a place for a request if there is one.
func enterRequest(n *atomic.Int64, most int) bool {
	if now := n.Add(1); most <= 0 || now <= int64(most) {
		return true
	}
	n.Add(-1)
	return false
}
