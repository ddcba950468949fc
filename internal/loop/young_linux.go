package loop

import "time"

// youth is how long a dialled connection goes without keep-alive: the calls that
// set it are a tenth of what a tunnel costs that is closed again at once, and the
// first probe is due much later.
const youth = time.Second

// young is a dialled connection that has no keep-alive yet.
type young struct {
	c    *Conn
	keep time.Duration // idle time and interval
	due  int64         // tick at which it is set
}

// raise remembers a connection that was dialled in this turn.
func (l *Loop) raise(c *Conn, keep time.Duration) {
	if keep = orDefault(keep); keep > 0 && c.remote.IsValid() {
		l.young = append(l.young, young{c, keep, int64(l.now.Add(youth).Sub(l.base)) / tick})
	}
}

// grow sets the keep-alive of those that have lasted.
func (l *Loop) grow() {
	n, now := 0, int64(l.now.Sub(l.base))/tick
	for ; n < len(l.young) && l.young[n].due <= now; n++ {
		if y := &l.young[n]; !y.c.has(dead) {
			_ = setKeepAlive(int(y.c.fd), y.keep) // it cannot fail on a TCP socket
		}
	}
	if n == 0 {
		return
	}
	left := copy(l.young, l.young[n:])
	clear(l.young[left:])
	if l.young = l.young[:left]; left == 0 && cap(l.young) > 256 {
		l.young = nil // a burst does not stay
	}
}

// due is the tick of what is to be done next without an event, if there is any.
func (l *Loop) due() (next int64, armed bool) {
	next, armed = l.wheel.next()
	if len(l.young) > 0 && (!armed || l.young[0].due < next) {
		return l.young[0].due, true
	}
	return next, armed
}
