package main

import (
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGCPercent(t *testing.T) {
	for _, c := range []struct {
		allocated, live uint64
		want            int
	}{
		{0, 0, 100},
		{busyAt - 1, 1 << 20, 100},
		{busyAt, 1 << 20, 400},
		{1 << 30, smallHeap - 1, 400},
		{1 << 30, smallHeap, 100},
	} {
		if got := gcPercent(c.allocated, c.live); got != c.want {
			t.Errorf("%d octets allocated, %d alive: %d %%, want %d", c.allocated, c.live, got, c.want)
		}
	}
}

var sink []byte

// A busy time with little alive makes collections rarer, a quiet one ends that.
func TestSpareCollections(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(usualPercent))
	ticks, ended := make(chan time.Time), make(chan struct{})
	go func() { defer close(ended); spareCollections(ticks) }()

	// A tick is taken once what the one before brought has been done.
	tick := func() { ticks <- time.Time{} }
	busy := func() {
		for range 3 * busyAt >> 20 {
			sink = make([]byte, 1<<20)
		}
		tick()
	}
	tick()
	busy()
	busy()
	if got := gogc(); got != roomyPercent {
		t.Errorf("GOGC %d after a busy time, want %d", got, roomyPercent)
	}
	sink = nil
	tick()
	tick()
	close(ticks)
	<-ended
	if got := gogc(); got != usualPercent {
		t.Errorf("GOGC %d after a quiet time, want %d", got, usualPercent)
	}
}

func gogc() uint64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
