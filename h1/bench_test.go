package h1

import (
	"net/netip"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/wskey"
)

// benchLoop lends one buffer over and over, as a loop's pool does.
type benchLoop struct {
	fakeLoop
	pool [][]byte
}

func (l *benchLoop) Buffer(n int) []byte {
	if k := len(l.pool); k > 0 && cap(l.pool[k-1]) >= n {
		p := l.pool[k-1]
		l.pool = l.pool[:k-1]
		return p
	}
	return make([]byte, 0, max(n, 1024))
}
func (l *benchLoop) Free(p []byte)                      { l.pool = append(l.pool, p[:0]) }
func (l *benchLoop) After(time.Duration, *bridge.Timer) {}
func (l *benchLoop) Post(func())                        {}
func (l *benchLoop) TurnEnd(bridge.Flusher)             {}

// benchSide takes everything and keeps the last of it.
type benchSide struct {
	far  bridge.Far
	last []byte
}

func (s *benchSide) Bind(f bridge.Far)    { s.far = f }
func (s *benchSide) Room() int            { return 1 << 16 }
func (s *benchSide) Write(p []byte) int   { s.last = append(s.last[:0], p...); return len(p) }
func (s *benchSide) Resume()              {}
func (s *benchSide) CloseWrite()          {}
func (s *benchSide) Reset(bridge.Reason)  {}
func (s *benchSide) Finish(time.Duration) {}

// BenchmarkBackendOpen is one opening handshake without the kernel's share.
func BenchmarkBackendOpen(b *testing.B) {
	l, s, h, be := new(benchLoop), new(benchSide), handshake(), &Backend{}
	answer := make([]byte, 0, 512)
	for b.Loop() {
		opened := false
		a := &attempt{b: be, l: l, h: h, done: func(side bridge.Side, f bridge.Fields, err error) { opened = err == nil }}
		a.scan = scanner{maxHead: defaultMaxHead, answer: true}
		a.timer.Fire = a.expired
		a.begin(s)
		answer = append(answer[:0], "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
		answer = append(answer, wskey.Accept(a.key)...)
		answer = append(answer, "\r\n\r\n"...)
		if s.far.Data(answer); !opened {
			b.Fatal("got no tunnel")
		}
	}
}

// BenchmarkFrontHandshake is one connection that becomes a tunnel.
func BenchmarkFrontHandshake(b *testing.B) {
	l, s := new(benchLoop), new(benchSide)
	client := &bridge.Client{Remote: netip.MustParseAddrPort("192.0.2.1:1"), Local: netip.MustParseAddrPort("192.0.2.1:2")}
	srv := &Server{Offer: func(o bridge.Offer) {
		o.Accept(bridge.Fields{{Name: "Sec-WebSocket-Accept", Value: wskey.Accept(o.Handshake().Key)}})
	}}
	head := []byte(crlf(up + "Origin: https://example.com\nUser-Agent: x\nAccept-Language: en\nCookie: a=b\n\n"))
	for b.Loop() {
		srv.Serve(l, s, client)
		s.far.Data(head)
	}
}
