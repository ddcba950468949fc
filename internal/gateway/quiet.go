package gateway

import (
	"runtime/debug"
	"time"
)

const (
	quietTick = time.Second
	// quietAfter is how many tunnels have to have come or gone before memory is
	// worth a look.
	quietAfter = 500
)

// giveBack returns memory to the system once a burst of tunnels has opened or
// ended and a quiet second has followed: what handshakes left behind would
// otherwise stay resident until the heap doubles, which with idle tunnels may
// be never. It is a goroutine of the gateway and ends with Close.
func (g *Gateway) giveBack() {
	tick := time.NewTicker(quietTick)
	defer tick.Stop()
	var last, done uint64
	for {
		select {
		case <-tick.C:
		case <-g.closed:
			return
		}
		s := g.bridge.Stats()
		now := 2*s.Opened + s.Refused - uint64(s.Tunnels) // opened, ended, refused
		if now == last && now-done >= quietAfter {
			done = now
			debug.FreeOSMemory()
		}
		last = now
	}
}
