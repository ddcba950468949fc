package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
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
	defer debug.SetGCPercent(debug.SetGCPercent(usualPercent))
	h := newHeap()
	busy := func(looks int) {
		for range looks {
			for range 2 * busyAt >> 20 {
				sink = make([]byte, 1<<20)
			}
			sink = nil
			runtime.GC() // one under way would count what is allocated meanwhile as alive
			h.look()
		}
	}
	wants := func(when string, percent uint64) {
		t.Helper()
		if got := gogc(); got != percent {
			t.Errorf("GOGC %d %s, want %d", got, when, percent)
		}
	}
	for range 2 {
		busy(busyFor - 1)
		h.look() // quiet: what was busy before counts no more
	}
	wants("after bursts", usualPercent)
	busy(busyFor)
	wants("after a busy time", roomyPercent)
	h.look()
	wants("after a quiet look", usualPercent)
}

// Who sets GOGC decides alone: no tick is taken.
func TestGOGC(t *testing.T) {
	t.Setenv("GOGC", "50")
	spareCollections(nil)
}

func gogc() uint64 {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
