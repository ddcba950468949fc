package load

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper returns a sleep that is exact to some 60 µs: the timers of the Go
// runtime wake an idle process to a millisecond. It belongs to the goroutine
// that asked, until release.
func sleeper() (sleep func(time.Duration), release func()) {
	runtime.LockOSThread()
	return func(d time.Duration) {
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil) // woken early it is called again
	}, runtime.UnlockOSThread
}
