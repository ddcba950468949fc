package loop

import (
	"testing"
	"time"
)

// TestYoung lets time pass over connections that are due one after the other, of
// which some come meanwhile: each is let go when it is due and none before.
func TestYoung(t *testing.T) {
	const first, later = 1000, 200
	l, err := New(Config{}) // never runs
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	var all []*Conn
	add := func(due int) {
		c := new(Conn)
		c.set(dead) // so that nothing is set on a descriptor
		all = append(all, c)
		l.young = append(l.young, young{c, 0, int64(due)})
	}
	for i := range first {
		add(i + 1)
	}
	moves := 0
	for at := 1; at <= first+later; at++ {
		if at <= later {
			add(first + at)
		}
		was := len(l.young)
		l.now = l.base.Add(time.Duration(int64(at) * tick))
		l.grow()
		if len(l.young) < was {
			moves++
		}
		next, armed := l.due()
		if want := at < first+later; armed != want || armed && next != int64(at+1) {
			t.Fatalf("at tick %d got the next one at %d, %t, want %d, %t", at, next, armed, at+1, want)
		}
		left := 0
		for _, y := range l.young {
			if y.c != nil {
				if y.c != all[at+left] {
					t.Fatalf("at tick %d got another connection in place %d", at, left)
				}
				left++
			}
		}
		if want := len(all) - at; left != want {
			t.Fatalf("at tick %d got %d that wait, want %d", at, left, want)
		}
	}
	if len(l.young) != 0 || l.grown != 0 || cap(l.young) != 0 {
		t.Errorf("got %d, %d and room for %d at the end, want none", len(l.young), l.grown, cap(l.young))
	}
	if moves > 20 {
		t.Errorf("those left moved up %d times, want a few", moves)
	}
}
