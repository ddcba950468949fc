package loop

import "math/bits"

// The wheel has levels of 64 slots. A slot of level 0 is one tick, a slot of
// level n spans 64^n ticks. A timer sits on the level of the highest digit (base
// 64) in which its tick differs from the present one, so all timers of a level
// come before all timers of the level above, and within a level the occupied
// slots all lie ahead: the next event is the lowest bit of the lowest level.
const (
	wheelBits   = 6
	wheelSlots  = 1 << wheelBits
	wheelLevels = 7 // 2^42 ms: 139 years
	wheelLast   = int64(1)<<(wheelBits*wheelLevels) - 1
)

type timerList struct {
	head, tail *Timer
	wheel      *wheel
	level      int8 // -1: the list of those that fire now
	slot       int8
}

type wheel struct {
	now      int64 // the last tick that has been fired
	count    int
	occupied [wheelLevels]uint64
	lists    [wheelLevels][wheelSlots]timerList
	due      timerList
}

func (w *wheel) init() {
	for level := range w.lists {
		for slot := range w.lists[level] {
			w.lists[level][slot] = timerList{wheel: w, level: int8(level), slot: int8(slot)}
		}
	}
	w.due = timerList{wheel: w, level: -1}
}

// arm puts t on the wheel for tick, or moves it there.
func (w *wheel) arm(t *Timer, tick int64) {
	t.Stop()
	t.when = min(max(tick, w.now+1), wheelLast)
	w.count++
	w.place(t)
}

// place links a timer whose tick lies ahead of now.
func (w *wheel) place(t *Timer) {
	level := (bits.Len64(uint64(t.when^w.now)) - 1) / wheelBits
	slot := t.when >> (wheelBits * level) & (wheelSlots - 1)
	w.occupied[level] |= 1 << slot
	w.lists[level][slot].push(t)
}

// next returns the tick of the next event: a timer, or the descent of a slot
// to a lower level. ok is false on an empty wheel.
func (w *wheel) next() (tick int64, ok bool) {
	for level, set := range w.occupied {
		if set != 0 {
			shift := wheelBits * level
			block := w.now >> (shift + wheelBits) << wheelBits
			return (block | int64(bits.TrailingZeros64(set))) << shift, true
		}
	}
	return 0, false
}

// advance moves the wheel to tick and fires, in the order of their ticks, all
// timers on the way.
func (w *wheel) advance(tick int64) {
	for {
		at, ok := w.next()
		if !ok || at > tick {
			break
		}
		w.step(at)
	}
	w.now = max(w.now, tick)
}

// step moves the wheel to the occupied slot at tick at.
func (w *wheel) step(at int64) {
	level := 0
	for w.occupied[level] == 0 {
		level++
	}
	slot := bits.TrailingZeros64(w.occupied[level])
	w.now = at
	w.occupied[level] &^= 1 << slot
	from := &w.lists[level][slot]
	for t := from.head; t != nil; t = from.head {
		from.remove(t)
		if t.when <= at {
			w.due.push(t)
		} else {
			w.place(t)
		}
	}
	for t := w.due.head; t != nil; t = w.due.head {
		t.Stop()
		t.Fire()
	}
}

// Stop takes the timer off its loop; nothing if it is not armed. On the loop.
func (t *Timer) Stop() {
	l := t.list
	if l == nil {
		return
	}
	l.remove(t)
	if l.head == nil && l.level >= 0 {
		l.wheel.occupied[l.level] &^= 1 << l.slot
	}
	l.wheel.count--
	t.when = 0
}

func (l *timerList) push(t *Timer) {
	t.list, t.prev, t.next = l, l.tail, nil
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.next = t
	}
	l.tail = t
}

func (l *timerList) remove(t *Timer) {
	if t.prev == nil {
		l.head = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		l.tail = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.list, t.prev, t.next = nil, nil, nil
}
