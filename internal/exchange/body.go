package exchange

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// bodyPipe carries a request's content from the loop to the handler. Its bound
// is the wire's: no more than BodyWindow octets arrive without credit.
type bodyPipe struct {
	// Immutable.
	x      *Exchange
	r      *http.Request // for its Trailer
	expect bool

	mu       sync.Mutex
	ready    sync.Cond
	buf      []byte
	off      int
	uncredit int   // consumed but not yet credited
	err      error // after buf is empty
	left     bool  // nobody reads any more
	asked    bool  // 100 (Continue) is under way
	expired  bool
	timer    *time.Timer
}

func newBodyPipe(x *Exchange, r *http.Request) *bodyPipe {
	b := &bodyPipe{x: x, r: r, expect: strings.EqualFold(r.Header.Get("Expect"), "100-continue")}
	b.ready.L = &b.mu
	return b
}

// put appends p. It returns how many octets may be credited at once because
// nobody will read them.
func (b *bodyPipe) put(p []byte) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left {
		return len(p)
	}
	b.buf = append(b.buf, p...)
	b.ready.Signal()
	return 0
}

func (b *bodyPipe) end(trailer http.Header) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return
	}
	if b.r.Trailer != nil || len(trailer) > 0 {
		// The handler looks at Trailer only after it has read io.EOF.
		b.err = &eofWith{trailer}
	} else {
		b.err = io.EOF
	}
	b.ready.Broadcast()
}

// eofWith is io.EOF with trailers still to be shown.
type eofWith struct{ trailer http.Header }

func (*eofWith) Error() string { return io.EOF.Error() }

func (b *bodyPipe) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.ready.Broadcast()
}

// Read waits for content. It is called on the handler's goroutine, or on one
// that http.Transport started for it.
func (b *bodyPipe) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b.mu.Lock()
	if b.expect && !b.asked && b.off == len(b.buf) && b.err == nil {
		b.asked = true
		b.mu.Unlock()
		b.x.out.interim100()
		b.mu.Lock()
	}
	for b.off == len(b.buf) && b.err == nil && !b.left && !b.expired {
		b.ready.Wait()
	}
	switch {
	case b.left:
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	case b.expired:
		b.mu.Unlock()
		return 0, os.ErrDeadlineExceeded
	case b.off == len(b.buf):
		err := b.eof()
		b.mu.Unlock()
		return 0, err
	}
	n := copy(p, b.buf[b.off:])
	b.off += n
	if b.off == len(b.buf) {
		b.buf, b.off = b.buf[:0], 0
	}
	b.uncredit += n
	give := 0
	// Credit is worth a post only after half a window, and never once all has come.
	if b.uncredit >= BodyWindow/2 && b.err == nil {
		give, b.uncredit = b.uncredit, 0
	}
	b.mu.Unlock()
	if give > 0 {
		b.x.credit(give)
	}
	return n, nil
}

// eof returns the final error; the trailers are shown with it.
func (b *bodyPipe) eof() error {
	e, ok := b.err.(*eofWith)
	if !ok {
		return b.err
	}
	if b.r.Trailer == nil {
		b.r.Trailer = make(http.Header, len(e.trailer))
	}
	for k, v := range e.trailer {
		b.r.Trailer[k] = v
	}
	b.err = io.EOF
	return io.EOF
}

// Close says that the handler reads no more; what still comes is dropped.
func (b *bodyPipe) Close() error {
	b.abandon()
	return nil
}

func (b *bodyPipe) abandon() {
	b.mu.Lock()
	give := 0
	if !b.left {
		b.left = true
		give = b.uncredit + len(b.buf) - b.off
		b.buf, b.off, b.uncredit = nil, 0, 0
		b.ready.Broadcast()
	}
	if b.timer != nil {
		b.timer.Stop()
	}
	over := b.err != nil
	b.mu.Unlock()
	if give > 0 && !over {
		b.x.credit(give)
	}
}

// setDeadline makes Read fail from t on; the zero time takes that back.
func (b *bodyPipe) setDeadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	b.expired = false
	if t.IsZero() || b.left {
		return
	}
	if d := time.Until(t); d > 0 {
		b.timer = time.AfterFunc(d, b.expire)
		return
	}
	b.expired = true
	b.ready.Broadcast()
}

func (b *bodyPipe) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expired = true
	b.ready.Broadcast()
}

var errTooMuch = errors.New("answer is longer than its Content-Length")
