package loop

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// niceness is how much background work gives way to loops.
const niceness = 15

// Background runs f on a thread of its own that gives way to the loops where
// processors are scarce, and waits for it. Any goroutine may call it; f is a
// goroutine's code: it may block, and start others, which do not give way.
func Background(f func()) {
	done := make(chan bool)
	go func() {
		defer close(done)
		// Without unlocking: the thread ends with the goroutine, since only the
		// privileged may give its priority back.
		runtime.LockOSThread()
		// On Linux it is the thread's own. Without the right to it f runs as all do.
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceness)
		f()
	}()
	<-done
}

// longSlice is for how long the scheduler lets a thread that computes go on before
// its turn ends. Linux has some 3 ms for all (EEVDF, from 6.6), and from 6.12 a
// thread with a shorter slice that wakes up goes before one with a longer.
const longSlice = 20 * time.Millisecond

// yielding is the state of a thread that lets others go first.
type yielding struct{ before *unix.SchedAttr }

// giveWay keeps the goroutine on its thread and lets whatever wakes up go before
// that: loops, and the servers and other programs of the machine. Its share of the
// processors stays the same. An older Linux takes no notice.
func giveWay() *yielding {
	runtime.LockOSThread()
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return &yielding{} // the thread is as all are, then
	}
	a := *before
	a.Runtime = uint64(longSlice)
	_ = unix.SchedSetAttr(0, &a, 0) // the same where it is refused
	return &yielding{before}
}

// end makes the thread what it was, on the goroutine that gave way.
func (y *yielding) end() {
	if y.before != nil {
		_ = unix.SchedSetAttr(0, y.before, 0)
	}
	runtime.UnlockOSThread()
}
