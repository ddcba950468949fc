package rawpeer

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// H1 is a raw HTTP/1.1 client.
type H1 struct {
	journal
	Patience time.Duration
	c        net.Conn
	r        *bufio.Reader
}

// DialH1 connects by TLS, or in cleartext if config is nil.
func DialH1(addr string, config *tls.Config) (*H1, error) {
	proto := ""
	if config != nil {
		proto = "http/1.1"
	}
	nc, err := dial(addr, config, proto)
	if err != nil {
		return nil, err
	}
	c := &H1{Patience: Patience, c: nc}
	c.r = bufio.NewReaderSize(noted{nc, &c.journal}, 4096)
	return c, nil
}

// Close closes the connection.
func (c *H1) Close() {
	c.note("->", "close")
	c.c.Close()
}

// Cut closes it with a TCP RST.
func (c *H1) Cut() {
	c.note("->", "RST")
	cut(c.c)
}

// Conn is the connection underneath.
func (c *H1) Conn() net.Conn { return c.c }

// CloseWrite sends FIN, after close_notify on TLS.
func (c *H1) CloseWrite() error {
	c.note("->", "FIN")
	if t, ok := c.c.(*tls.Conn); ok {
		if err := t.CloseWrite(); err != nil {
			return err
		}
	}
	return tcpOf(c.c).CloseWrite()
}

// Write writes octets.
func (c *H1) Write(p []byte) error {
	c.octets("->", p)
	c.c.SetWriteDeadline(time.Now().Add(c.Patience))
	_, err := c.c.Write(p)
	return err
}

// PeekLine waits for the first line of an answer, which stays to be read, and
// returns what there is of it.
func (c *H1) PeekLine() string {
	c.c.SetReadDeadline(time.Now().Add(c.Patience))
	for n := 1; ; n++ {
		p, err := c.r.Peek(n)
		if err != nil || p[n-1] == '\n' {
			return strings.TrimSpace(string(p))
		}
	}
}

// WriteString writes octets.
func (c *H1) WriteString(s string) error { return c.Write([]byte(s)) }

// Key is a Sec-WebSocket-Key for tests, that of RFC 6455 section 1.3.
const Key = "dGhlIHNhbXBsZSBub25jZQ=="

// UpgradeRequest is a right opening handshake (RFC 6455 section 4.1); fields
// come on top.
func UpgradeRequest(path string, more ...Field) string {
	var b strings.Builder
	b.WriteString("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + Key + "\r\nSec-WebSocket-Version: 13\r\n")
	for _, f := range more {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// Response is an answer with its content.
type Response struct {
	Status  int
	Line    string
	Fields  Fields
	Body    []byte
	Trailer Fields
}

// ReadResponse reads one answer. method is that of the request: an answer to
// HEAD has no content.
func (c *H1) ReadResponse(method string) (*Response, error) {
	c.c.SetReadDeadline(time.Now().Add(c.Patience))
	h, err := readHead(c.r)
	if err != nil {
		return nil, mismatch("an answer", "%v after %q", err, h.Raw)
	}
	r := &Response{Line: h.Line, Fields: h.Fields}
	parts := strings.SplitN(h.Line, " ", 3)
	if len(parts) < 2 {
		return nil, mismatch("a status line", "%q", h.Line)
	}
	if r.Status, err = strconv.Atoi(parts[1]); err != nil {
		return nil, mismatch("a status line", "%q", h.Line)
	}
	if method == "HEAD" || r.Status < 200 || r.Status == 204 || r.Status == 304 {
		return r, nil
	}
	return r, readBody(c.r, r)
}

// readBody reads content, and trailers if there are any.
func readBody(in *bufio.Reader, r *Response) (err error) {
	if r.Fields.Get("Transfer-Encoding") != "" {
		return readChunked(in, r)
	}
	if v := r.Fields.Get("Content-Length"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			return mismatch("a Content-Length", "%q", v)
		}
		r.Body = make([]byte, n)
		if n, err = io.ReadFull(in, r.Body); err != nil {
			r.Body = r.Body[:n]
			return mismatch(v+" octets of content", "%d, then %v", n, err)
		}
		return nil
	}
	r.Body, err = io.ReadAll(in)
	return err
}

func readChunked(in *bufio.Reader, r *Response) error {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return mismatch("a chunk", "%v after %d octets of content", err, len(r.Body))
		}
		n, err := strconv.ParseUint(strings.TrimSpace(line), 16, 31)
		if err != nil {
			return mismatch("a chunk size", "%q", line)
		}
		if n == 0 {
			t, err := readHeadLines(in)
			r.Trailer = t
			return err
		}
		p := make([]byte, n+2)
		if _, err := io.ReadFull(in, p); err != nil {
			return mismatch("a whole chunk", "%v", err)
		}
		r.Body = append(r.Body, p[:n]...)
	}
}

func readHeadLines(r *bufio.Reader) (Fields, error) {
	var f Fields
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return f, mismatch("the end of the trailers", "%v", err)
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			return f, nil
		}
		name, value, _ := strings.Cut(line, ":")
		f = append(f, Field{name, strings.Trim(value, " \t")})
	}
}

// WantStatus reads answers until a final one, or a 101, and compares its status.
func (c *H1) WantStatus(method string, status int) (*Response, error) {
	for {
		r, err := c.ReadResponse(method)
		if err != nil {
			var m *Mismatch
			if ok := asMismatch(err, &m); ok {
				m.Want = fmt.Sprintf("status %d (%s)", status, m.Want)
			}
			return r, err
		}
		if r.Status < 200 && r.Status != http.StatusSwitchingProtocols && r.Status != status {
			continue
		}
		if r.Status != status {
			return r, mismatch(fmt.Sprintf("status %d", status), "%q %s", r.Line, show(r.Body))
		}
		return r, nil
	}
}

func asMismatch(err error, m **Mismatch) bool {
	x, ok := err.(*Mismatch)
	*m = x
	return ok
}

// WantBytes waits for exactly p as the next octets.
func (c *H1) WantBytes(p []byte) error { return wantBytes("the client", c.c, c.r, p, c.Patience) }

// WantFIN waits for an orderly end and that no octet is left before it.
func (c *H1) WantFIN() error { return wantFIN("the client", c.c, c.r, c.Patience) }

// WantRST waits for a TCP RST.
func (c *H1) WantRST() error { return wantRST("the client", c.c, c.r, c.Patience) }

// WantClosed waits for the end of the connection, FIN or RST; octets before it
// are dropped.
func (c *H1) WantClosed() error {
	for {
		n, _, err := readOn(c.c, c.r, c.Patience)
		if n > 0 {
			continue
		}
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			return mismatch("the end of the connection", "none in %v", c.Patience)
		}
		return nil
	}
}
