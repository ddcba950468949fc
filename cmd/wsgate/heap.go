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
	heap := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(heap)
	before, busy, percent := heap[0].Value.Uint64(), 0, usualPercent
	for range ticks {
		metrics.Read(heap)
		allocs, live := heap[0].Value.Uint64(), heap[1].Value.Uint64()
		if busy++; allocs-before < busyAt {
			busy = 0
		}
		// A change stops the world as well.
		if p := gcPercent(busy, live); p != percent {
			percent = p
			debug.SetGCPercent(p)
		}
		before = allocs
	}
}

// gcPercent is the GOGC after so many busy ticks in a row; live is what the last
// collection left.
func gcPercent(busy int, live uint64) int {
	if busy >= busyFor && live < smallHeap {
		return roomyPercent
	}
	return usualPercent
}
