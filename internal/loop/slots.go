package loop

// Slots bound how many TLS handshakes compute at once, so that they do not take
// the CPUs from the loops. A Shim gives its slot back while it waits for the
// network, so a slow client holds none. Any goroutine.
type Slots struct {
	free chan struct{}
}

// NewSlots makes n slots, at least 1.
func NewSlots(n int) *Slots {
	return &Slots{free: make(chan struct{}, max(n, 1))}
}

// Nil slots bound nothing.

func (s *Slots) acquire() {
	if s != nil {
		s.free <- struct{}{}
	}
}

func (s *Slots) release() {
	if s != nil {
		<-s.free
	}
}
