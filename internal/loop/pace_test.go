package loop

import "testing"

// TestPacer: a loop paces where sleeps are short and paces bring something, and
// tries ever more rarely where they do not.
func TestPacer(t *testing.T) {
	var p pacer
	for range 1000 {
		if !p.wants() {
			t.Fatal("it sleeps in traffic, want it to pace")
		}
		p.brought(paceWorth)
	}
	for round, want := range []int{restLeast, 2 * restLeast, 4 * restLeast} {
		for range paceTries {
			if !p.wants() {
				t.Fatalf("round %d: it sleeps before %d tries", round, paceTries)
			}
			p.brought(paceWorth - 1)
		}
		sleeps := 0
		for !p.wants() {
			sleeps++
		}
		if sleeps != want {
			t.Errorf("round %d: got %d sleeps until it paces again, want %d", round, sleeps, want)
		}
	}
	for range 20 * paceTries {
		for !p.wants() {
		}
		p.brought(0)
	}
	if p.pause != restMost {
		t.Errorf("after many tries in vain: got %d sleeps, want %d", p.pause, restMost)
	}
	p.rest = 0
	p.brought(paceWorth)
	for range paceTries {
		p.brought(0)
	}
	if p.rest != restLeast {
		t.Errorf("in vain after a pace that was worth it: got %d sleeps, want %d", p.rest, restLeast)
	}
	p.rest, p.slept = 0, int64(pace)+1
	if p.wants() {
		t.Error("it paces after a long sleep, want it to sleep")
	}
}
