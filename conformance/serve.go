package conformance

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"wsgate/internal/rawpeer"
)

// recorder is a backend that serves by itself: it keeps every whole request that
// reaches it, answers ordinary ones 200 "ok", and echoes in tunnels.
type recorder struct {
	mu  sync.Mutex
	all []Recorded
}

// Recorded is a request as it stood at the backend.
type Recorded struct {
	*rawpeer.Head
	Content string
}

// serve meets one connection. An answer announces its end, and what comes behind
// a request all the same is read as the next: a smuggled one is not missed.
func (r *recorder) serve(c *rawpeer.BackendConn) {
	defer c.Close()
	for {
		h, err := c.ReadHead()
		if err != nil {
			return
		}
		content, err := c.ReadContent(h)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.all = append(r.all, Recorded{h, string(content)})
		r.mu.Unlock()
		if h.Fields.Get("Upgrade") != "" {
			if c.Answer101(h) == nil {
				_, _ = io.Copy(writer{c}, c)
			}
			return
		}
		if c.Write(answer("200 OK", "ok")) != nil {
			return
		}
	}
}

// writer makes an io.Writer of a backend's connection.
type writer struct{ c *rawpeer.BackendConn }

func (w writer) Write(p []byte) (int, error) { return len(p), w.c.Write(p) }

// Serve lets the backend serve by itself from now on; Seen says what came.
func (e *Env) Serve() { e.claim.record.Store(&recorder{}) }

// Seen returns the whole requests of this case that reached the backend since it
// serves. A request of the suite's own, behind them all, has arrived first.
func (e *Env) Seen() []Recorded {
	e.Untouched()
	r := e.claim.record.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

// lines are the request lines, for messages.
func lines(all []Recorded) string {
	var b strings.Builder
	for i, r := range all {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%q", r.Line)
		if r.Content != "" {
			fmt.Fprintf(&b, " with %.60q", r.Content)
		}
	}
	if b.Len() == 0 {
		return "nothing at the backend"
	}
	return b.String()
}
