package bridge

import (
	"sync"
	"time"
)

// fakeLoop is a loop with a clock that the test moves.
type fakeLoop struct {
	now    time.Time
	mu     sync.Mutex // of posts
	posts  []func()
	posted chan struct{} // holds one once something was posted
	timers map[*Timer]time.Time
}

func newFakeLoop() *fakeLoop {
	return &fakeLoop{now: time.Unix(1000, 0), timers: make(map[*Timer]time.Time), posted: make(chan struct{}, 1)}
}

func (l *fakeLoop) Now() time.Time                  { return l.now }
func (l *fakeLoop) After(d time.Duration, t *Timer) { l.timers[t] = l.now.Add(d) }
func (l *fakeLoop) Yield()                          {}
func (l *fakeLoop) TurnEnd(f Flusher)               { l.Post(f.Flush) }
func (l *fakeLoop) Buffer(n int) []byte             { return make([]byte, 0, n) }
func (l *fakeLoop) Free([]byte)                     {}

func (l *fakeLoop) Post(f func()) {
	l.mu.Lock()
	l.posts = append(l.posts, f)
	l.mu.Unlock()
	select {
	case l.posted <- struct{}{}:
	default:
	}
}

// run does what was posted.
func (l *fakeLoop) run() {
	for {
		l.mu.Lock()
		if len(l.posts) == 0 {
			l.mu.Unlock()
			return
		}
		f := l.posts[0]
		l.posts = l.posts[1:]
		l.mu.Unlock()
		f()
	}
}

// advance moves the clock by d and fires what is due, in order.
func (l *fakeLoop) advance(d time.Duration) {
	end := l.now.Add(d)
	for {
		l.run()
		var first *Timer
		for t, at := range l.timers {
			if !at.After(end) && (first == nil || at.Before(l.timers[first])) {
				first = t
			}
		}
		if first == nil {
			break
		}
		if at := l.timers[first]; at.After(l.now) {
			l.now = at
		}
		delete(l.timers, first)
		first.Fire()
	}
	l.now = end
}

// fakeSide is one end in the test's hands: what the tunnel writes is kept in
// got, and the test plays the peer through send, end and broken.
type fakeSide struct {
	loop    *fakeLoop
	far     Far
	room    int
	got     []byte
	queue   []byte // sent by the peer, not taken yet
	ends    int    // CloseWrite calls
	resets  []Reason
	ended   bool
	resumed int
	late    bool // something was called on it after its reset
}

func (s *fakeSide) Bind(f Far) { s.far = f; s.loop.Post(s.push) }
func (s *fakeSide) Room() int  { return s.room }
func (s *fakeSide) Write(p []byte) int {
	if s.ends > 0 || len(s.resets) > 0 {
		s.late = true
	}
	n := min(len(p), s.room)
	s.room -= n
	s.got = append(s.got, p[:n]...)
	return n
}
func (s *fakeSide) Resume() { s.resumed++; s.loop.Post(s.push) }
func (s *fakeSide) CloseWrite() {
	if len(s.resets) > 0 {
		s.late = true
	}
	s.ends++
}
func (s *fakeSide) Reset(r Reason) { s.resets = append(s.resets, r) }

// push offers what is queued as a socket would.
func (s *fakeSide) push() {
	if s.far == nil || len(s.resets) > 0 {
		return
	}
	for len(s.queue) > 0 {
		w := min(s.far.Want(), len(s.queue))
		if w == 0 {
			return
		}
		n := s.far.Data(s.queue[:w])
		s.queue = s.queue[n:]
		if n < w {
			return
		}
	}
	if s.ended {
		s.ended = false
		s.far.End()
	}
}

func (s *fakeSide) send(p []byte) { s.queue = append(s.queue, p...); s.push(); s.loop.run() }
func (s *fakeSide) end()          { s.ended = true; s.push(); s.loop.run() }
func (s *fakeSide) broken(r Reason) {
	s.far.Broken(&ResetError{Reason: r, Remote: true})
	s.loop.run()
}
func (s *fakeSide) grant(n int) { s.room += n; s.far.Writable(); s.loop.run() }

// fakeOffer is an offer in the test's hands.
type fakeOffer struct {
	loop     *fakeLoop
	h        *Handshake
	side     *fakeSide
	accepted Fields
	refused  *Refusal
	answers  int
	gone     func(*ResetError)
}

func (o *fakeOffer) Loop() Loop                 { return o.loop }
func (o *fakeOffer) Handshake() *Handshake      { return o.h }
func (o *fakeOffer) Accept(f Fields) Side       { o.answers++; o.accepted = f; return o.side }
func (o *fakeOffer) Refuse(r *Refusal)          { o.answers++; o.refused = r }
func (o *fakeOffer) OnGone(f func(*ResetError)) { o.gone = f }

// fakeBackend answers when the test says so.
type fakeBackend struct {
	loop     *fakeLoop
	done     func(Side, Fields, error)
	asked    int
	canceled int
}

func (b *fakeBackend) Open(_ Loop, _ *Handshake, done func(Side, Fields, error)) func() {
	b.asked++
	b.done = done
	return func() { b.canceled++ }
}
