package loop

import (
	"runtime"

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
