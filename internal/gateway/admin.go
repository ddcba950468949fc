package gateway

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"reflect"
	"runtime"
	"sync/atomic"
	"time"

	"wsgate/bridge"
)

// admin is the listener of the operator: HTTP/1 only, off unless asked for.
type admin struct {
	server  *http.Server
	address string
}

func (g *Gateway) startAdmin(address string) (*admin, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, listenError("--admin", address, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "live\n") })
	mux.HandleFunc("GET /ready", g.serveReady)
	mux.HandleFunc("GET /counters", g.serveCounters)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	a := &admin{
		server:  &http.Server{Handler: mux, Protocols: protocols, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute},
		address: ln.Addr().String(),
	}
	go a.server.Serve(ln)
	g.log.Info("admin", slog.String("address", a.address))
	return a, nil
}

func (a *admin) close() { a.server.Close() }

func (g *Gateway) serveReady(w http.ResponseWriter, _ *http.Request) {
	if !g.ready.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "not ready\n")
		return
	}
	io.WriteString(w, "ready\n")
}

// Counters are what /counters shows.
type Counters struct {
	bridge.Stats
	Descriptors   int              `json:"descriptors"`
	Goroutines    int              `json:"goroutines"`
	H1Connections int              `json:"h1_connections"`
	H2Connections int              `json:"h2_connections"`
	BufferMemory  int64            `json:"buffer_memory"`
	HeapBytes     uint64           `json:"heap_bytes"`
	Entries       int64            `json:"loop_entries"` // of all loops
	Loops         []LoopCounters   `json:"loops"`
	H1            map[string]int64 `json:"h1"`
	H2            map[string]int64 `json:"h2"`
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
		Stats: g.bridge.Stats(), Descriptors: descriptors(), Goroutines: runtime.NumGoroutine(),
		H1Connections: g.h1.Connections(), H2Connections: g.h2.Connections(), BufferMemory: g.bufferMemory(),
		HeapBytes: m.HeapAlloc, H1: atomics(&g.h1c), H2: atomics(&g.h2c),
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
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(g.Counters()) // the operator has gone
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
