package reverse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"

	"wsgate/internal/upstream"
)

var errFraming = errors.New("answer has Transfer-Encoding where it may not stand")

// transport sees to what http.Transport hides of an answer's head: it removes
// the Connection line with "close" in it before anyone could see which fields
// it names, and drops a Content-Length beside Transfer-Encoding. And to what it
// makes of a request target with "//" in front: an absolute one.
type transport struct{ base http.RoundTripper }

// RoundTrip implements http.RoundTripper. A request of which nothing was sent is
// tried at another server.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	s := stayOf(r)
	for {
		res, err := t.once(r, s.visit.Server())
		if err == nil || !errors.As(err, new(*dialError)) || !s.visit.Again(r.Context(), err) {
			return res, err
		}
	}
}

// once asks one server.
func (t transport) once(r *http.Request, to upstream.Server) (*http.Response, error) {
	u := *r.URL
	u.Host = to.Key()
	slashes := 0 // all but one; the connection adds them
	if strings.HasPrefix(u.Opaque, "//") {
		u.Opaque = "/" + strings.TrimLeft(u.Opaque, "/")
		slashes = len(r.URL.Opaque) - len(u.Opaque)
	}
	var body *held
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if c, ok := i.Conn.(*answerConn); ok {
			c.slashes.Store(int64(slashes))
			c.expect.Store(true)
		}
		if body != nil {
			body.out.Store(true)
		}
	}}
	r = r.WithContext(httptrace.WithClientTrace(context.WithValue(r.Context(), serverKey{}, to), trace)) // a copy
	r.URL = &u
	if h := to.HostHeader(); h != "" {
		r.Host = h
	}
	if r.Body != nil && r.Body != http.NoBody {
		body = &held{ReadCloser: r.Body}
		r.Body = body
	}
	return t.base.RoundTrip(r)
}

// serverKey is that of the server in the context of a dial.
type serverKey struct{}

// held is a request's content that stays open while there is no connection yet,
// for another server may be asked. httputil.ReverseProxy closes it in the end.
type held struct {
	io.ReadCloser
	out atomic.Bool // a connection was found
}

// Close implements io.Closer.
func (h *held) Close() error {
	if !h.out.Load() {
		return nil
	}
	return h.ReadCloser.Close()
}

// dialError says that there was no connection, so that nothing was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// answerConn is a backend's connection whose heads of answers pass a filter.
// What follows the final head of an answer is not looked at.
type answerConn struct {
	net.Conn
	max     int // octets of a head
	expect  atomic.Bool
	slashes atomic.Int64 // to be added in front of the target of the request to come

	// Owned by who reads.
	head []byte // a partial head
	out  []byte // filtered, to be read
	err  error  // after out
}

// Read implements net.Conn.
func (c *answerConn) Read(p []byte) (int, error) {
	for len(c.out) == 0 && c.err == nil {
		n, err := c.Conn.Read(p)
		// The request may have begun while Read waited.
		if !c.expect.Load() {
			return n, err
		}
		c.head = append(c.head, p[:n]...)
		c.err = err
		c.filter()
	}
	if len(c.out) == 0 {
		return 0, c.err
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

// Write implements net.Conn. The target follows the first SP of a request.
func (c *answerConn) Write(p []byte) (int, error) {
	at := bytes.IndexByte(p, ' ') + 1
	n := c.slashes.Load()
	if n == 0 || at == 0 {
		return c.Conn.Write(p)
	}
	c.slashes.Store(0)
	if _, err := c.Conn.Write(slices.Concat(p[:at], bytes.Repeat([]byte("/"), int(n)), p[at:])); err != nil {
		return 0, err
	}
	return len(p), nil
}

// filter moves whole heads from head to out, and all that follows the final
// one. What is no head, or can no longer become one, passes as it is.
func (c *answerConn) filter() {
	for {
		n := headLen(c.head)
		begin := c.head[:min(len(c.head), len("HTTP/"))]
		switch {
		case string(begin) != "HTTP/"[:len(begin)] || len(c.head) > c.max || n == 0 && c.err != nil:
			c.pass()
			return
		case n == 0:
			return
		}
		out, status, err := filterHead(string(c.head[:n]))
		if err != nil {
			c.head, c.err = nil, err
			return
		}
		c.out = append(c.out, out...)
		c.head = c.head[n:]
		if len(status) != 3 || status[0] != '1' || status == "101" {
			c.pass()
			return
		}
	}
}

// pass lets the rest go by unseen until the next request.
func (c *answerConn) pass() {
	c.expect.Store(false)
	c.out = append(c.out, c.head...)
	c.head = nil
}

// headLen is the length of the head that p begins with, 0 if it is not whole.
func headLen(p []byte) int {
	for off := 0; ; {
		i := bytes.IndexByte(p[off:], '\n')
		if i < 0 {
			return 0
		}
		line := p[off : off+i]
		off += i + 1
		if len(bytes.TrimSuffix(line, []byte("\r"))) == 0 {
			return off
		}
	}
}

// filterHead returns the head without the fields that Connection names (RFC
// 9110 section 7.6.1), and its status.
func filterHead(head string) (out, status string, err error) {
	var lines []string // each with the lines folded into it
	for line := range strings.Lines(head) {
		if last := len(lines) - 1; last > 0 && (line[0] == ' ' || line[0] == '\t') {
			lines[last] += line
			continue
		}
		lines = append(lines, line)
	}
	version, rest, _ := strings.Cut(lines[0], " ")
	status, _, _ = strings.Cut(strings.TrimRight(rest, "\r\n"), " ")
	length, coding := false, false
	named := make(map[string]bool)
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "content-length":
			length = true
		case "transfer-encoding":
			coding = true
		case "connection":
			for item := range strings.SplitSeq(value, ",") {
				named[strings.ToLower(strings.TrimSpace(item))] = true
			}
		}
	}
	// RFC 9112 section 6.3 item 3: both may be an attempt at response
	// splitting. Section 6.1: HTTP/1.0 has no Transfer-Encoding.
	if coding && (length || version == "HTTP/1.0") {
		return "", status, errFraming
	}
	var b strings.Builder
	for i, line := range lines {
		name, _, _ := strings.Cut(line, ":")
		name = strings.ToLower(name)
		if i > 0 && named[name] && !framing(name) {
			continue
		}
		b.WriteString(line)
	}
	return b.String(), status, nil
}

// framing names fields that http.Transport needs, whoever names them.
func framing(name string) bool {
	return name == "connection" || name == "content-length" || name == "transfer-encoding" || name == "trailer"
}

// dial makes a connection with the filter to the server in the context.
func (c *Config) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := ctx.Value(serverKey{}).(upstream.Server).Dial(ctx)
	if err != nil {
		return nil, &dialError{err}
	}
	size := int(c.MaxHeader)
	if size <= 0 {
		size = 1 << 20
	}
	a := &answerConn{Conn: conn, max: size}
	a.expect.Store(true)
	return a, nil
}
