package loop

import (
	"math"
	"testing"
	"time"
)

func TestGaugeBusyShare(t *testing.T) {
	const ms = int64(time.Millisecond)
	var g gauge
	near := func(now int64, want float64) {
		t.Helper()
		if got := g.busy(now); math.Abs(got-want) > 0.02 {
			t.Errorf("got busy %.3f at %d ms, want %.3f", got, now/ms, want)
		}
	}
	near(1, 0)
	for at := 5000 * ms; at < 6000*ms; at += 10 * ms {
		g.addBusy(at, at+3*ms)
	}
	near(6000*ms-1, 0.3)
	near(7000*ms, 0) // forgotten after a second
	// One long turn that goes on counts while it goes on, and is split afterwards.
	g.since.Store(8000 * ms)
	near(8500*ms-1, 0.5)
	near(9500*ms, 1)
	g.since.Store(0)
	g.addBusy(8000*ms, 9500*ms)
	near(9500*ms, 1)
	near(9999*ms, 0.5)
}

func TestGaugeWorstDelay(t *testing.T) {
	const second = int64(time.Second)
	var g gauge
	g.addDelay(10*second, int64(7*time.Millisecond))
	g.addDelay(10*second+1, int64(2*time.Millisecond))
	s := g.stats(10*second + 2)
	if s.WakeDelay != 2*time.Millisecond || s.WakeDelayMax != 7*time.Millisecond {
		t.Errorf("got last %v max %v, want 2ms and 7ms", s.WakeDelay, s.WakeDelayMax)
	}
	if got := g.worstDelay(11*second + second/2); got != 7*time.Millisecond {
		t.Errorf("got %v in the next second, want 7ms", got)
	}
	if got := g.worstDelay(12 * second); got != 0 {
		t.Errorf("got %v two seconds later, want 0", got)
	}
}
