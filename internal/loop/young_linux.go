package loop

import "time"

// A dialled connection gets its options when they begin to matter: the calls that
// set them are a tenth of what a tunnel costs that is closed again at once.
//
// They come after youth: the first probe of keep-alive is due much later.
// TCP_NODELAY and TCP_NOTSENT_LOWAT may come earlier, with the third write or the
// first of more than bareWrite octets. The two before are a handshake and what
// follows its answer: each finds nothing under way that it would have to wait for.
const (
	youth      = time.Second
	bareWrites = 2
	bareWrite  = 1 << 10
)

// young is a dialled connection that does not have all its options yet.
type young struct {
	c    *Conn
	keep time.Duration // as in DialOptions
	due  int64         // tick at which they are set
}

// raise remembers a connection that was dialled in this turn.
func (l *Loop) raise(c *Conn, keep time.Duration) {
	if c.remote.IsValid() { // else it is a unix socket
		c.bare = bareWrites + 1
		l.young = append(l.young, young{c, keep, int64(l.now.Add(youth).Sub(l.base)) / tick})
	}
}

// grow sets the options of those that have lasted.
func (l *Loop) grow() {
	n, now := l.grown, int64(l.now.Sub(l.base))/tick
	for ; n < len(l.young) && l.young[n].due <= now; n++ {
		if y := &l.young[n]; !y.c.has(dead) {
			y.c.bare = 0
			_ = setOptions(int(y.c.fd), y.keep) // it cannot fail on a TCP socket
		}
		l.young[n].c = nil
	}
	if n == l.grown {
		return
	}
	if l.grown = n; 2*n < len(l.young) {
		return // to move up those that are left in each turn would cost more than all else here
	}
	left := copy(l.young, l.young[n:])
	clear(l.young[left:])
	l.grown = 0
	if l.young = l.young[:left]; left == 0 && cap(l.young) > 256 {
		l.young = nil // a burst does not stay
	}
}

// dress gives a dialled connection its options before a write of n octets, if it
// is time.
func (c *Conn) dress(n int) {
	if c.bare--; c.bare == 0 || n > bareWrite {
		c.bare = 0
		_ = setOptions(int(c.fd), -1) // it cannot fail on a TCP socket
	}
}

// due is the tick of what is to be done next without an event, if there is any.
func (l *Loop) due() (next int64, armed bool) {
	next, armed = l.wheel.next()
	if l.grown < len(l.young) && (!armed || l.young[l.grown].due < next) {
		return l.young[l.grown].due, true
	}
	return next, armed
}
