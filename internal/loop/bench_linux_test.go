package loop

import (
	"io"
	"testing"
	"time"
)

// roundTrips returns a function that echoes one message over a loop.
func roundTrips(t testing.TB, l *Loop, size int) func() {
	ours, peer := pipe(t)
	on(t, l, func() {
		c, err := l.AdoptTCP(ours)
		if err != nil {
			t.Error(err)
			return
		}
		c.Bind(&echoer{c: c})
	})
	peer.SetDeadline(time.Time{})
	msg := make([]byte, size)
	return func() {
		if _, err := peer.Write(msg); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(peer, msg); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPlainEchoDoesNotAllocate(t *testing.T) {
	trip := roundTrips(t, newLoop(t), 64)
	if n := testing.AllocsPerRun(2000, trip); n != 0 {
		t.Errorf("got %v allocations per message, want 0", n)
	}
}

func BenchmarkPlainEcho(b *testing.B) {
	trip := roundTrips(b, newLoop(b), 64)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		trip()
	}
}

// BenchmarkPostHop is a goroutine that waits for the loop.
func BenchmarkPostHop(b *testing.B) {
	l := newLoop(b)
	back := make(chan struct{})
	f := func() { back <- struct{}{} }
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		l.Post(f)
		<-back
	}
}
