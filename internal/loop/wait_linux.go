package loop

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Post runs f on the loop, in a later turn and in order. After the loop has ended
// f is dropped. Any goroutine.
func (l *Loop) Post(f func()) { l.TryPost(f) }

// TryPost is Post and says whether f will run. It is false only once the loop has
// ended. Any goroutine.
func (l *Loop) TryPost(f func()) bool {
	wake := false
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	l.posts = append(l.posts, f)
	l.pending.Store(int32(len(l.posts)))
	// The loop clears awake first and looks at pending then; we do it the other
	// way round, so one of us sees the other.
	if l.awake.CompareAndSwap(false, true) {
		wake = true
		l.wakers.Add(1)
	}
	l.mu.Unlock()
	l.gauge.posts.Add(1)
	if wake {
		l.wokenAt.Store(l.clock())
		sysWake(l.wakefd)
		l.wakers.Done()
	}
	return true
}

// runPosts runs what was posted before this moment.
func (l *Loop) runPosts() {
	if l.pending.Load() == 0 {
		return
	}
	l.mu.Lock()
	l.batch, l.posts = l.posts, l.batch[:0]
	l.pending.Store(0)
	l.mu.Unlock()
	for i, f := range l.batch {
		l.batch[i] = nil
		f()
	}
	if cap(l.batch) > 4096 {
		l.batch = nil // a burst does not stay
	}
}

// quiet is how long nothing has happened on a loop when it gives up its P to
// sleep.
const quiet = time.Second

// maxHold is how many milliseconds a loop sleeps at most with its P: so long the
// runtime lets any goroutine have one.
const maxHold = 10

// wait gets the next events, and sleeps only if there is nothing else to do.
func (l *Loop) wait() {
	next, armed := l.due()
	if len(l.ready) > 0 || len(l.flush) > 0 || len(l.dials) > 0 || len(l.lates) > 0 || armed && next <= l.clock()/tick {
		l.poll(0, false)
		l.nextTurn()
		return
	}
	if !l.pacer.wants() || !l.paced() {
		l.sleep(next, armed)
	}
}

// paced sleeps for one pace, unless there is something to do, and reports whether
// there is then. Posts need not wake the loop meanwhile: it looks at them next.
func (l *Loop) paced() bool {
	if l.poll(0, false); l.nev > 0 || l.pending.Load() > 0 {
		l.nextTurn()
		return true
	}
	l.beginSleep()
	sysSleep(pace)
	l.poll(0, false)
	l.beginTurn()
	n := l.nev + int(l.pending.Load())
	l.pacer.brought(n)
	return n > 0
}

// sleep waits for an event, a post or the tick at which the wheel has something.
//
// In traffic the thread sleeps with the P in its hands. To give it up for each
// sleep costs as much as the sleep brings, and so does Go's netpoller, which
// would watch the epoll in an epoll of its own. After a quiet second the
// scheduler is told.
func (l *Loop) sleep(next int64, armed bool) {
	l.awake.Store(false) // from here on a post wakes us
	if l.pending.Load() > 0 {
		l.awake.Store(true)
		l.poll(0, false)
		l.nextTurn()
		return
	}
	l.beginSleep()
	from := l.mark
	ms := -1
	if armed {
		ms = int(min(max(next-from/tick, 0), 1<<30))
	}
	if l.mayHold() && from-l.event < int64(quiet) {
		l.poll(int(min(uint(ms), maxHold)), false)
	} else {
		l.parks++
		l.poll(ms, true)
	}
	l.awake.Store(true)
	l.beginTurn()
	l.pacer.slept = l.mark - from
	if at := l.wokenAt.Swap(0); at != 0 {
		l.gauge.addDelay(l.mark, l.mark-at)
	} else if l.nev == 0 && armed && l.mark/tick >= next {
		l.gauge.addDelay(l.mark, l.mark-next*tick)
	}
}

// poll asks the epoll for events and waits for at most ms milliseconds if there
// are none, without an end if ms is -1. A signal ends the waiting.
func (l *Loop) poll(ms int, park bool) {
	for {
		n, e := l.epoll(l.epfd, l.events[:], ms, park)
		switch {
		case e == 0:
			l.nev = n
			return
		case e != unix.EINTR:
			panic(fmt.Sprintf("event loop %d: epoll_pwait: %v", l.id, e))
		case ms != 0:
			l.nev = 0
			return
		}
	}
}

// mayHold reports whether a P is left for everybody else while every loop of
// this process holds one.
func (l *Loop) mayHold() bool { return int(running.Load()) < runtime.GOMAXPROCS(0) }

// running is how many loops run in this process.
var running atomic.Int32

// nextTurn begins a turn right after another, which counts as busy.
func (l *Loop) nextTurn() {
	from := l.mark
	l.beginTurn()
	l.gauge.addBusy(from, l.mark)
}

// beginSleep ends the busy stretch.
func (l *Loop) beginSleep() {
	now := l.clock()
	l.gauge.addBusy(l.mark, now)
	l.gauge.since.Store(0)
	l.mark = now
}

// beginTurn begins a busy stretch and a turn, and sets its time.
func (l *Loop) beginTurn() {
	l.now = time.Now()
	l.mark = int64(l.now.Sub(l.base))
	l.gauge.since.Store(l.mark)
	if l.nev > 0 {
		l.event = l.mark
	}
}
