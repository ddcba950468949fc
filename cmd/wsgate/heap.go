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
	// busyAt is how many octets allocated between two looks make a busy gateway:
	// eight collections a second and more. What a burst of tunnels allocates is less:
	// a heap that has been large once costs memory for good.
	busyAt = 8 << 20
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
	heap := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(heap)
	before, percent := heap[0].Value.Uint64(), usualPercent
	for range ticks {
		metrics.Read(heap)
		allocs, live := heap[0].Value.Uint64(), heap[1].Value.Uint64()
		// A change stops the world as well.
		if p := gcPercent(allocs-before, live); p != percent {
			percent = p
			debug.SetGCPercent(p)
		}
		before = allocs
	}
}

// gcPercent is the GOGC after a tick with so many octets allocated; live is what the
// last collection left.
func gcPercent(allocated, live uint64) int {
	if allocated >= busyAt && live < smallHeap {
		return roomyPercent
	}
	return usualPercent
}
