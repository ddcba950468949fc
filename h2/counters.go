package h2

import "sync/atomic"

// Counters count what the bounds of this package did, one counter each. They
// only grow. Any goroutine may read them.
type Counters struct {
	Connections atomic.Int64 // taken over
	Streams     atomic.Int64 // opened
	Tunnels     atomic.Int64 // offers made
	Malformed   atomic.Int64 // requests answered with RST_STREAM PROTOCOL_ERROR

	StreamLimit  atomic.Int64 // MaxStreams: answered REFUSED_STREAM
	TunnelLimit  atomic.Int64 // MaxTunnels: answered 503
	HeaderLimit  atomic.Int64 // MaxHeader: answered 431
	MemoryLimit  atomic.Int64 // BufferMemory: answered 503
	SmallWindow  atomic.Int64 // BufferMemory: connections that got 16 KiB windows
	WindowGrowth atomic.Int64 // times a stream's window grew

	// Each of these ended a connection with GOAWAY ENHANCE_YOUR_CALM.
	RapidReset    atomic.Int64
	MadeReset     atomic.Int64
	RefusedFlood  atomic.Int64
	Continuation  atomic.Int64
	HeaderBomb    atomic.Int64
	SettingsFlood atomic.Int64
	PingFlood     atomic.Int64
	EmptyData     atomic.Int64
	WindowUpdate  atomic.Int64
	OtherFrames   atomic.Int64
	NeverReads    atomic.Int64 // control output over its bound

	// Each of these ended a connection or, StallTimeout, a tunnel.
	PrefaceTimeout atomic.Int64
	HeaderTimeout  atomic.Int64
	IdleTimeout    atomic.Int64
	KeepAlive      atomic.Int64
	StallTimeout   atomic.Int64
	OutputStall    atomic.Int64
}

// Memory is the budget of a process for octets that connections hold on behalf
// of their peers. It is shared by servers and loops.
type Memory struct {
	limit int64
	used  atomic.Int64
}

// NewMemory returns a budget of limit octets. Windows grow only while less than
// half is used; past that mark new connections get 16 KiB windows; once all is
// used new streams are answered 503.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Used returns how many octets are taken. Any goroutine may call it.
func (m *Memory) Used() int64 { return m.used.Load() }

func (m *Memory) add(n int) {
	if m != nil {
		m.used.Add(int64(n))
	}
}

func (m *Memory) tight() bool { return m != nil && m.used.Load() > m.limit/2 }
func (m *Memory) full() bool  { return m != nil && m.used.Load() >= m.limit }

// grow takes n octets if that keeps the budget under its mark.
func (m *Memory) grow(n int) bool {
	if m == nil {
		return true
	}
	if m.used.Add(int64(n)) > m.limit/2 {
		m.used.Add(int64(-n))
		return false
	}
	return true
}
