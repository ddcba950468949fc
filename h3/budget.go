package h3

import (
	"sync/atomic"
	"time"
)

// bucket names one kind of event that is cheap for a client and not for us (RFC
// 9114 section 10.5).
type bucket int

const (
	rapidReset  bucket = iota // requests the client gave up before their answer
	madeReset                 // stream errors
	rejected                  // requests after GOAWAY
	emptyData                 // DATA without content
	otherFrames               // unknown types, MAX_PUSH_ID
	uniStreams                // streams of unknown types
	headerBomb                // field sections over the limit
	buckets
)

// rates are how many at once and how many per second a connection may spend.
var rates = [buckets]struct{ burst, perSecond int32 }{
	rapidReset:  {400, 40},
	madeReset:   {200, 20},
	rejected:    {1000, 100},
	emptyData:   {500, 50},
	otherFrames: {10000, 1000},
	uniStreams:  {100, 10},
	headerBomb:  {50, 5},
}

var floodWords = [buckets]string{
	"too many requests given up before their answer", "too many stream errors", "too many requests after GOAWAY",
	"too many empty DATA frames", "too many frames without use", "too many streams without use", "too many field sections over the limit",
}

// budget holds the token buckets of a connection.
type budget struct {
	refilled time.Time
	spent    [buckets]int32
}

// spend takes one token and reports whether there was one.
func (b *budget) spend(k bucket, now time.Time) bool {
	b.spent[k]++
	if b.spent[k] <= rates[k].burst {
		return true
	}
	ms := min(now.Sub(b.refilled)/time.Millisecond, 1<<20)
	if ms > 0 {
		b.refilled = now
		for i := range b.spent {
			b.spent[i] = max(0, b.spent[i]-int32(int64(rates[i].perSecond)*int64(ms)/1000))
		}
	}
	return b.spent[k] <= rates[k].burst
}

// calm spends a token; the error is that of a client which has none left.
func (c *conn) calm(k bucket) error {
	if c.budget.spend(k, c.sh.loop.Now()) {
		return nil
	}
	c.sh.count.counterOf(k).Add(1)
	return connErr(errExcessiveLoad, floodWords[k])
}

// Counters count what the bounds of this package did, one counter each. Any
// goroutine may read them.
type Counters struct {
	Connections atomic.Int64 // taken over
	Streams     atomic.Int64 // request streams opened
	Tunnels     atomic.Int64 // offers made
	Malformed   atomic.Int64 // requests answered with H3_MESSAGE_ERROR
	Moved       atomic.Int64 // times a client's address changed

	TunnelLimit atomic.Int64 // MaxTunnels: answered 503
	HeaderLimit atomic.Int64 // MaxHeader: answered 431
	Retry       atomic.Int64 // RetryAbove: handshakes asked to show their address

	// Each of these ended a connection with H3_EXCESSIVE_LOAD.
	RapidReset   atomic.Int64
	MadeReset    atomic.Int64
	RejectFlood  atomic.Int64
	EmptyData    atomic.Int64
	OtherFrames  atomic.Int64
	UniStreams   atomic.Int64
	HeaderBomb   atomic.Int64
	HeaderLength atomic.Int64 // a HEADERS frame far over the limit
	HeaderMemory atomic.Int64 // field sections that are not complete, all together

	HeaderTimeout atomic.Int64 // streams whose head took too long
	IdleTimeout   atomic.Int64 // connections without a request for too long
	OutputStall   atomic.Int64 // streams whose last octets the client did not take
}

// counterOf returns the counter of a bucket's bound.
func (n *Counters) counterOf(k bucket) *atomic.Int64 {
	switch k {
	case rapidReset:
		return &n.RapidReset
	case madeReset:
		return &n.MadeReset
	case rejected:
		return &n.RejectFlood
	case emptyData:
		return &n.EmptyData
	case uniStreams:
		return &n.UniStreams
	case headerBomb:
		return &n.HeaderBomb
	}
	return &n.OtherFrames
}
