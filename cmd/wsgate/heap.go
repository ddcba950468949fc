package main

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A heap of a few MiB doubles many times a second under ordinary requests and
// handshakes, and each collection stops all loops twice.
const (
	// heapTick is how often the heap is looked at.
	heapTick = 250 * time.Millisecond
	// busyAt is how many octets allocated between two looks make a busy gateway: two
	// collections a second and more.
	busyAt = 2 << 20
	// busyFor is how many looks in a row have to find it busy. A burst of tunnels is
	// over before: a heap that has been large once costs memory for good.
	busyFor = 8
	// smallHeap is up to how many octets in use a heap may grow to five times that
	// before it is collected.
	smallHeap = 16 << 20

	usualPercent = 100
	roomyPercent = 400
)

// spareCollections lets a small heap grow for longer while the gateway is busy. It
// looks at each tick, one every heapTick. Who sets GOGC decides alone.
func spareCollections(ticks <-chan time.Time) {
	if os.Getenv("GOGC") != "" {
		return
	}
	h := newHeap()
	for range ticks {
		h.look()
	}
}

// heap is what is known of this process's.
type heap struct {
	samples []metrics.Sample
	allocs  uint64 // at the last look
	busy    int    // looks in a row
	percent int
}

func newHeap() *heap {
	h := &heap{samples: []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}, percent: usualPercent}
	metrics.Read(h.samples)
	h.allocs = h.samples[0].Value.Uint64()
	return h
}

// look sets GOGC by what has happened since the last look.
func (h *heap) look() {
	metrics.Read(h.samples)
	before, live := h.allocs, h.samples[1].Value.Uint64()
	h.allocs = h.samples[0].Value.Uint64()
	if h.busy++; h.allocs-before < busyAt {
		h.busy = 0
	}
	// A change stops the world as well.
	if p := gcPercent(h.busy, live); p != h.percent {
		h.percent = p
		debug.SetGCPercent(p)
	}
}

// gcPercent is the GOGC after so many busy looks in a row; live is what the last
// collection left.
func gcPercent(busy int, live uint64) int {
	if busy >= busyFor && live < smallHeap {
		return roomyPercent
	}
	return usualPercent
}
