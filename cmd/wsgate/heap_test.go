package main

import (
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGCPercent(t *testing.T) {
	for _, c := range []struct {
		busy int
		live uint64
		want int
	}{
		{0, 0, 100},
		{busyFor - 1, 1 << 20, 100},
		{busyFor, 1 << 20, 400},
		{busyFor + 1, smallHeap - 1, 400},
		{busyFor + 1, smallHeap, 100},
	} {
		if got := gcPercent(c.busy, c.live); got != c.want {
			t.Errorf("%d busy looks, %d octets alive: %d %%, want %d", c.busy, c.live, got, c.want)
		}
	}
}

var sink []byte

// A busy time that lasts, with little alive, makes collections rarer, a quiet one
// ends that.
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
	for range 2 {
		for range busyFor - 2 {
			busy()
		}
		tick() // quiet: what was busy before counts no more
		tick() // maybe busy: its look may come after what is allocated next
	}
	if got := gogc(); got != usualPercent {
		t.Errorf("GOGC %d after bursts, want %d", got, usualPercent)
	}
	for range busyFor + 1 {
		busy()
	}
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
