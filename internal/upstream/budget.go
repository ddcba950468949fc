package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// budget bounds retries to a share of the first attempts, and to a few a second
// in any case, so that they cannot make a bad hour worse. It counts thousandths.
type budget struct {
	saved atomic.Int64 // earned by first attempts

	mu   sync.Mutex
	free float64 // of those that are allowed in any case
	at   time.Time
}

const (
	oneRetry  = 1000
	mostSaved = 100 * oneRetry // what a calm time may save for a burst
)

// earn is called for each first attempt.
func (b *budget) earn(r *Retry) {
	if b.saved.Load() < mostSaved {
		b.saved.Add(int64(r.Budget * oneRetry))
	}
}

// spend pays for one retry if there is something left.
func (b *budget) spend(r *Retry, now time.Time) bool {
	for {
		n := b.saved.Load()
		if n < oneRetry {
			break
		}
		if b.saved.CompareAndSwap(n, n-oneRetry) {
			return true
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	most := float64(r.MinPerSec)
	if b.at.IsZero() {
		b.free = most
	}
	b.free = min(most, b.free+now.Sub(b.at).Seconds()*most)
	b.at = now
	if b.free < 1 {
		return false
	}
	b.free--
	return true
}

// mayRetry reports whether there may be another attempt after so many, and pays
// for it. Another source of ports costs the servers nothing.
func (u *Upstream) mayRetry(tries int, code string) bool {
	if tries > u.config.Retry.Attempts {
		return false
	}
	g := u.ledger
	if code != codePorts && !g.budget.spend(&u.config.Retry, u.env.Now()) {
		g.stats.denied.Add(1)
		return false
	}
	g.stats.retries.Add(1)
	return true
}
