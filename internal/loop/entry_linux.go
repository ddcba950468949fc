package loop

import (
	"os"

	"golang.org/x/sys/unix"
)

// entry is what owns a descriptor on a loop: a Conn, a dial, a listener.
type entry interface {
	event(events uint32) // epoll says so
	turn()               // it is on the ready list
	stop()               // the loop ends
}

// slot is a place for an entry. Epoll carries its index and generation; an event
// that was fetched before the slot changed hands has an old generation.
type slot struct {
	entry entry
	gen   uint32
	next  int32 // next vacant slot
}

// register adds fd to the epoll, once and for all events. A descriptor that is
// ready already is reported in the next wait.
func (l *Loop) register(fd int32, e entry) (int32, error) {
	if l.ended {
		return 0, ErrStopped
	}
	i := l.vacant
	if i != 0 {
		l.vacant = l.slots[i].next
	} else {
		i = int32(len(l.slots))
		l.slots = append(l.slots, slot{})
	}
	s := &l.slots[i]
	ev := unix.EpollEvent{Events: allEvents, Fd: i, Pad: int32(s.gen)}
	if e := sysWatch(l.epfd, fd, &ev); e != 0 {
		s.next, l.vacant = l.vacant, i
		return 0, os.NewSyscallError("epoll_ctl", e)
	}
	s.entry = e
	l.entries++
	return i, nil
}

// unregister frees the slot. The caller closes the descriptor, which takes it out
// of the epoll.
func (l *Loop) unregister(i int32) {
	s := &l.slots[i]
	s.entry = nil
	s.gen++
	s.next, l.vacant = l.vacant, i
	l.entries--
}

// dispatch delivers the events of this batch.
func (l *Loop) dispatch() {
	for i := range l.nev {
		ev := &l.events[i]
		if s := &l.slots[ev.Fd]; s.entry != nil && s.gen == uint32(ev.Pad) {
			s.entry.event(ev.Events)
		}
	}
	l.nev = 0
}
