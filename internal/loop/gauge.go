package loop

import (
	"sync/atomic"
	"time"
)

// Stats is what a loop tells about itself.
type Stats struct {
	Entries      int           // live descriptors: connections, dials, listeners
	Timers       int           // armed timers
	Busy         float64       // share of the last second spent outside waiting, 0 to 1
	WakeDelay    time.Duration // last measured time from being woken (post or timer) to running
	WakeDelayMax time.Duration // largest of the present and the previous second
	Posts        uint64        // functions posted since the start
}

const (
	busyBuckets = 8
	busyBucket  = int64(time.Second) / busyBuckets
)

// gauge holds the figures of a loop. Only the loop writes (posts excepted), any
// goroutine reads; times are ns on the loop's clock.
type gauge struct {
	entries, timers atomic.Int64
	posts           atomic.Uint64
	since           atomic.Int64               // start of the busy stretch not yet counted; 0 while the loop sleeps
	buckets         [busyBuckets]atomic.Uint64 // period number << 32 | busy ns in it
	delay           atomic.Int64
	worst           [2]atomic.Uint64 // second << 32 | µs
}

// addBusy counts the stretch from..to as busy.
func (g *gauge) addBusy(from, to int64) {
	from = max(from, to-int64(time.Second))
	for from < to {
		period := from / busyBucket
		end := min(to, (period+1)*busyBucket)
		b := &g.buckets[period%busyBuckets]
		have := b.Load()
		if have>>32 != uint64(period)&0xffffffff {
			have = uint64(period) << 32
		}
		b.Store(have + uint64(end-from))
		from = end
	}
}

// busy returns the share of the second before now that was busy.
func (g *gauge) busy(now int64) float64 {
	period := now / busyBucket
	sum := int64(0)
	for i := range g.buckets {
		v := g.buckets[i].Load()
		if age := uint32(period) - uint32(v>>32); age < busyBuckets {
			sum += int64(v & 0xffffffff)
		}
	}
	// A stretch that goes on counts too, or a loop stuck in one long turn
	// would look idle.
	if s := g.since.Load(); s != 0 && now > s {
		sum += now - s
	}
	span := int64(busyBuckets-1)*busyBucket + now%busyBucket
	return min(1, float64(sum)/float64(max(span, 1)))
}

func (g *gauge) addDelay(now, d int64) {
	d = max(d, 0)
	g.delay.Store(d)
	second := uint64(now) / uint64(time.Second)
	us := uint64(min(d/1000, 0xffffffff))
	cell := &g.worst[second&1]
	if have := cell.Load(); have>>32 != second&0xffffffff || have&0xffffffff < us {
		cell.Store(second<<32 | us)
	}
}

func (g *gauge) worstDelay(now int64) time.Duration {
	second := uint32(uint64(now) / uint64(time.Second))
	us := uint64(0)
	for i := range g.worst {
		v := g.worst[i].Load()
		if second-uint32(v>>32) <= 1 {
			us = max(us, v&0xffffffff)
		}
	}
	return time.Duration(us) * time.Microsecond
}

func (g *gauge) stats(now int64) Stats {
	return Stats{
		Entries:      int(g.entries.Load()),
		Timers:       int(g.timers.Load()),
		Busy:         g.busy(now),
		WakeDelay:    time.Duration(g.delay.Load()),
		WakeDelayMax: g.worstDelay(now),
		Posts:        g.posts.Load(),
	}
}
