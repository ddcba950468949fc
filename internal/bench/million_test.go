package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/h2"
	"wsgate/internal/loop"
)

// far is a backend without a socket: it takes everything, and answers a Close
// frame with another one and its end.
type far struct {
	m  *million
	to bridge.Far
}

func (f *far) Bind(to bridge.Far)  { f.to = to }
func (f *far) Room() int           { return 64 << 10 }
func (f *far) Resume()             {}
func (f *far) CloseWrite()         {}
func (f *far) Reset(bridge.Reason) {}
func (f *far) Write(p []byte) int {
	if p[0] == 0x88 {
		f.m.loop.Post(func() {
			f.to.Data([]byte{0x88, 0})
			f.to.End()
		})
	}
	return len(p)
}

// Open implements bridge.Backend.
func (f *far) Open(l bridge.Loop, _ *bridge.Handshake, done func(bridge.Side, bridge.Fields, error)) func() {
	l.Post(func() { done(&far{m: f.m}, nil, nil) })
	return func() {}
}

// near is a client's connection without a socket. It answers Close frames, too.
type near struct {
	loop bridge.Loop
	to   bridge.Far
}

func (n *near) Bind(to bridge.Far)  { n.to = to }
func (n *near) Room() int           { return 64 << 10 }
func (n *near) Resume()             {}
func (n *near) CloseWrite()         {}
func (n *near) Reset(bridge.Reason) {}

// Write looks for Close frames; the engine writes whole HTTP/2 frames here.
func (n *near) Write(p []byte) int {
	for rest := p; len(rest) >= 9; {
		size := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
		if rest[3] == 0 && size > 0 && rest[9] == 0x88 {
			id := binary.BigEndian.Uint32(rest[5:])
			n.loop.Post(func() { n.to.Data(h2frame(0, 1, id, 0x88, 0x80, 0, 0, 0, 0)) })
		}
		rest = rest[9+size:]
	}
	return len(p)
}

func h2frame(kind, flags byte, id uint32, payload ...byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return append(binary.BigEndian.AppendUint32(b, id), payload...)
}

// literal is a header field as HPACK writes it without its tables.
func literal(name, value string) []byte {
	b := append([]byte{0, byte(len(name))}, name...)
	return append(append(b, byte(len(value))), value...)
}

// million is a loop with tunnels through the HTTP/2 engine and the bridge.
type million struct {
	loop   *loop.Loop
	bridge bridge.Bridge
	server h2.Server
	ended  chan struct{} // one for each tunnel that has ended
	in     []byte        // what a loop reads, it reads here
}

const rooms = 1000

func newMillion(b *testing.B) *million {
	l, err := loop.New(loop.Config{})
	if err != nil {
		b.Fatal(err)
	}
	m := &million{loop: l, ended: make(chan struct{}, 1<<20)}
	m.bridge.Trace.Done = func(*bridge.Tunnel, *bridge.End) { m.ended <- struct{}{} }
	// The times are wsgate's defaults.
	s := &bridge.Service{Name: "room", Backend: &far{m: m}, Times: bridge.Times{Open: 10 * time.Second, Idle: time.Hour, StallTimeout: time.Minute}}
	m.server = h2.Server{KeepAlive: time.Hour, Offer: func(o bridge.Offer) { m.bridge.Serve(o, s) }}
	ran := make(chan struct{})
	go func() { l.Run(); close(ran) }()
	b.Cleanup(func() { l.Stop(); <-ran })
	return m
}

// on runs f on the loop and waits for it and for what it posted.
func (m *million) on(f func()) {
	done := make(chan struct{})
	m.loop.Post(f)
	m.loop.Post(func() { m.loop.Post(func() { close(done) }) })
	<-done
}

// connect opens a connection with tunnels on it, number first and up, each with
// a message behind it.
func (m *million) connect(first, tunnels int) {
	n := &near{loop: m.loop}
	m.server.Serve(m.loop, n, &bridge.Client{Remote: netip.MustParseAddrPort("192.0.2.1:1234")})
	in := append(m.in[:0], []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")...)
	in = append(in, h2frame(4, 0, 0)...)
	for i := range tunnels {
		var block []byte
		for _, f := range [][2]string{
			{":method", "CONNECT"},
			{":protocol", "websocket"},
			{":scheme", "http"},
			{":authority", "chat.example.com"},
			{":path", fmt.Sprintf("/rooms/%d", (first+i)%rooms)},
			{"sec-websocket-version", "13"},
			{"origin", "https://chat.example.com"},
		} {
			block = append(block, literal(f[0], f[1])...)
		}
		in = append(in, h2frame(1, 4, uint32(2*i+1), block...)...)
	}
	n.to.Data(in)
	m.in = in
	m.loop.Post(func() {
		for i := range tunnels {
			n.to.Data(h2frame(0, 0, uint32(2*i+1), append([]byte{0x82, 0x85, 0, 0, 0, 0}, "hello"...)...))
		}
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc + s.StackInuse
}

// BenchmarkMillion holds 1,000,000 tunnels, 200 on a connection, each with a
// message behind it, and says what one takes; then an order finds a thousand of
// them by path and closes them, each with its Close frames.
func BenchmarkMillion(b *testing.B) {
	const tunnels = 1_000_000
	m := newMillion(b)
	before := heap()
	for first := 0; first < tunnels; first += perConn {
		m.on(func() { m.connect(first, perConn) })
	}
	if n := m.bridge.Stats().Tunnels; n != tunnels {
		b.Fatalf("got %d tunnels, want %d", n, tunnels)
	}
	each := float64(heap()-before) / tunnels
	room := 0
	for b.Loop() {
		path := fmt.Sprintf("/rooms/%d", room)
		if room++; room == rooms {
			b.Fatalf("%d orders and no end: give -benchtime less", rooms)
		}
		m.bridge.End(bridge.Ending{Why: "order"}, func(t *bridge.Tunnel) bool { return t.Path == path })
		for range tunnels / rooms {
			<-m.ended
		}
	}
	b.ReportMetric(each, "octets/tunnel")
	if n := m.bridge.Stats().Tunnels; n != int64(tunnels-room*tunnels/rooms) {
		b.Errorf("got %d tunnels after %d orders, want %d", n, room, tunnels-room*tunnels/rooms)
	}
}
