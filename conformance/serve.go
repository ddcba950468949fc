package conformance

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"sync"

	"wsgate/internal/rawpeer"
)

// recorder is a backend that serves by itself: it keeps every whole request that
// reaches it, answers ordinary ones 200 "ok", handshakes that RFC 6455 does not
// allow 400, and echoes in tunnels.
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
		status := "200 OK"
		switch {
		case !asksToSwitch(h):
		case isHandshake(h):
			if c.Answer101(h) == nil {
				_, _ = io.Copy(writer{c}, c)
			}
			return
		default:
			status = "400 Bad Request"
		}
		if c.Write(answer(status, "ok")) != nil {
			return
		}
	}
}

// asksToSwitch reports whether a request asks for WebSocket (RFC 9110 section 7.8).
func asksToSwitch(h *rawpeer.Head) bool {
	return hasToken(h.Fields.Values("Upgrade"), "websocket") && hasToken(h.Fields.Values("Connection"), "upgrade")
}

// isHandshake reports whether it is a right one (RFC 6455 section 4.2.1).
func isHandshake(h *rawpeer.Head) bool {
	keys := h.Fields.Values("Sec-WebSocket-Key")
	if len(keys) != 1 || strings.Join(h.Fields.Values("Sec-WebSocket-Version"), "|") != "13" {
		return false
	}
	p, err := base64.StdEncoding.DecodeString(keys[0])
	return err == nil && len(p) == 16 && strings.HasPrefix(h.Line, "GET ") && strings.HasSuffix(h.Line, " HTTP/1.1")
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
