package loop

import "time"

// pace is how long a loop in traffic leaves its sockets alone once it has
// nothing to do. It is what a message may wait for, each way.
const pace = 200 * time.Microsecond

const (
	paceWorth = 2    // things to do that a pace has to bring to be worth its wake-up
	paceTries = 4    // paces in a row that may bring less
	restLeast = 8    // sleeps until pacing is tried again, the first time
	restMost  = 4096 // and after many tries in vain
)

// pacer decides how a loop that has nothing to do waits: asleep until the first
// event wakes it, or for one pace, after which it looks what has come.
//
// A wake-up costs the loop and the peer that causes it some 10 µs each, on a
// virtual machine; in traffic that keeps the loop half busy it happens for every
// message. A loop that paces is woken once for many of them, and wakes others
// less, since what it sends goes out together. Where paces bring too little it
// sleeps, and tries again more and more rarely. Of the loop.
type pacer struct {
	slept int64 // ns of the last sleep that was not a pace
	lean  int   // paces in a row that brought less than paceWorth
	rest  int   // sleeps until it is tried again
	pause int   // how many those are the next time
}

// wants reports whether to pace now, and counts a sleep if not.
func (p *pacer) wants() bool {
	if p.rest > 0 {
		p.rest--
		return false
	}
	return p.slept <= int64(pace)
}

// brought takes how many events and posts a pace has brought.
func (p *pacer) brought(n int) {
	if n >= paceWorth {
		p.lean, p.pause = 0, 0
		return
	}
	if p.lean++; p.lean < paceTries {
		return
	}
	p.pause = min(max(2*p.pause, restLeast), restMost)
	p.lean, p.rest = 0, p.pause
}
