package h1

import (
	"io"
	"log"
	"time"

	"wsgate/bridge"
)

// fakeLoop is a bridge.Loop with a manual clock. Posts and TurnEnd run in turn.
type fakeLoop struct {
	now    time.Time
	posts  chan func()
	ends   []bridge.Flusher
	timers map[*bridge.Timer]time.Time
	lent   int // buffers not given back
}

func newFakeLoop() *fakeLoop {
	return &fakeLoop{
		now:    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		posts:  make(chan func(), 1024),
		timers: make(map[*bridge.Timer]time.Time),
	}
}

func (l *fakeLoop) Post(f func())                          { l.posts <- f }
func (l *fakeLoop) Now() time.Time                         { return l.now }
func (l *fakeLoop) Yield()                                 {}
func (l *fakeLoop) TurnEnd(f bridge.Flusher)               { l.ends = append(l.ends, f) }
func (l *fakeLoop) Buffer(n int) []byte                    { l.lent++; return make([]byte, 0, max(n, 512)) }
func (l *fakeLoop) Free([]byte)                            { l.lent-- }
func (l *fakeLoop) After(d time.Duration, t *bridge.Timer) { l.timers[t] = l.now.Add(d) }

// turn runs what is posted and the ends of turns, until nothing is left.
func (l *fakeLoop) turn() {
	for {
		for len(l.ends) > 0 {
			f := l.ends[0]
			l.ends = l.ends[1:]
			f.Flush()
		}
		select {
		case f := <-l.posts:
			f()
		default:
			return
		}
	}
}

// await runs turns until ok, waiting for posts of other goroutines.
func (l *fakeLoop) await(ok func() bool) {
	for l.turn(); !ok(); l.turn() {
		(<-l.posts)()
	}
}

// pass moves the clock on and fires what is due. A timer that was stopped is
// known by its owner, whose Fire then does nothing.
func (l *fakeLoop) pass(d time.Duration) {
	l.now = l.now.Add(d)
	for t, when := range l.timers {
		if !when.After(l.now) {
			delete(l.timers, t)
			t.Fire()
		}
	}
	l.turn()
}

// fakeSide is a transport in memory: the test is its peer.
type fakeSide struct {
	l        *fakeLoop
	far      bridge.Far
	in       []byte // sent by the peer, not yet taken
	fin      bool   // the peer ended its direction
	out      []byte // written
	cap      int    // how much Write takes in all; -1: everything
	silent   bool
	piece    int // Data comes in pieces of this size; 0: whole
	closed   bool
	reset    bool
	finished bool
	gaveEnd  bool
	acks     int // calls of Acknowledge
}

func newFakeSide(l *fakeLoop) *fakeSide { return &fakeSide{l: l, cap: -1} }

func (s *fakeSide) Bind(f bridge.Far) {
	s.far, s.silent = f, false
	s.l.Post(s.pump)
}

func (s *fakeSide) Room() int {
	if s.cap >= 0 {
		return s.cap
	}
	return 64 << 10
}

func (s *fakeSide) Write(p []byte) int {
	n := len(p)
	if s.cap >= 0 {
		n = min(n, s.cap)
		s.cap -= n
	}
	s.out = append(s.out, p[:n]...)
	return n
}

func (s *fakeSide) Acknowledge()        { s.acks++ }
func (s *fakeSide) Resume()             { s.silent = false; s.l.Post(s.pump) }
func (s *fakeSide) CloseWrite()         { s.closed = true }
func (s *fakeSide) Reset(bridge.Reason) { s.reset = !s.finished; s.far = nil }
func (s *fakeSide) Finish(time.Duration) {
	s.finished, s.closed = true, true
	s.far = nil
	s.in = nil
}

// send is what the peer sends.
func (s *fakeSide) send(b string) {
	s.in = append(s.in, b...)
	s.pump()
	s.l.turn()
}

func (s *fakeSide) end() {
	s.fin = true
	s.pump()
	s.l.turn()
}

func (s *fakeSide) break_(e *bridge.ResetError) {
	if s.far != nil {
		s.far.Broken(e)
	}
	s.l.turn()
}

// open gives the writer room for n octets more.
func (s *fakeSide) open(n int) {
	s.cap = n
	if s.far != nil {
		s.far.Writable()
	}
	s.l.turn()
}

func (s *fakeSide) pump() {
	for s.far != nil && !s.silent && len(s.in) > 0 {
		n := min(len(s.in), s.far.Want())
		if n <= 0 {
			s.silent = true
			return
		}
		if s.piece > 0 {
			n = min(n, s.piece)
		}
		far := s.far
		p := append([]byte(nil), s.in[:n]...)
		k := far.Data(p)
		for i := range p {
			p[i] = 0xee // who keeps what was only lent will show
		}
		if s.far == nil {
			return
		}
		s.in = s.in[k:]
		if k < n && s.far == far {
			s.silent = true
		}
	}
	if s.far != nil && !s.silent && len(s.in) == 0 && s.fin && !s.gaveEnd {
		s.gaveEnd = true
		s.far.End()
	}
}

// output returns what was written since the last call.
func (s *fakeSide) output() string {
	o := string(s.out)
	s.out = nil
	return o
}

// sink is a Far that records.
type sink struct {
	got    []byte
	room   int // -1: everything
	ends   int
	broken *bridge.ResetError
	wr     int
}

func (k *sink) Want() int {
	if k.room >= 0 {
		return k.room
	}
	return 64 << 10
}

func (k *sink) Data(p []byte) int {
	n := len(p)
	if k.room >= 0 {
		n = min(n, k.room)
		k.room -= n
	}
	k.got = append(k.got, p[:n]...)
	return n
}
func (k *sink) End()                        { k.ends++ }
func (k *sink) Broken(e *bridge.ResetError) { k.broken = e }
func (k *sink) Writable()                   { k.wr++ }

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
