package gateway

import (
	"net/http"
	"os"
	"reflect"
	"runtime"
	"sync/atomic"

	"wsgate/bridge"
	"wsgate/internal/upstream"
)

// Counters are what /counters shows.
type Counters struct {
	bridge.Stats
	Descriptors   int                       `json:"descriptors"`
	Goroutines    int                       `json:"goroutines"`
	H1Connections int                       `json:"h1_connections"`
	H2Connections int                       `json:"h2_connections"`
	H3Connections int                       `json:"h3_connections"`
	BufferMemory  int64                     `json:"buffer_memory"`
	HeapBytes     uint64                    `json:"heap_bytes"`
	Reloads       uint64                    `json:"reloads"`
	Entries       int64                     `json:"loop_entries"` // of all loops
	Loops         []LoopCounters            `json:"loops"`
	H1            map[string]int64          `json:"h1"`
	H2            map[string]int64          `json:"h2"`
	H3            map[string]int64          `json:"h3"`
	Upstreams     map[string]upstream.Stats `json:"upstreams"`
}

// LoopCounters are those of one event loop.
type LoopCounters struct {
	Entries     int64   `json:"entries"`
	Timers      int64   `json:"timers"`
	Busy        float64 `json:"busy"`          // share of the last second
	WakeDelayUs int64   `json:"wake_delay_us"` // the last
	WakeMaxUs   int64   `json:"wake_max_us"`   // the longest of the last second
}

// bufferMemory is what connections queue, 0 without a budget.
func (g *Gateway) bufferMemory() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.memory == nil {
		return 0
	}
	return g.memory.Used()
}

// Counters returns the figures of now.
func (g *Gateway) Counters() Counters {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c := Counters{
		Stats: g.bridge.Stats(), Descriptors: descriptors(), Goroutines: runtime.NumGoroutine(), BufferMemory: g.bufferMemory(),
		HeapBytes: m.HeapAlloc, Reloads: g.reloads.Load(), H1: atomics(&g.h1c), H2: atomics(&g.h2c), H3: atomics(&g.h3c), Upstreams: make(map[string]upstream.Stats),
	}
	g.eachFront(func(f *front) {
		if f.h1 != nil {
			c.H1Connections += f.h1.Connections()
		}
		if f.h2 != nil {
			c.H2Connections += f.h2.Connections()
		}
		if f.h3 != nil {
			c.H3Connections += f.h3.Connections()
		}
	})
	for name, u := range g.routing.Load().upstreams {
		c.Upstreams[name] = u.Stats()
	}
	for _, l := range g.loops.Loops() {
		s := l.Stats()
		c.Entries += int64(s.Entries)
		c.Loops = append(c.Loops, LoopCounters{
			Entries: int64(s.Entries), Timers: int64(s.Timers), Busy: s.Busy,
			WakeDelayUs: s.WakeDelay.Microseconds(), WakeMaxUs: s.WakeDelayMax.Microseconds(),
		})
	}
	return c
}

func (g *Gateway) serveCounters(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, g.Counters())
}

// descriptors counts the open ones of this process, -1 if unknown.
func descriptors() int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(d) - 1 // the one of the reading itself
}

// atomics reads the atomic counters of a struct by the names of its fields.
func atomics(v any) map[string]int64 {
	out := make(map[string]int64)
	s := reflect.ValueOf(v).Elem()
	for i := range s.NumField() {
		switch c := s.Field(i).Addr().Interface().(type) {
		case *atomic.Int64:
			out[s.Type().Field(i).Name] = c.Load()
		case *atomic.Uint64:
			out[s.Type().Field(i).Name] = int64(c.Load())
		}
	}
	return out
}
