package loop

// A turn leaves the connects and closes that it brings about to its end. These
// calls go through more of the kernel than any other here; one after another they
// find it in the processor's caches, where between reads and writes each would
// have to bring it there again.

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
