// Package enginetest has what the tests of the engines of HTTP/2 and HTTP/3 share:
// a loop whose clock the test moves, and the grammar of request heads as tables.
package enginetest

import (
	"fmt"
	"sync"
	"time"

	"wsgate/bridge"
)

// Loop is a bridge.Loop with a clock that the test moves. Posts may come from
// handlers' goroutines; everything else is the test's goroutine.
type Loop struct {
	mu    sync.Mutex
	cond  *sync.Cond
	posts []func()

	Clock  time.Time
	timers []timer
	Ends   []bridge.Flusher // of the turn that runs
	free   [24][][]byte
	Held   int // octets of buffers that are out
}

type timer struct {
	t  *bridge.Timer
	at time.Time
}

func NewLoop() *Loop {
	l := &Loop{Clock: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (l *Loop) Post(f func()) {
	l.mu.Lock()
	l.posts = append(l.posts, f)
	l.mu.Unlock()
	l.cond.Signal()
}

func (l *Loop) After(d time.Duration, t *bridge.Timer) {
	for i := range l.timers {
		if l.timers[i].t == t {
			l.timers[i].at = l.Clock.Add(d)
			return
		}
	}
	l.timers = append(l.timers, timer{t, l.Clock.Add(d)})
}

func (l *Loop) Now() time.Time           { return l.Clock }
func (l *Loop) Yield()                   {}
func (l *Loop) TurnEnd(f bridge.Flusher) { l.Ends = append(l.Ends, f) }

func class(n int) int {
	c := 9
	for 1<<c < n {
		c++
	}
	return c
}

func (l *Loop) Buffer(n int) []byte {
	c := class(n)
	l.Held += 1 << c
	if k := len(l.free[c]) - 1; k >= 0 {
		b := l.free[c][k]
		l.free[c] = l.free[c][:k]
		return b
	}
	return make([]byte, 0, 1<<c)
}

func (l *Loop) Free(p []byte) {
	c := class(cap(p))
	if 1<<c != cap(p) {
		panic(fmt.Sprintf("foreign buffer of %d octets", cap(p)))
	}
	l.Held -= cap(p)
	l.free[c] = append(l.free[c], p[:0])
}

// Turn runs posts and the ends of the turn until nothing is left.
func (l *Loop) Turn() {
	for {
		l.mu.Lock()
		posts := l.posts
		l.posts = nil
		l.mu.Unlock()
		for _, f := range posts {
			f()
		}
		ends := l.Ends
		l.Ends = l.Ends[len(l.Ends):]
		for _, f := range ends {
			f.Flush()
		}
		if len(posts)+len(ends) == 0 {
			l.Ends = l.Ends[:0]
			return
		}
	}
}

// Wait runs turns until ok, waiting for posts of other goroutines.
func (l *Loop) Wait(ok func() bool) {
	for l.Turn(); !ok(); l.Turn() {
		l.mu.Lock()
		for len(l.posts) == 0 {
			l.cond.Wait()
		}
		l.mu.Unlock()
	}
}

// Sleep moves the clock by d and fires what is due on the way, in order.
func (l *Loop) Sleep(d time.Duration) {
	end := l.Clock.Add(d)
	for {
		first := -1
		for i, t := range l.timers {
			if !t.at.After(end) && (first < 0 || t.at.Before(l.timers[first].at)) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		t := l.timers[first]
		l.timers = append(l.timers[:first], l.timers[first+1:]...)
		if t.at.After(l.Clock) {
			l.Clock = t.at
		}
		t.t.Fire()
		l.Turn()
	}
	l.Clock = end
	l.Turn()
}
