package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// health is what is known of a server's fitness. What the choice of a server
// reads is atomic; it is changed under mu.
type health struct {
	down     atomic.Bool  // by active checks
	until    atomic.Int64 // end of an ejection, ns; 0: not ejected
	trial    atomic.Bool  // an ejection is over, but nothing has gone well since
	failures atomic.Int32 // in a row, of clients

	mu        sync.Mutex
	ejections int       // in a row
	returned  time.Time // from the last ejection
	checked   bool      // by an active check, once at least
	run       int       // checks in a row that contradict down
	last      error     // failure
}

// fit reports whether clients may go to the server for its health. An ejection
// whose time is over ends here: nobody waits for it elsewhere.
func (s *server) fit(now int64) bool {
	if s.down.Load() {
		return false
	}
	until := s.until.Load()
	if until == 0 {
		return true
	}
	if now < until {
		return false
	}
	s.mu.Lock()
	if s.until.CompareAndSwap(until, 0) {
		s.trial.Store(true)
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
	if s.until.Load() != 0 || s.trial.Load() {
		s.recover(u)
	}
}

// recover ends an ejection for good.
func (s *server) recover(u *Upstream) {
	now := u.env.Now()
	s.mu.Lock()
	was := s.until.Swap(0) != 0
	was = s.trial.Swap(false) || was
	if was {
		s.failures.Store(0)
		s.returned = now
		s.since.Store(now.UnixNano())
	}
	s.mu.Unlock()
	if was && !s.down.Load() {
		u.stateChanged(s, Up, nil)
		u.wake()
	}
}

// failed notes that the server did not answer a client.
func (s *server) failed(u *Upstream, cause error) {
	p := &u.config.Passive
	n := s.failures.Add(1)
	if p.Failures <= 0 || s.until.Load() != 0 || int(n) < p.Failures && !s.trial.Load() {
		return
	}
	now := u.env.Now()
	s.mu.Lock()
	if s.until.Load() != 0 {
		s.mu.Unlock()
		return
	}
	again := s.trial.Swap(false)
	if !again && now.Sub(s.returned) > p.MaxTime {
		s.ejections = 0 // it has been well for long
	}
	d := u.ejection(s.ejections)
	s.ejections++
	s.last = cause
	s.failures.Store(0)
	s.until.Store(now.Add(d).UnixNano())
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
	down, changed := s.down.Load(), false
	switch {
	case down == (cause != nil):
		s.run = 0
	default:
		s.run++
		changed = down && s.run >= a.Rise || !down && (first || s.run >= a.Fall)
	}
	if changed {
		s.run = 0
		s.last = cause
		s.down.Store(!down)
		if down { // it is up again: what clients saw is of the past
			s.until.Store(0)
			s.trial.Store(false)
			s.failures.Store(0)
			s.returned = u.env.Now()
			s.since.Store(s.returned.UnixNano())
		}
	}
	s.mu.Unlock()
	switch {
	case changed && down:
		u.stateChanged(s, Up, nil)
		u.wake()
	case changed:
		u.stateChanged(s, Down, cause)
	}
}

// unchecked takes back what active checks said, where there are none any more.
func (s *server) unchecked() {
	s.mu.Lock()
	s.down.Store(false)
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
