package h2

import (
	"sync/atomic"
	"time"
)

// bucket names one kind of frame or event that is cheap for a client and not
// for us (RFC 9113 section 10.5).
type bucket int

const (
	rapidReset    bucket = iota // streams the client reset before their answer (CVE-2023-44487)
	madeReset                   // resets the client made us send (CVE-2025-8671)
	refusedStream               // streams over MaxStreams
	settingsFrame
	pingFrame
	emptyData    // DATA without content and without END_STREAM
	windowFrames // WINDOW_UPDATE beyond what our DATA explains
	otherFrames  // PRIORITY, unknown types, frames on closed streams
	headerBomb   // header blocks over the limit
	buckets
)

// wuCreditMax bounds how many WINDOW_UPDATE our DATA and the client's streams explain.
const wuCreditMax = 1 << 16

// rates are how many at once and how many per second a connection may spend.
// Honest loads stay far below; the tests name them.
var rates = [buckets]struct{ burst, perSecond int32 }{
	rapidReset:    {400, 40},
	madeReset:     {200, 20},
	refusedStream: {1000, 100},
	settingsFrame: {100, 10},
	pingFrame:     {500, 50},
	emptyData:     {500, 50},
	windowFrames:  {2000, 200},
	otherFrames:   {10000, 1000},
	headerBomb:    {50, 5},
}

// budget holds the token buckets of a connection. What was spent is counted;
// the clock is looked at only when a bucket seems empty, and then gives back
// what time has earned.
type budget struct {
	refilled int64 // ns of the shard's clock
	spent    [buckets]int32
}

// spend takes one token and reports whether there was one.
func (b *budget) spend(k bucket, sh *shard) bool {
	b.spent[k]++
	return b.spent[k] <= rates[k].burst || b.refill(k, sh.now())
}

// earn gives n tokens back.
func (b *budget) earn(k bucket, n int32) { b.spent[k] = max(0, b.spent[k]-n) }

func (b *budget) refill(k bucket, now int64) bool {
	ms := min((now-b.refilled)/int64(time.Millisecond), 1<<20)
	if ms > 0 {
		b.refilled = now
		for i := range b.spent {
			b.spent[i] = max(0, b.spent[i]-int32(int64(rates[i].perSecond)*ms/1000))
		}
	}
	return b.spent[k] <= rates[k].burst
}

// counterOf returns the counter of a bucket's bound.
func (n *Counters) counterOf(k bucket) *atomic.Int64 {
	switch k {
	case rapidReset:
		return &n.RapidReset
	case madeReset:
		return &n.MadeReset
	case refusedStream:
		return &n.RefusedFlood
	case settingsFrame:
		return &n.SettingsFlood
	case pingFrame:
		return &n.PingFlood
	case emptyData:
		return &n.EmptyData
	case windowFrames:
		return &n.WindowUpdate
	case headerBomb:
		return &n.HeaderBomb
	}
	return &n.OtherFrames
}

// calm spends a token of k; the error is that of a client which has none left.
func (c *conn) calm(k bucket) error {
	if c.budget.spend(k, c.sh) {
		return nil
	}
	c.sh.count.counterOf(k).Add(1)
	return connErr(errCalm, floodWords[k])
}

var floodWords = [buckets]string{
	"too many streams reset before their answer", "too many stream errors", "too many streams over the limit",
	"too many SETTINGS", "too many PING", "too many empty DATA frames", "too many WINDOW_UPDATE",
	"too many frames without use", "too many header blocks over the limit",
}
