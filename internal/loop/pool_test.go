package loop

import "testing"

func TestPoolClasses(t *testing.T) {
	var p pool
	for _, c := range []struct{ n, want int }{
		{0, 512},
		{1, 512},
		{512, 512},
		{513, 1024},
		{1024, 1024},
		{1025, 2048},
		{65536, 65536},
		{65537, 131072},
		{131072, 131072},
		{131073, 131073},
	} {
		if b := p.get(c.n); len(b) != 0 || cap(b) != c.want {
			t.Errorf("got len %d cap %d for %d octets, want 0 and %d", len(b), cap(b), c.n, c.want)
		}
	}
}

func TestPoolGivesBackWhatItGot(t *testing.T) {
	var p pool
	b := append(p.get(600), "x"...)
	p.put(b)
	if c := p.get(1000); &c[:1][0] != &b[0] || len(c) != 0 {
		t.Errorf("got another buffer (len %d), want the one that was freed", len(c))
	}
	p.put(b[:0:600]) // no class: left to the collector
	p.put(make([]byte, 0, 1<<20))
	p.put(nil)
	for i, list := range p.free {
		if len(list) != 0 {
			t.Errorf("got %d buffers in class %d, want none", len(list), i)
		}
	}
}

func TestPoolIsBounded(t *testing.T) {
	var p pool
	for range 10000 {
		p.put(make([]byte, 0, 512))
	}
	if got := len(p.free[0]); got != classKeep/512 {
		t.Errorf("got %d buffers kept, want %d", got, classKeep/512)
	}
}

func TestPoolDoesNotAllocate(t *testing.T) {
	var p pool
	if n := testing.AllocsPerRun(1000, func() { p.put(p.get(5000)) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}
