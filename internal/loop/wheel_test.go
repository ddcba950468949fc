package loop

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func newWheel() *wheel {
	w := &wheel{}
	w.init()
	return w
}

func TestWheelFiresInOrderOnItsTick(t *testing.T) {
	w := newWheel()
	rng := rand.New(rand.NewPCG(1, 2))
	var fired []int64
	timers := make([]Timer, 2000)
	var want []int64
	for i := range timers {
		tm := &timers[i]
		tick := 1 + rng.Int64N(1<<(1+rng.IntN(32)))
		tm.Fire = func() {
			if w.now != tick {
				t.Errorf("got tick %d, want %d", w.now, tick)
			}
			fired = append(fired, tick)
		}
		w.arm(tm, tick)
		want = append(want, tick)
	}
	slices.Sort(want)
	for w.count > 0 {
		next, ok := w.next()
		if !ok {
			t.Fatalf("got an empty wheel, want %d timers", w.count)
		}
		w.advance(next + rng.Int64N(3))
		if len(fired) == 0 {
			continue // a descent
		}
	}
	if !slices.Equal(fired, want) {
		t.Errorf("got %d firings out of order, want %d sorted", len(fired), len(want))
	}
}

func TestWheelRearmAndStop(t *testing.T) {
	w := newWheel()
	var log []string
	a := &Timer{Fire: func() { log = append(log, "a") }}
	b := &Timer{Fire: func() { log = append(log, "b") }}
	c := &Timer{}
	c.Fire = func() {
		log = append(log, "c")
		b.Stop() // due in the same tick, not fired yet
		if w.now < 300 {
			w.arm(c, w.now+100)
		}
	}
	w.arm(a, 10)
	w.arm(a, 5000) // later
	w.arm(c, 100)
	w.arm(b, 100)
	w.advance(99)
	if len(log) != 0 {
		t.Errorf("got %v, want nothing before tick 100", log)
	}
	w.arm(a, 150) // earlier again
	w.advance(400)
	if want := []string{"c", "a", "c", "c"}; !slices.Equal(log, want) {
		t.Errorf("got %v, want %v", log, want)
	}
	if a.Armed() || b.Armed() || c.Armed() || w.count != 0 {
		t.Errorf("got %d timers armed, want none", w.count)
	}
	if tick, ok := w.next(); ok {
		t.Errorf("got next %d, want an empty wheel", tick)
	}
	a.Stop() // not armed: nothing
}

func TestWheelArmedInThePastFiresNextTick(t *testing.T) {
	w := newWheel()
	w.advance(1000)
	fired := int64(0)
	tm := &Timer{Fire: func() { fired = w.now }}
	w.arm(tm, 3)
	w.advance(1000)
	if fired != 0 {
		t.Errorf("got tick %d, want nothing before the next tick", fired)
	}
	w.advance(1001)
	if fired != 1001 {
		t.Errorf("got tick %d, want 1001", fired)
	}
}

func TestWheelFarTimer(t *testing.T) {
	w := newWheel()
	w.advance(12345)
	const year = 365 * 24 * 3600 * 1000
	fired := int64(0)
	tm := &Timer{Fire: func() { fired = w.now }}
	w.arm(tm, 12345+3*year)
	steps := 0
	for fired == 0 {
		next, ok := w.next()
		if !ok || next <= w.now {
			t.Fatalf("got next %d %v at %d, want a step ahead", next, ok, w.now)
		}
		w.advance(next)
		steps++
	}
	if fired != 12345+3*year || steps > wheelLevels {
		t.Errorf("got tick %d in %d steps, want %d in at most %d", fired, steps, 12345+3*year, wheelLevels)
	}
	w.arm(tm, 1<<62)
	if tm.when != wheelLast {
		t.Errorf("got tick %d, want the last one", tm.when)
	}
}

func TestWheelDoesNotAllocate(t *testing.T) {
	w := newWheel()
	tm := &Timer{Fire: func() {}}
	n := testing.AllocsPerRun(1000, func() {
		w.arm(tm, w.now+70)
		w.arm(tm, w.now+5000)
		tm.Stop()
		w.arm(tm, w.now+2)
		w.advance(w.now + 3)
	})
	if n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func BenchmarkTimerRearm(b *testing.B) {
	w := newWheel()
	tm := &Timer{Fire: func() {}}
	b.ReportAllocs()
	for i := range b.N {
		w.arm(tm, w.now+int64(i&0xffff)+1)
	}
}
