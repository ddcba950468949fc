// Package accesslog writes one line when a tunnel opens, one when it ends and
// one for each ordinary request, by slog. Loops hand events over without
// waiting: they are formatted and written by a goroutine of the log's own. No
// query, cookie, authorization, subprotocol or key is in any line.
package accesslog

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"wsgate/bridge"
)

// pending bounds the events that wait for the writer; what comes on top is
// counted and dropped, and the count is logged.
const pending = 1 << 16

// gather is how long events are collected before they are written together.
const gather = 50 * time.Millisecond

// Log takes events on any goroutine or loop and never blocks.
type Log struct {
	handler slog.Handler
	out     *bufio.Writer
	line    line // scratch of the log's goroutine

	mu      sync.Mutex
	events  []event
	dropped int
	closed  bool
	wake    chan struct{}
	done    chan struct{}
}

// event is a line to be.
type event struct {
	at      time.Time
	level   slog.Level
	message string
	tunnel  *bridge.Tunnel // nil for other lines
	end     *bridge.End
	status  int
	code    string
	cause   error
	attrs   []slog.Attr
}

// New makes a log that writes to w in the given format, "text" or "json", and
// starts its goroutine. Close it to write what is left.
func New(w io.Writer, format string, level slog.Level) *Log {
	l := &Log{out: bufio.NewWriterSize(w, 64<<10), wake: make(chan struct{}, 1), done: make(chan struct{})}
	o := &slog.HandlerOptions{Level: level}
	if l.line.json = format == "json"; l.line.json {
		l.handler = slog.NewJSONHandler(l.out, o)
	} else {
		l.handler = slog.NewTextHandler(l.out, o)
	}
	go l.write()
	return l
}

// Close writes what is left and ends the goroutine. Events after it are dropped.
func (l *Log) Close() {
	l.mu.Lock()
	was := l.closed
	l.closed = true
	l.mu.Unlock()
	if !was {
		l.signal()
	}
	<-l.done
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Log) put(e event) {
	if !l.handler.Enabled(context.Background(), e.level) {
		return
	}
	l.mu.Lock()
	switch {
	case l.closed:
	case len(l.events) >= pending:
		l.dropped++
	default:
		l.events = append(l.events, e)
	}
	first := len(l.events) == 1
	l.mu.Unlock()
	if first {
		l.signal()
	}
}

// write is the log's goroutine.
func (l *Log) write() {
	defer close(l.done)
	var batch []event
	timer := time.NewTimer(0)
	<-timer.C
	for closed := false; !closed; {
		<-l.wake
		l.mu.Lock()
		closed = l.closed
		l.mu.Unlock()
		if !closed {
			// Many lines together cost one write and one wake-up.
			timer.Reset(gather)
			<-timer.C
		}
		l.mu.Lock()
		batch, l.events = l.events, batch[:0]
		dropped := l.dropped
		l.dropped = 0
		closed = l.closed
		l.mu.Unlock()
		for i := range batch {
			l.format(&batch[i])
			batch[i] = event{}
		}
		if dropped > 0 {
			l.format(&event{at: time.Now(), level: slog.LevelWarn, message: "log lines dropped", attrs: []slog.Attr{slog.Int("count", dropped)}})
		}
		_ = l.out.Flush() // nobody is left to tell that the log cannot be written
	}
}

// format writes one line.
func (l *Log) format(e *event) {
	if e.tunnel != nil {
		l.tunnel(e)
		_, _ = l.out.Write(l.line.end())
		return
	}
	r := slog.NewRecord(e.at, e.level, e.message, 0)
	// A group without a name, which slog shows as if its attributes stood alone:
	// so they are not copied.
	r.AddAttrs(slog.Attr{Value: slog.GroupValue(e.attrs...)})
	_ = l.handler.Handle(context.Background(), r)
}

// The messages of tunnel lines.
const (
	opened  = "tunnel open"
	ended   = "tunnel end"
	refused = "handshake refused"
)

// tunnel makes a tunnel's line.
func (l *Log) tunnel(e *event) {
	t, end, out := e.tunnel, e.end, &l.line
	out.begin(e.at, e.level, e.message)
	out.count("id", t.ID)
	out.addr("client", t.Client.Remote)
	out.integer("http", t.Major)
	out.str("host", t.Authority)
	out.str("path", t.Path)
	if t.Service != nil && t.Service.Name != "" {
		out.str("route", t.Service.Name)
	}
	if t.Server != nil {
		out.str("server", t.Server.String())
	}
	cause := e.cause
	switch e.message {
	case opened:
		out.float("handshake_ms", ms(t.Handshake))
	case refused:
		out.integer("status", e.status)
		out.str("reason", e.code)
	case ended:
		cause = end.Cause
		out.str("by", end.By)
		out.str("why", end.Why)
		out.boolean("reset", end.Reset)
		out.float("handshake_ms", ms(t.Handshake))
		out.float("seconds", end.Life.Seconds())
		out.count("bytes_up", end.BytesUp)
		out.count("bytes_down", end.BytesDown)
		out.count("messages_up", end.MessagesUp)
		out.count("messages_down", end.MessagesDown)
		if end.CloseUp != 0 {
			out.integer("close_up", end.CloseUp)
		}
		if end.CloseDown != 0 {
			out.integer("close_down", end.CloseDown)
		}
	}
	if cause != nil {
		out.str("error", cause.Error())
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Trace is the bridge's way into the log.
func (l *Log) Trace() bridge.Trace {
	return bridge.Trace{
		Opened: func(t *bridge.Tunnel, _ *bridge.Handshake) {
			l.put(event{at: time.Now(), message: opened, tunnel: t})
		},
		Refused: func(t *bridge.Tunnel, r *bridge.Refusal) {
			code := r.Code
			if r.Foreign && code == "" {
				code = "backend-answer"
			}
			l.put(event{at: time.Now(), message: refused, tunnel: t, status: r.Status, code: code, cause: r.Cause})
		},
		Done: func(t *bridge.Tunnel, end *bridge.End) {
			l.put(event{at: time.Now(), message: ended, tunnel: t, end: end})
		},
	}
}

// Info, Warn and Error write a line of the program's own.
func (l *Log) Info(message string, attrs ...slog.Attr) { l.say(slog.LevelInfo, message, attrs) }

// Warn says that something is not as it should be, but the gateway goes on.
func (l *Log) Warn(message string, attrs ...slog.Attr) { l.say(slog.LevelWarn, message, attrs) }

// Error says that something failed.
func (l *Log) Error(message string, attrs ...slog.Attr) { l.say(slog.LevelError, message, attrs) }

func (l *Log) say(level slog.Level, message string, attrs []slog.Attr) {
	l.put(event{at: time.Now(), level: level, message: message, attrs: attrs})
}

// Requests wraps a handler so that each ordinary request has its line.
func (l *Log) Requests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		path, _, _ := strings.Cut(r.RequestURI, "?")
		aborted := true
		defer func() {
			attrs := []slog.Attr{
				slog.String("client", r.RemoteAddr), slog.Int("http", r.ProtoMajor), slog.String("method", r.Method),
				slog.String("host", r.Host), slog.String("path", path), slog.Int("status", rec.status),
				slog.Int64("bytes", rec.bytes), slog.Float64("ms", ms(time.Since(start))),
			}
			if rec.route != "" {
				attrs = append(attrs, slog.String("route", rec.route))
			}
			if rec.code != "" {
				attrs = append(attrs, slog.String("reason", rec.code))
			}
			if aborted {
				attrs = append(attrs, slog.Bool("aborted", true))
			}
			l.put(event{at: time.Now(), message: "request", attrs: attrs})
		}()
		next.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), recorderKey{}, rec)))
		if rec.status == 0 {
			rec.status = http.StatusOK
		}
		aborted = false
	})
}

type recorderKey struct{}

// Reason notes in the request's line why it failed.
func Reason(r *http.Request, code string) {
	if rec, ok := r.Context().Value(recorderKey{}).(*recorder); ok {
		rec.code = code
	}
}

// Route notes in the request's line which route it took.
func Route(r *http.Request, name string) {
	if rec, ok := r.Context().Value(recorderKey{}).(*recorder); ok {
		rec.route = name
	}
}

// recorder sees the status and the size of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	code   string
	route  string
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap serves http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Flush implements http.Flusher, which httputil.ReverseProxy looks for.
func (r *recorder) Flush() {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if f, ok := r.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}
