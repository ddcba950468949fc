// Package sidetest is the contract of bridge.Side as a test that every wire
// package runs.
package sidetest

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"wsgate/bridge"
)

// patience bounds a failing test, never a passing one.
const patience = 10 * time.Second

// ErrReset is what a Peer's Read answers when the stream was cut.
var ErrReset = errors.New("peer sees a reset")

// Peer is the other end of the stream under test.
type Peer interface {
	// Read answers io.EOF after an orderly end and ErrReset after any other.
	Read(p []byte) (int, error)
	// Write waits until p is under way.
	Write(p []byte) (int, error)
	CloseWrite() error
	Reset() error
}

// Pair is a Side with its peer. The loop runs; the Side is not bound yet.
type Pair struct {
	Side bridge.Side
	Loop bridge.Loop
	Peer Peer
	// Credit is how many octets the peer was allowed to send beyond its first
	// window; nil where that is the kernel's affair.
	Credit func() int64
}

// Test runs the contract. make makes a fresh pair, which ends with its test.
func Test(t *testing.T, make func(t *testing.T) Pair) {
	for _, c := range []struct {
		name string
		f    func(*story)
	}{
		{"our end first", ourEndFirst},
		{"peer's end first", peerEndFirst},
		{"both ends at once", bothAtOnce},
		{"reset after a clean end", resetAfterEnd},
		{"our reset", ourReset},
		{"our reset while a write waits", ourResetWhileWaiting},
		{"peer's reset while a write waits", peerResetWhileWaiting},
		{"peer's reset behind data", peerResetBehindData},
		{"reset first seen by a write", resetSeenByWrite},
		{"reset after our end", resetAfterOurEnd},
		{"1 MiB down", bigDown},
		{"1 MiB down in small writes", smallDown},
		{"1 MiB up", bigUp},
		{"short takes", shortTakes},
		{"late owner", lateOwner},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(newStory(t, make(t))) })
	}
}

// story is one run: the pair and what its Side told.
type story struct {
	t *testing.T
	Pair

	mu     sync.Mutex
	cond   sync.Cond
	got    []byte
	calls  int // of Data
	room   int // octets that Data still takes; less than 0: all
	ends   int
	broken []*bridge.ResetError
	late   string // a call that may not come any more
	over   bool   // Reset was called, or both ends are over

	// Owned by the loop.
	out  []byte // waits for Writable
	fin  bool   // CloseWrite behind it
	full bool   // a Write fell short
}

func newStory(t *testing.T, p Pair) *story {
	s := &story{t: t, Pair: p, room: -1}
	s.cond.L = &s.mu
	return s
}

// Want implements bridge.Far.
func (s *story) Want() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room < 0 {
		return 1 << 20
	}
	return s.room
}

// Data implements bridge.Far.
func (s *story) Data(p []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.cond.Broadcast()
	s.judge("Data")
	if len(p) == 0 {
		s.late = "empty Data"
	}
	if s.ends > 0 {
		s.late = "Data after End"
	}
	n := len(p)
	if s.room >= 0 {
		n = min(n, s.room)
		s.room -= n
	}
	s.calls++
	s.got = append(s.got, p[:n]...)
	return n
}

// End implements bridge.Far.
func (s *story) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.cond.Broadcast()
	s.judge("End")
	s.ends++
}

// Broken implements bridge.Far.
func (s *story) Broken(e *bridge.ResetError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.cond.Broadcast()
	s.judge("Broken")
	s.broken = append(s.broken, e)
}

// Writable implements bridge.Far.
func (s *story) Writable() { s.push() }

// judge notes a call that comes too late; mu is held.
func (s *story) judge(call string) {
	if s.over || len(s.broken) > 0 {
		s.late = call
	}
}

// on runs f on the loop and waits for it.
func (s *story) on(f func()) {
	s.t.Helper()
	done := make(chan struct{})
	s.Loop.Post(func() { f(); close(done) })
	select {
	case <-done:
	case <-time.After(patience):
		s.t.Fatal("got no turn of the loop, want one")
	}
}

// turns lets turns go by, and what the peer said be read, so that what should
// not happen had its chance.
func (s *story) turns() {
	s.t.Helper()
	for range 20 {
		s.on(func() {})
	}
}

func (s *story) bind() { s.t.Helper(); s.on(func() { s.Side.Bind(s) }) }

// send writes p, all of it in time; fin ends the direction behind it.
func (s *story) send(p []byte, fin bool) {
	s.t.Helper()
	s.on(func() { s.out, s.fin = append(s.out, p...), fin; s.push() })
}

// push writes what waits, on the loop.
func (s *story) push() {
	for len(s.out) > 0 {
		n := s.Side.Write(s.out)
		if n < 0 || n > len(s.out) {
			s.t.Errorf("Write: got %d of %d octets", n, len(s.out))
			return
		}
		s.out = s.out[n:]
		if s.full = len(s.out) > 0; s.full && (n == 0 || s.Side.Room() == 0) {
			return
		}
	}
	if s.fin {
		s.fin = false
		s.Side.CloseWrite()
	}
}

// reset resets our side; nothing may come after it.
func (s *story) reset() {
	s.t.Helper()
	s.on(func() {
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
		s.Side.Reset(bridge.ReasonFarSide)
		s.Side.Reset(bridge.ReasonShutdown) // owners may always call it last
	})
}

// await waits until ok, called with mu held, is true.
func (s *story) await(what string, ok func() bool) {
	s.t.Helper()
	expired := false
	timer := time.AfterFunc(patience, func() {
		s.mu.Lock()
		expired = true
		s.mu.Unlock()
		s.cond.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !ok() {
		if expired {
			s.t.Fatalf("got %d octets, %d ends, broken %v; want %s", len(s.got), s.ends, s.broken, what)
		}
		s.cond.Wait()
	}
}

func (s *story) awaitData(want []byte) {
	s.t.Helper()
	s.await("all octets", func() bool { return len(s.got) >= len(want) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(s.got, want) {
		s.t.Errorf("octets: got %d, want the same %d", len(s.got), len(want))
	}
}

func (s *story) awaitEnd() {
	s.t.Helper()
	s.await("End", func() bool { return s.ends > 0 || len(s.broken) > 0 })
}

// clean checks that there was one end, no break, and nothing late.
func (s *story) clean() {
	s.t.Helper()
	s.turns()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends != 1 || len(s.broken) != 0 || s.late != "" {
		s.t.Errorf("got %d ends, broken %v, late %q; want one end and no more", s.ends, s.broken, s.late)
	}
}

// reason checks that the side was broken once, by the peer's reset.
func (s *story) reason() {
	s.t.Helper()
	s.await("Broken", func() bool { return len(s.broken) > 0 })
	s.turns()
	s.reset()
	s.turns()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.broken) != 1 || s.broken[0].Reason != bridge.ReasonReset || !s.broken[0].Remote || s.late != "" {
		s.t.Errorf("got broken %v, late %q; want it once, %v by the peer", s.broken, s.late, bridge.ReasonReset)
	}
}

func (s *story) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) peerWrites(p []byte) {
	s.t.Helper()
	_, err := s.Peer.Write(p)
	s.must(err)
}

// peerReads reads exactly p.
func (s *story) peerReads(p []byte) {
	s.t.Helper()
	got := make([]byte, len(p))
	n, err := io.ReadFull(s.Peer, got)
	if err != nil || !bytes.Equal(got, p) {
		s.t.Fatalf("peer: got %d octets, %v; want %d", n, err, len(p))
	}
}

// peerEnds checks what the peer's next Read says.
func (s *story) peerEnds(want error) {
	s.t.Helper()
	if n, err := s.Peer.Read(make([]byte, 100)); n != 0 || err != want {
		s.t.Errorf("peer: got %d octets, %v; want %v", n, err, want)
	}
}

// peerCut reads to the end, which has to be a reset.
func (s *story) peerCut() {
	s.t.Helper()
	p := make([]byte, 64<<10)
	for {
		if _, err := s.Peer.Read(p); err != nil {
			if err != ErrReset {
				s.t.Errorf("peer: got %v, want %v", err, ErrReset)
			}
			return
		}
	}
}

// pattern is n octets no two stretches of which are alike.
func pattern(n int) []byte {
	p := make([]byte, n)
	x := uint32(1)
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	return p
}
