package loop

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A thread that computes a handshake has a longer slice, the rest stays as the
// operator set it; afterwards it is as before.
func TestGiveWay(t *testing.T) {
	// Its niceness is changed for good: the thread ends with the goroutine.
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 5); err != nil {
			t.Errorf("setpriority: %v", err)
			return
		}
		before := schedule(t)
		g := giveWay()
		during := schedule(t)
		g.end()
		after := schedule(t)

		want := before
		if before.Runtime != 0 { // a Linux that knows slices says what the thread has
			want.Runtime = uint64(longSlice)
		}
		if during != want {
			t.Errorf("while it gives way: %+v, want %+v", during, want)
		}
		if after != before {
			t.Errorf("afterwards: %+v, want %+v", after, before)
		}
	}()
	<-done
}

func schedule(t *testing.T) unix.SchedAttr {
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Errorf("sched_getattr: %v", err)
		return unix.SchedAttr{}
	}
	return *a
}
