package loop

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain looks for what the tests left behind: goroutines and descriptors.
func TestMain(m *testing.M) {
	os.ReadDir("/proc/self/fd")
	f, err := os.Open("/dev/null") // the netpoller's own descriptors exist from here on
	if err == nil {
		f.SetReadDeadline(time.Time{})
		f.Close()
	}
	if l, err := New(Config{}); err == nil {
		l.Stop()
	}
	fds, goroutines := countFDs(), runtime.NumGoroutine()
	code := m.Run()
	deadline := time.Now().Add(patience)
	for countFDs() > fds || runtime.NumGoroutine() > goroutines {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<18)
			fmt.Printf("got %d descriptors and %d goroutines at the end, want %d and %d\n%s\n",
				countFDs(), runtime.NumGoroutine(), fds, goroutines, buf[:runtime.Stack(buf, true)])
			os.Exit(1)
		}
		runtime.Gosched()
	}
	os.Exit(code)
}

func countFDs() int {
	names, _ := os.ReadDir("/proc/self/fd")
	return len(names)
}
