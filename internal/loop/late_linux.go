package loop

// A turn leaves the small writes, connects and closes that it brings about to its
// end. One after another such calls find the kernel in the processor's caches, where
// between reads and other work each would have to bring it there again.

const (
	// lateWrite is up to how many octets a write is small: to copy them costs little
	// to what is saved.
	lateWrite = 2 << 10
	maxLates  = 1 << 10
)

// late is a small write: octets from to to of lateBuf.
type late struct {
	c        *Conn
	from, to int32
	flags    uintptr
}

// sendLate has the end of the turn send p, or an earlier moment if too much waits.
func (c *Conn) sendLate(p []byte, flags uintptr) {
	l := c.loop
	if len(l.lateBuf)+len(p) > cap(l.lateBuf) || len(l.lates) == cap(l.lates) {
		l.runLate()
	}
	from := len(l.lateBuf)
	l.lateBuf = append(l.lateBuf, p...)
	to := int32(len(l.lateBuf))
	if n := len(l.lates); n > 0 && l.lates[n-1].c == c { // one write
		l.lates[n-1].to, l.lates[n-1].flags = to, flags
		return
	}
	l.lates = append(l.lates, late{c, int32(from), to, flags})
	c.late = true
}

// flushLate sends what has to be out before what c does next, and all that waits
// with it.
func (c *Conn) flushLate() {
	if c.late {
		c.loop.runLate()
	}
}

// runLate sends what waits.
func (l *Loop) runLate() {
	for i := range l.lates {
		w := &l.lates[i]
		w.c.late = false
		w.c.push(l.lateBuf[w.from:w.to], w.flags)
		w.c = nil
	}
	l.lates, l.lateBuf = l.lates[:0], l.lateBuf[:0]
}

// runDials connects what was dialled in this turn. Who dials from here on is
// connected in the next turn.
func (l *Loop) runDials() {
	l.dialling, l.dials = l.dials, l.dialling[:0]
	for i, d := range l.dialling {
		l.dialling[i] = nil
		d.begin()
	}
}

// closeLate has the end of the turn close a socket that is registered no more.
func (l *Loop) closeLate(fd int32) { l.closes = append(l.closes, fd) }

func (l *Loop) runCloses() {
	for _, fd := range l.closes {
		sysClose(fd)
	}
	if l.closes = l.closes[:0]; cap(l.closes) > 4096 {
		l.closes = nil // a burst does not stay
	}
}
