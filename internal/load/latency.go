package load

import (
	"sync"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// histogram keeps latencies in microseconds, up to a minute, to three digits.
// Any goroutine.
type histogram struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

const longest = 60_000_000

func (h *histogram) init() { h.h = hdrhistogram.New(1, longest, 3) }

// add takes a latency in ns.
func (h *histogram) add(ns int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.h.RecordValue(min(max(ns/1000, 1), longest)) // it is in range
}

// quantile is in milliseconds.
func (h *histogram) quantile(q float64) float64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return float64(h.h.ValueAtQuantile(q)) / 1000
}

func (h *histogram) count() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.h.TotalCount()
}

// queue is times in order, oldest first.
type queue struct {
	a    []int64
	head int
}

func (q *queue) len() int     { return len(q.a) - q.head }
func (q *queue) push(v int64) { q.a = append(q.a, v) }

func (q *queue) pop() int64 {
	v := q.a[q.head]
	q.head++
	if q.head == len(q.a) {
		q.a, q.head = q.a[:0], 0
	} else if q.head >= 64 && q.head*2 >= len(q.a) {
		q.a = q.a[:copy(q.a, q.a[q.head:])]
		q.head = 0
	}
	return v
}

// oldest is the first, 0 if there is none.
func (q *queue) oldest() int64 {
	if q.len() == 0 {
		return 0
	}
	return q.a[q.head]
}
