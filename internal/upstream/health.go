package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// health is what is known of a server's fitness. What the choice of a server
// reads is atomic; it is changed under mu.
type health struct {
	marks    marks
	failures atomic.Int32 // in a row, of clients
	until    atomic.Int64 // end of an ejection, ns

	mu        sync.Mutex
	ejections int       // in a row
	returned  time.Time // from the last ejection
	checked   bool      // by an active check, once at least
	run       int       // checks in a row that contradict the mark
	last      error     // failure
}

// fit reports whether clients may go to the server for its health. An ejection
// whose time is over ends here: nobody waits for it elsewhere.
func (s *server) fit(now int64) bool {
	switch m := s.marks.Load(); {
	case m&down != 0:
		return false
	case m&ejected == 0:
		return true
	case now < s.until.Load():
		return false
	}
	s.mu.Lock()
	if s.marks.has(ejected) && now >= s.until.Load() {
		s.marks.set(trial, true)
		s.marks.set(ejected, false)
		s.since.Store(now)
	}
	s.mu.Unlock()
	return true
}

// succeeded notes that a client's handshake or request was answered.
func (s *server) succeeded(u *Upstream) {
	if s.failures.Load() != 0 {
		s.failures.Store(0)
	}
	if s.marks.has(ejected | trial) {
		s.recover(u)
	}
}

// recover ends an ejection for good.
func (s *server) recover(u *Upstream) {
	now := u.env.Now()
	s.mu.Lock()
	was := s.marks.And(^(ejected|trial))&(ejected|trial) != 0
	if was {
		s.failures.Store(0)
		s.returned = now
		s.since.Store(now.UnixNano())
	}
	s.mu.Unlock()
	if was && !s.marks.has(down) {
		u.stateChanged(s, Up, nil)
		u.wake()
	}
}

// failed notes that the server did not answer a client.
func (s *server) failed(u *Upstream, cause error) {
	p := &u.config.Passive
	n := s.failures.Add(1)
	if m := s.marks.Load(); p.Failures <= 0 || m&ejected != 0 || int(n) < p.Failures && m&trial == 0 {
		return
	}
	now := u.env.Now()
	s.mu.Lock()
	if s.marks.has(ejected) { // another loop was faster
		s.mu.Unlock()
		return
	}
	again := s.marks.has(trial)
	if !again && now.Sub(s.returned) > p.MaxTime {
		s.ejections = 0 // it has been well for long
	}
	d := u.ejection(s.ejections)
	s.ejections++
	s.last = cause
	s.failures.Store(0)
	s.until.Store(now.Add(d).UnixNano())
	s.marks.set(ejected, true)
	s.marks.set(trial, false)
	s.mu.Unlock()
	s.ledger.stats.ejections.Add(1)
	if !again {
		u.stateChanged(s, Ejected, cause)
	}
}

// ejection is how long an ejection lasts after n in a row before it.
func (u *Upstream) ejection(n int) time.Duration {
	p := &u.config.Passive
	d := p.MaxTime
	if n < 32 && p.BaseTime<<n>>n == p.BaseTime {
		d = min(d, p.BaseTime<<n)
	}
	return d + time.Duration(u.env.Rand()%uint64(d/10+1))
}

// checkedUp notes the result of an active check, nil for a good one.
func (s *server) checkedUp(u *Upstream, cause error) {
	a := u.config.Active
	s.mu.Lock()
	first := !s.checked
	s.checked = true
	was, changed := s.marks.has(down), false
	if was == (cause != nil) {
		s.run = 0
	} else {
		s.run++
		changed = was && s.run >= a.Rise || !was && (first || s.run >= a.Fall)
	}
	if changed {
		s.run = 0
		s.last = cause
		if was { // it is up again: what clients saw is of the past
			s.marks.And(^(ejected | trial))
			s.failures.Store(0)
			s.returned = u.env.Now()
			s.since.Store(s.returned.UnixNano())
		}
		s.marks.set(down, !was)
	}
	s.mu.Unlock()
	switch {
	case changed && was:
		u.stateChanged(s, Up, nil)
		u.wake()
	case changed:
		u.stateChanged(s, Down, cause)
	}
}

// unchecked takes back what active checks said, where there are none any more.
func (s *server) unchecked() {
	s.mu.Lock()
	s.marks.set(down, false)
	s.checked, s.run = false, 0
	s.mu.Unlock()
}

func (u *Upstream) stateChanged(s *server, to State, cause error) {
	if f := u.env.Events.State; f != nil {
		f(u.config.Name, s.id, to, cause)
	}
}

// setPanic notes whether no server is fit, and tells it once.
func (u *Upstream) setPanic(on bool) {
	if u.ledger.panics.Load() == on || !u.ledger.panics.CompareAndSwap(!on, on) {
		return
	}
	if f := u.env.Events.Panic; f != nil {
		f(u.config.Name, on)
	}
}
