package upstream

import (
	"sync"
	"sync/atomic"
)

// queue is clients that wait for a place, first come first served. Any goroutine.
//
// Who gives a place back wakes the queue. Waking takes a place for the first
// waiter and hands it over, so that nobody gets between. No wake is lost: a
// waiter is counted before it looks for a place for the last time, and who
// gives one back does so before it looks at the count.
type queue struct {
	take func(*want) (*endpoint, error) // tried for the first waiter: a place, a final error, or neither

	n           atomic.Int32 // waiters
	mu          sync.Mutex
	first, last *waiter
}

// waiter is one client in a queue.
type waiter struct {
	want *want
	// given is told the place, or why there will be none. It is called from any
	// goroutine, once, unless the waiter has left.
	given func(*endpoint, error)

	prev, next *waiter
	in         bool
}

// join adds a waiter unless most are there already.
func (q *queue) join(w *waiter, most int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if int(q.n.Load()) >= most {
		return false
	}
	w.in, w.prev = true, q.last
	if q.last != nil {
		q.last.next = w
	} else {
		q.first = w
	}
	q.last = w
	q.n.Add(1)
	return true
}

// leave takes a waiter out; false if it has been, or is being, told.
func (q *queue) leave(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.remove(w)
}

func (q *queue) remove(w *waiter) bool {
	if !w.in {
		return false
	}
	w.in = false
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.last = w.prev
	}
	w.prev, w.next = nil, nil
	q.n.Add(-1)
	return true
}

// wake hands places to waiters while there are both. It costs one atomic read
// if nobody waits.
func (q *queue) wake() {
	for q.n.Load() > 0 {
		w, e, err := q.serve()
		if w == nil {
			return
		}
		w.given(e, err)
	}
}

// serve takes the first waiter out if there is something to tell it.
func (q *queue) serve() (*waiter, *endpoint, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.first
	if w == nil {
		return nil, nil, nil
	}
	e, err := q.take(w.want)
	if e == nil && err == nil {
		return nil, nil, nil
	}
	q.remove(w)
	return w, e, err
}
