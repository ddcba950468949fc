package rawpeer

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Backend is a raw HTTP/1.1 server. Each connection is handed to who calls Next.
type Backend struct {
	Patience time.Duration
	ln       net.Listener
	conns    chan *BackendConn
	count    atomic.Int64
	done     chan struct{}
	once     sync.Once
}

// NewBackend listens on addr, "127.0.0.1:0" for any port; with a TLS config it
// speaks TLS.
func NewBackend(addr string, config *tls.Config) (*Backend, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return NewBackendOn(ln, config), nil
}

// NewBackendOn serves a listener that exists.
func NewBackendOn(ln net.Listener, config *tls.Config) *Backend {
	b := &Backend{Patience: Patience, ln: ln, conns: make(chan *BackendConn, 20000), done: make(chan struct{})}
	go b.accept(config)
	return b
}

func (b *Backend) accept(config *tls.Config) {
	for {
		c, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.count.Add(1)
		if config != nil {
			c = tls.Server(c, config)
		}
		bc := &BackendConn{Patience: b.Patience, c: c}
		bc.r = bufio.NewReaderSize(noted{c, &bc.journal}, 4096)
		select {
		case b.conns <- bc:
		case <-b.done:
			c.Close()
			return
		}
	}
}

// Addr is host:port.
func (b *Backend) Addr() string { return b.ln.Addr().String() }

// Accepted is how many connections came so far.
func (b *Backend) Accepted() int { return int(b.count.Load()) }

// Close stops accepting and drops connections that nobody took.
func (b *Backend) Close() {
	b.once.Do(func() {
		close(b.done)
		b.ln.Close()
		for {
			select {
			case c := <-b.conns:
				c.Close()
			default:
				return
			}
		}
	})
}

// Next waits for the next connection of the gateway.
func (b *Backend) Next() (*BackendConn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-time.After(b.Patience):
		return nil, mismatch("a connection at the backend", "none in %v", b.Patience)
	}
}

// Accept waits for the next connection as long as the backend is open.
func (b *Backend) Accept() (*BackendConn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.done:
		return nil, net.ErrClosed
	}
}

// WantNone checks that no connection waits. It does not wait: first do what
// proves that one would have come.
func (b *Backend) WantNone() error {
	select {
	case c := <-b.conns:
		defer c.Close()
		return mismatch("no connection at the backend", "one")
	default:
		return nil
	}
}

// BackendConn is one connection at a Backend.
type BackendConn struct {
	journal
	Patience time.Duration
	c        net.Conn
	r        *bufio.Reader
	head     *Head // read by AwaitHead, not yet by ReadHead
	headErr  error
}

// Head is a request head as it stood on the wire.
type Head struct {
	Raw    string // with the empty line
	Line   string // the request line
	Fields Fields
}

// AwaitHead waits for a request head as long as the connection lives. ReadHead
// returns it afterwards, or what came of it and why no more.
func (c *BackendConn) AwaitHead() (*Head, error) {
	c.c.SetReadDeadline(time.Time{})
	c.head, c.headErr = readHead(c.r)
	return c.head, c.headErr
}

// ReadHead reads a request head.
func (c *BackendConn) ReadHead() (*Head, error) {
	if h, err := c.head, c.headErr; h != nil {
		c.head, c.headErr = nil, nil
		if err != nil {
			return h, mismatch("a request head at the backend", "%v after %q", err, h.Raw)
		}
		return h, nil
	}
	c.c.SetReadDeadline(time.Now().Add(c.Patience))
	h, err := readHead(c.r)
	if err != nil {
		return nil, mismatch("a request head at the backend", "%v after %q", err, h.Raw)
	}
	return h, nil
}

func readHead(r *bufio.Reader) (*Head, error) {
	h := &Head{}
	var raw strings.Builder
	for {
		line, err := r.ReadString('\n')
		raw.WriteString(line)
		h.Raw = raw.String()
		if err != nil {
			return h, err
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		switch {
		case h.Line == "" && line != "":
			h.Line = line
		case line == "":
			return h, nil
		default:
			name, value, _ := strings.Cut(line, ":")
			h.Fields = append(h.Fields, Field{name, strings.Trim(value, " \t")})
		}
	}
}

// ReadContent reads the content of a request as its head frames it (RFC 9112
// section 6.3).
func (c *BackendConn) ReadContent(h *Head) ([]byte, error) {
	c.c.SetReadDeadline(time.Now().Add(c.Patience))
	r := &Response{Fields: h.Fields}
	if h.Fields.Get("Transfer-Encoding") == "" && h.Fields.Get("Content-Length") == "" {
		return nil, nil
	}
	err := readBody(c.r, r)
	return r.Body, err
}

// AcceptUpgrade reads the handshake and answers it with a right 101, more being
// further field lines.
func (c *BackendConn) AcceptUpgrade(more ...Field) (*Head, error) {
	h, err := c.ReadHead()
	if err != nil {
		return nil, err
	}
	return h, c.Answer101(h, more...)
}

// Answer101 writes a right 101 for the handshake h.
func (c *BackendConn) Answer101(h *Head, more ...Field) error {
	var b strings.Builder
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		AcceptFor(h.Fields.Get("Sec-WebSocket-Key")) + "\r\n")
	for _, f := range more {
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	b.WriteString("\r\n")
	return c.Write([]byte(b.String()))
}

// Write writes octets.
func (c *BackendConn) Write(p []byte) error {
	c.octets("->", p)
	c.c.SetWriteDeadline(time.Now().Add(c.Patience))
	_, err := c.c.Write(p)
	return err
}

// Read reads what there is, for those who read themselves.
func (c *BackendConn) Read(p []byte) (int, error) {
	c.c.SetReadDeadline(time.Now().Add(c.Patience))
	return c.r.Read(p)
}

// Conn is the connection underneath.
func (c *BackendConn) Conn() net.Conn { return c.c }

// WantSilence checks that nothing comes for d: no octet and no end.
func (c *BackendConn) WantSilence(d time.Duration) error {
	n, p, err := readOn(c.c, c.r, d)
	switch {
	case n > 0:
		return mismatch("silence at the backend", "%d octets %s", n, show(p))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return mismatch("silence at the backend", "%v", err)
}

// WantBytes waits for exactly p as the next octets.
func (c *BackendConn) WantBytes(p []byte) error {
	return wantBytes("the backend", c.c, c.r, p, c.Patience)
}

func wantBytes(where string, nc net.Conn, r io.Reader, p []byte, patience time.Duration) error {
	want := fmt.Sprintf("%d octets %s at %s", len(p), show(p), where)
	got := make([]byte, len(p))
	nc.SetReadDeadline(time.Now().Add(patience))
	n, err := io.ReadFull(r, got)
	if err != nil {
		return mismatch(want, "%d octets %s, then %v", n, show(got[:n]), err)
	}
	if !bytes.Equal(got, p) {
		return mismatch(want, "%s", show(got))
	}
	return nil
}

// WantFIN waits for an orderly end and that no octet is left before it.
func (c *BackendConn) WantFIN() error { return wantFIN("the backend", c.c, c.r, c.Patience) }

func wantFIN(where string, nc net.Conn, r io.Reader, patience time.Duration) error {
	n, p, err := readOn(nc, r, patience)
	switch {
	case n > 0:
		return mismatch("FIN at "+where, "%d more octets %s", n, show(p))
	case err == io.EOF:
		return nil
	}
	return mismatch("FIN at "+where, "%v", err)
}

// WantRST waits for a TCP RST; octets before it are dropped.
func (c *BackendConn) WantRST() error { return wantRST("the backend", c.c, c.r, c.Patience) }

func wantRST(where string, nc net.Conn, r io.Reader, patience time.Duration) error {
	for {
		n, _, err := readOn(nc, r, patience)
		switch {
		case n > 0:
		case isReset(err):
			return nil
		default:
			return mismatch("RST at "+where, "%v", err)
		}
	}
}

// WantFINThenRST waits for an orderly end that a reset follows. The kernel
// tells readers of the FIN only; the reset shows as the socket's error.
func (c *BackendConn) WantFINThenRST() error {
	if err := c.WantFIN(); err != nil {
		return err
	}
	raw, err := tcpOf(c.c).SyscallConn()
	if err != nil {
		return err
	}
	for end := time.Now().Add(c.Patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		code := 0
		err := raw.Control(func(fd uintptr) { code, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR) })
		if err != nil {
			return err
		}
		if e := syscall.Errno(code); e == syscall.EPIPE || e == syscall.ECONNRESET {
			return nil
		}
	}
	return mismatch("FIN, then RST at the backend", "FIN alone")
}

// WantEnded waits for the end of the connection, FIN or RST.
func (c *BackendConn) WantEnded() error {
	for {
		n, _, err := readOn(c.c, c.r, c.Patience)
		if n == 0 {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return mismatch("the end of the backend's connection", "none in %v", c.Patience)
			}
			return nil
		}
	}
}

func readOn(nc net.Conn, r io.Reader, patience time.Duration) (int, []byte, error) {
	p := make([]byte, 4096)
	nc.SetReadDeadline(time.Now().Add(patience))
	n, err := r.Read(p)
	return n, p[:n], err
}

// CloseWrite sends FIN, after close_notify on TLS.
func (c *BackendConn) CloseWrite() error {
	c.note("->", "FIN")
	if t, ok := c.c.(*tls.Conn); ok {
		if err := t.CloseWrite(); err != nil {
			return err
		}
	}
	if t := tcpOf(c.c); t != nil {
		return t.CloseWrite()
	}
	return errors.New("no TCP connection")
}

// Close closes the connection.
func (c *BackendConn) Close() {
	c.note("->", "close")
	c.c.Close()
}

// Reset closes it with a TCP RST.
func (c *BackendConn) Reset() {
	c.note("->", "RST")
	cut(c.c)
}
