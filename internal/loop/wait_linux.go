package loop

import (
	"fmt"
	"os"
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

// wait gets the next events, and sleeps only if there is nothing else to do.
func (l *Loop) wait() {
	next, armed := l.due()
	now := l.clock()
	if len(l.ready) > 0 || len(l.flush) > 0 || armed && next <= now/tick {
		l.nev = l.pollNow()
		l.setNow()
		return
	}
	if l.pacer.wants() && l.paced() {
		return
	}
	l.setDeadline(next, armed)
	switch err := l.raw.Read(l.onPoll); err {
	case nil:
	case os.ErrDeadlineExceeded:
		due := l.deadline * tick
		l.deadline, l.nev = noDeadline, 0
		if l.parked {
			l.unpark()
			l.gauge.addDelay(l.mark, l.mark-due)
			return
		}
	default:
		panic(fmt.Sprintf("event loop %d: wait: %v", l.id, err))
	}
	l.setNow()
}

// paced sleeps for one pace, unless there is something to do, and reports whether
// there is then. Posts need not wake the loop meanwhile: it looks at them next.
func (l *Loop) paced() bool {
	if l.nev = l.pollNow(); l.nev > 0 || l.pending.Load() > 0 {
		l.setNow()
		return true
	}
	l.sleepBegins()
	sysSleep(pace)
	l.nev = l.pollNow()
	l.sleepEnds()
	n := l.nev + int(l.pending.Load())
	l.pacer.brought(n)
	return n > 0
}

// poll is what the netpoller calls before it parks the loop and after each
// wake-up. It returns false to park, which it does only on 0 events and no posts.
func (l *Loop) poll(uintptr) bool {
	if l.parked {
		l.unpark()
		if at := l.wokenAt.Swap(0); at != 0 {
			l.gauge.addDelay(l.mark, l.mark-at)
		}
	}
	if l.nev = l.pollNow(); l.nev > 0 {
		return true
	}
	l.awake.Store(false)
	if l.pending.Load() > 0 {
		l.awake.Store(true)
		return true
	}
	l.sleepBegins()
	l.parked = true
	l.parks++
	if e := sysRewatch(l.gate, l.epfd, unix.EPOLLIN|unix.EPOLLONESHOT); e != 0 {
		panic(fmt.Sprintf("event loop %d: epoll_ctl: %v", l.id, e))
	}
	return false
}

// shutGate takes the event that woke the loop, and with it shuts the gate: it is
// opened for one event. If there was none (a timer did it) the gate stays open,
// which costs the netpoller's thread a look for nothing. It must not be shut in
// any other way: an event that stays behind would keep the next one from being
// told when the gate opens.
func (l *Loop) shutGate() {
	var one [1]unix.EpollEvent
	_, _ = epollWait(l.gate, one[:]) // nothing, or interrupted: it stays open
}

// unpark notes that the loop runs again.
func (l *Loop) unpark() {
	l.shutGate()
	l.awake.Store(true)
	l.parked = false
	from := l.mark
	l.sleepEnds()
	l.pacer.slept = l.mark - from
}

// sleepBegins ends the busy stretch.
func (l *Loop) sleepBegins() {
	now := l.clock()
	l.gauge.addBusy(l.mark, now)
	l.gauge.since.Store(0)
	l.mark = now
}

// sleepEnds begins one.
func (l *Loop) sleepEnds() {
	l.now = time.Now()
	l.mark = int64(l.now.Sub(l.base))
	l.gauge.since.Store(l.mark)
}

// setNow begins a turn: its time, and the turn before counts as busy.
func (l *Loop) setNow() {
	l.now = time.Now()
	at := int64(l.now.Sub(l.base))
	l.gauge.addBusy(l.mark, at)
	l.mark = at
	l.gauge.since.Store(at)
}

func (l *Loop) pollNow() int {
	for {
		n, e := l.epoll(l.epfd, l.events[:])
		switch e {
		case 0:
			return n
		case unix.EINTR:
		default:
			panic(fmt.Sprintf("event loop %d: epoll_pwait: %v", l.id, e))
		}
	}
}

// setDeadline makes the netpoller wake the loop for the wheel's next event. A
// deadline that is too early stays: it costs one idle turn, less than setting it
// for every timer that moves away.
func (l *Loop) setDeadline(next int64, armed bool) {
	switch {
	case armed && (l.deadline <= 0 || next < l.deadline):
		l.epf.SetReadDeadline(l.base.Add(time.Duration(next * tick)))
		l.deadline = next
	case !armed && l.deadline == noDeadline:
		l.epf.SetReadDeadline(time.Time{})
		l.deadline = 0
	}
}
