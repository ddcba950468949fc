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
	oneRetry    = 1000
	mostSaved   = 100 * oneRetry // what a calm time may save for a burst
	freeSeconds = 10             // of those that are allowed in any case, the same
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
	rate := float64(r.MinPerSec)
	most := rate * freeSeconds
	if b.at.IsZero() {
		b.free = most
	}
	b.free = min(most, b.free+now.Sub(b.at).Seconds()*rate)
	b.at = now
	if b.free < 1 {
		return false
	}
	b.free--
	return true
}

// retryPause is what is waited before the same server is asked again; then twice
// as long.
const retryPause = 50 * time.Millisecond

// retry finds out whether there may be another attempt after so many, of which
// the last failed at e with that code, and pays for it. It takes a place at
// another server, or, if there is none left, says how long to wait before any
// may be asked again.
func (u *Upstream) retry(w *want, e *endpoint, tries int, code string) (next *endpoint, pause time.Duration, ok bool) {
	if tries > u.config.Retry.Attempts {
		return nil, 0, false
	}
	u = u.serving()
	w.tried = append(w.tried, e.server)
	if next = u.choose(w); next == nil {
		if code != codeConnectFailed { // what refuses us now will do so again
			return nil, 0, false
		}
		w.tried = w.tried[:0]
		pause = retryPause << min(tries-1, 6)
	}
	g := u.ledger
	// The sources of ports cost the servers nothing.
	if code != codePorts && !g.budget.spend(&u.config.Retry, u.env.Now()) {
		g.stats.denied.Add(1)
		if next != nil {
			next.exit(w.kind)
		}
		return nil, 0, false
	}
	g.stats.retries.Add(1)
	return next, pause, true
}
