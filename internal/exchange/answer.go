package exchange

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"wsgate/internal/field"
)

// pipeSize bounds the answer between handler and loop: half of it may wait
// with the handler, half on the loop.
const pipeSize = 64 << 10

// eagerSize is how much content a handler gathers before the loop is asked
// to send without a Flush.
const eagerSize = 8 << 10

var (
	errReturned = errors.New("handler has returned")
	errShort    = errors.New("answer is shorter than its Content-Length")
)

// answer is the http.ResponseWriter of an exchange. The handler's goroutine
// writes, the loop takes.
type answer struct {
	// Immutable.
	x      *Exchange
	method string

	// Owned by the handler's goroutine.
	header http.Header

	mu      sync.Mutex
	room    sync.Cond
	status  int // 0 until WriteHeader
	length  int64
	written int64
	bare    bool // no content by rule: HEAD, 204, 304
	head    *headPiece
	first   []interimPiece
	buf     []byte
	trailer http.Header
	names   []string // announced trailers
	over    bool
	err     error // of the handler: the answer cannot be completed
	lost    error // of the client: nobody takes the answer
	posted  bool  // a pump is under way
	sent100 bool
	expired bool
	timer   *time.Timer
}

type headPiece struct {
	status int
	header http.Header
	length int64
}

type interimPiece struct {
	status int
	header http.Header
}

// piece is what the loop takes at once.
type piece struct {
	interim []interimPiece
	head    *headPiece
	data    []byte
	over    bool
	trailer http.Header
	err     error
}

func newAnswer(x *Exchange, r *http.Request) *answer {
	a := &answer{x: x, method: r.Method, header: make(http.Header)}
	a.room.L = &a.mu
	return a
}

// Header is the handler's to change until WriteHeader, and for trailers after it.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader sets the final status, or sends a 1xx answer at once. The final
// head leaves with the first Flush, with the first 8 KiB or on return.
func (a *answer) WriteHeader(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.status != 0 || a.over {
		return
	}
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		if status == http.StatusContinue {
			// RFC 9110 section 15.2.1: only to who expects it, once.
			if a.sent100 || a.x.body == nil || !a.x.body.expect {
				return
			}
			a.sent100 = true
		}
		a.first = append(a.first, interimPiece{status, endToEnd(a.header.Clone())})
		a.post()
		return
	}
	a.writeHead(status)
}

func (a *answer) interim100() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sent100 || a.status != 0 || a.over {
		return
	}
	a.sent100 = true
	a.first = append(a.first, interimPiece{http.StatusContinue, nil})
	a.post()
}

// writeHead fixes the head; mu is held.
func (a *answer) writeHead(status int) {
	switch {
	case status == http.StatusSwitchingProtocols: // RFC 9110 section 7.8: nobody asked for it
		status = http.StatusBadGateway
	case status < 200 || status > 999:
		status = http.StatusInternalServerError // a handler's mistake, as net/http would panic on
	}
	a.status = status
	h := a.header.Clone()
	if h == nil {
		h = make(http.Header)
	}
	for _, v := range h["Trailer"] {
		for _, name := range strings.Split(v, ",") {
			a.names = append(a.names, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			delete(h, name)
		}
	}
	for _, name := range a.names {
		delete(h, name)
	}
	a.bare = a.method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
	a.length = -1
	if v := h["Content-Length"]; v != nil {
		if n, ok := field.ContentLength(v); ok && status != http.StatusNoContent {
			a.length = n
			h["Content-Length"] = []string{strconv.FormatInt(n, 10)}
		} else {
			delete(h, "Content-Length")
		}
	}
	if h["Date"] == nil {
		h["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)}
	}
	a.head = &headPiece{status, endToEnd(h), a.length}
}

// endToEnd takes the hop-by-hop fields out, and those named in Connection
// (RFC 9110 section 7.6.1).
func endToEnd(h http.Header) http.Header {
	for _, v := range h["Connection"] {
		for _, name := range strings.Split(v, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name != "Date" && name != "Content-Length" {
				h.Del(name)
			}
		}
	}
	for name := range h {
		if field.HopByHop(name) {
			delete(h, name)
		}
	}
	return h
}

// Write appends content and waits while the pipe is full.
func (a *answer) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.status == 0 && !a.over {
		a.writeHead(http.StatusOK)
	}
	switch {
	case a.over:
		return 0, errReturned
	case a.bare:
		if a.method == http.MethodHead {
			return len(p), nil
		}
		return 0, http.ErrBodyNotAllowed
	case a.length >= 0 && a.written+int64(len(p)) > a.length:
		a.err = errTooMuch
		return 0, http.ErrContentLength
	}
	n := 0
	for n < len(p) {
		for len(a.buf) >= pipeSize/2 && a.lost == nil && !a.expired {
			a.room.Wait()
		}
		if a.lost != nil {
			return n, a.lost
		}
		if a.expired {
			return n, os.ErrDeadlineExceeded
		}
		k := min(len(p)-n, pipeSize/2-len(a.buf))
		a.buf = append(a.buf, p[n:n+k]...)
		n += k
		a.written += int64(k)
		if len(a.buf) >= eagerSize {
			a.post()
		}
	}
	return n, nil
}

// FlushError sends what has been written. The error tells that the client is gone.
func (a *answer) FlushError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return errReturned
	}
	if a.status == 0 {
		a.writeHead(http.StatusOK)
	}
	a.post()
	return a.lost
}

// Flush implements http.Flusher.
func (a *answer) Flush() { _ = a.FlushError() }

// EnableFullDuplex is how this ResponseWriter always works.
func (a *answer) EnableFullDuplex() error { return nil }

// SetReadDeadline and SetWriteDeadline serve http.ResponseController.
func (a *answer) SetReadDeadline(t time.Time) error {
	if a.x.body != nil {
		a.x.body.setDeadline(t)
	}
	return nil
}

// SetWriteDeadline makes Write fail from t on; the zero time takes that back.
func (a *answer) SetWriteDeadline(t time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	a.expired = false
	if t.IsZero() || a.over {
		return nil
	}
	if d := time.Until(t); d > 0 {
		a.timer = time.AfterFunc(d, a.expire)
		return nil
	}
	a.expired = true
	a.room.Broadcast()
	return nil
}

func (a *answer) expire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expired = true
	a.room.Broadcast()
}

// post asks the loop to take; mu is held.
func (a *answer) post() {
	if !a.posted {
		a.posted = true
		a.x.wake()
	}
}

// finish ends the answer when the handler has returned, ok, or panicked. The
// caller posts.
func (a *answer) finish(ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ok && a.status == 0 {
		a.writeHead(http.StatusOK)
	}
	a.collectTrailers()
	a.over = true
	switch {
	case !ok:
		a.err = http.ErrAbortHandler
	case a.err == nil && !a.bare && a.length >= 0 && a.written < a.length:
		a.err = errShort
	}
	// Not yet on the wire and all of it here: the length is known. With trailers
	// it is not told, for HTTP/1.1 sends them behind chunks only (RFC 9112
	// section 7.1.2).
	if h := a.head; h != nil && a.err == nil && a.length < 0 && !a.bare && a.names == nil && a.trailer == nil {
		h.length = a.written
		h.header["Content-Length"] = []string{strconv.FormatInt(a.written, 10)}
	}
	a.posted = true
	if a.timer != nil {
		a.timer.Stop()
	}
}

// collectTrailers gathers announced ones and those with http.TrailerPrefix.
func (a *answer) collectTrailers() {
	for _, name := range a.names {
		if v := a.header[name]; len(v) > 0 && trailerAllowed(name) {
			a.addTrailer(name, v)
		}
	}
	for name, v := range a.header {
		if t, ok := strings.CutPrefix(name, http.TrailerPrefix); ok && trailerAllowed(t) {
			a.addTrailer(http.CanonicalHeaderKey(t), v)
		}
	}
}

func (a *answer) addTrailer(name string, v []string) {
	if a.trailer == nil {
		a.trailer = make(http.Header)
	}
	a.trailer[name] = append([]string(nil), v...)
}

// trailerAllowed keeps framing and routing fields out of trailers (RFC 9110
// section 6.5.1).
func trailerAllowed(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Content-Length", "Trailer", "Host", "Content-Encoding", "Content-Type", "Content-Range":
		return false
	}
	return field.Token(name) && !field.HopByHop(name)
}

// fail breaks the pipe: the client is gone.
func (a *answer) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lost == nil {
		a.lost = err
	}
	a.room.Broadcast()
}

// take hands the loop what there is; spare becomes the handler's next buffer.
func (a *answer) take(spare []byte) piece {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := piece{interim: a.first, head: a.head, data: a.buf}
	a.first, a.head, a.posted = nil, nil, false
	a.buf = spare
	p.over = a.over
	if a.over {
		p.trailer, p.err = a.trailer, a.err
	}
	if len(p.data) > 0 {
		// The end comes with the next take, after the data.
		p.over = false
		a.room.Broadcast()
	}
	return p
}
