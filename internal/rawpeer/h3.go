package rawpeer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// H3Code is an error code of HTTP/3 or QPACK (RFC 9114 section 8.1, RFC 9204 section 6).
type H3Code uint64

func (c H3Code) String() string { return fmt.Sprintf("0x%x", uint64(c)) }

// H3 is a raw HTTP/3 client over quic-go. What it reads is kept until wanted.
type H3 struct {
	journal
	// Patience bounds each want.
	Patience time.Duration

	q       *quic.Conn
	control *quic.SendStream

	mu       sync.Mutex
	changed  chan struct{} // closed and renewed at every event
	streams  map[int64]*H3Stream
	seen     bool // SETTINGS came
	first    uint64
	settings map[uint64]uint64
	goaways  []uint64
	unis     []uint64 // types of the server's unidirectional streams
	err      error    // why the connection ended
}

// H3Setting is one parameter of SETTINGS.
type H3Setting struct{ ID, Value uint64 }

// H3Stream is what was read of a request stream.
type H3Stream struct {
	Heads   []Fields // interim, final, trailers
	Data    []byte   // not yet taken by WantData
	Total   int      // octets of DATA in all
	End     bool
	Reset   bool
	Code    H3Code // of RESET_STREAM
	Stopped bool   // STOP_SENDING came
	StopFor H3Code
	Hold    bool // nothing more is read

	str *quic.Stream
}

// Final is the first head that is not interim, nil if there is none.
func (s *H3Stream) Final() Fields {
	for _, f := range s.Heads {
		if status := f.Get(":status"); len(status) == 3 && status[0] != '1' {
			return f
		}
	}
	return nil
}

// QUIC is the configuration of all clients; a test may change a copy of it.
func QUIC() *quic.Config {
	return &quic.Config{HandshakeIdleTimeout: Patience, MaxIdleTimeout: 30 * time.Second, KeepAlivePeriod: 10 * time.Second}
}

// DialH3 connects, sends SETTINGS and waits for the server's.
func DialH3(addr string, config *tls.Config, settings ...H3Setting) (*H3, error) {
	c, err := DialH3Quiet(addr, config)
	if err != nil {
		return nil, err
	}
	err = c.Greet(settings...)
	if err == nil {
		err = c.await("SETTINGS of the server", func() bool { return c.seen })
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// DialH3Quiet connects and says nothing.
func DialH3Quiet(addr string, config *tls.Config) (*H3, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	q, err := quic.DialAddr(ctx, addr, h3TLS(config), QUIC())
	if err != nil {
		return nil, err
	}
	return NewH3(q), nil
}

func h3TLS(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.NextProtos = []string{"h3"}
	return config
}

// DialH3From is DialH3Quiet on a socket of the caller's, for those who want to see
// or change what goes over it.
func DialH3From(pc net.PacketConn, addr string, config *tls.Config, conf *quic.Config) (*H3, error) {
	return dialH3(quic.Dial, pc, addr, config, conf)
}

// DialH3Early is DialH3From for a client that has a ticket of the server in the
// session cache of config: it returns before the handshake, and what is sent until
// then is 0-RTT. With no ticket it returns after it.
func DialH3Early(pc net.PacketConn, addr string, config *tls.Config, conf *quic.Config) (*H3, error) {
	return dialH3(quic.DialEarly, pc, addr, config, conf)
}

func dialH3(dial func(context.Context, net.PacketConn, net.Addr, *tls.Config, *quic.Config) (*quic.Conn, error),
	pc net.PacketConn, addr string, config *tls.Config, conf *quic.Config,
) (*H3, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	q, err := dial(ctx, pc, to, h3TLS(config), conf)
	if err != nil {
		return nil, err
	}
	return NewH3(q), nil
}

// NewH3 speaks on a QUIC connection.
func NewH3(q *quic.Conn) *H3 {
	c := &H3{Patience: Patience, q: q, changed: make(chan struct{}), streams: make(map[int64]*H3Stream)}
	go c.accept()
	context.AfterFunc(q.Context(), func() {
		err := context.Cause(q.Context())
		c.note("<-", "end of the connection: %v", err)
		c.event(func() { c.err = err })
	})
	return c
}

// Conn is the QUIC connection underneath.
func (c *H3) Conn() *quic.Conn { return c.q }

// Greet opens the control stream with SETTINGS.
func (c *H3) Greet(settings ...H3Setting) error {
	var p []byte
	for _, s := range settings {
		p = quicvarint.Append(quicvarint.Append(p, s.ID), s.Value)
	}
	str, err := c.OpenUni(0x00, H3Frame(0x04, p))
	c.control = str
	return err
}

// OpenUni opens a unidirectional stream of a type and writes p to it.
func (c *H3) OpenUni(kind uint64, p []byte) (*quic.SendStream, error) {
	str, err := c.q.OpenUniStream()
	if err != nil {
		return nil, err
	}
	c.note("->", "stream %d of type 0x%x: %q", str.StreamID(), kind, brief(p))
	_, err = str.Write(append(quicvarint.Append(nil, kind), p...))
	return str, err
}

func brief(p []byte) []byte { return p[:min(len(p), 64)] }

// Control writes a frame on the control stream.
func (c *H3) Control(kind uint64, payload []byte) error {
	c.note("->", "frame 0x%x on the control stream: %q", kind, brief(payload))
	_, err := c.control.Write(H3Frame(kind, payload))
	return err
}

// ControlStream is that of this client, after Greet.
func (c *H3) ControlStream() *quic.SendStream { return c.control }

// H3Frame is a frame.
func H3Frame(kind uint64, payload []byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload))), payload...)
}

// H3Varint is an integer of QUIC.
func H3Varint(v uint64) []byte { return quicvarint.Append(nil, v) }

// Section encodes a field section.
func Section(f Fields) []byte {
	var b bytes.Buffer
	e := qpack.NewEncoder(&b)
	for _, x := range f {
		_ = e.WriteField(qpack.HeaderField{Name: x.Name, Value: x.Value}) // into memory
	}
	if len(f) == 0 {
		return []byte{0, 0}
	}
	return b.Bytes()
}

// Open opens a request stream, -1 if the server allows none.
func (c *H3) Open() int64 {
	ctx, cancel := context.WithTimeout(context.Background(), c.Patience)
	defer cancel()
	str, err := c.q.OpenStreamSync(ctx)
	if err != nil {
		c.note("->", "no stream: %v", err)
		return -1
	}
	id := int64(str.StreamID())
	s := &H3Stream{str: str}
	c.mu.Lock()
	c.streams[id] = s
	c.mu.Unlock()
	go c.read(id, s)
	context.AfterFunc(str.Context(), func() {
		var e *quic.StreamError
		if errors.As(context.Cause(str.Context()), &e) && e.Remote {
			c.note("<-", "STOP_SENDING %v on stream %d", H3Code(e.ErrorCode), id)
			c.event(func() { s.Stopped, s.StopFor = true, H3Code(e.ErrorCode) })
		}
	})
	return id
}

// Raw writes octets on a request stream.
func (c *H3) Raw(id int64, p []byte) error {
	s := c.stream(id)
	if s == nil {
		return fmt.Errorf("no stream %d", id)
	}
	c.note("->", "%d octets on stream %d: %q", len(p), id, brief(p))
	s.str.SetWriteDeadline(time.Now().Add(c.Patience))
	_, err := s.str.Write(p)
	return err
}

// Push writes octets on a request stream until a deadline and returns how many QUIC
// took, for windows that never open.
func (c *H3) Push(id int64, p []byte, until time.Time) int {
	s := c.stream(id)
	s.str.SetWriteDeadline(until)
	n, _ := s.str.Write(p) // its error is the deadline, or the end that shows elsewhere
	return n
}

// Frame writes a frame on a request stream.
func (c *H3) Frame(id int64, kind uint64, payload []byte) error {
	return c.Raw(id, H3Frame(kind, payload))
}

// Headers opens a request stream with a field section.
func (c *H3) Headers(f Fields, end bool) int64 {
	id := c.Open()
	c.HeadersOn(id, f, end)
	return id
}

// HeadersOn sends a field section on a stream.
func (c *H3) HeadersOn(id int64, f Fields, end bool) {
	c.note("->", "HEADERS on stream %d: %s", id, f.brief())
	_ = c.Frame(id, 0x01, Section(f)) // a stream that is gone shows when its answer is wanted
	if end {
		c.End(id)
	}
}

// Connect sends an extended CONNECT.
func (c *H3) Connect(path string, more ...Field) int64 {
	return c.Headers(ConnectFields("https", "example.test", path, more...), false)
}

// Get sends a GET.
func (c *H3) Get(path string, more ...Field) int64 {
	f := F(":method", "GET", ":scheme", "https", ":authority", "example.test", ":path", path)
	return c.Headers(append(f, more...), true)
}

// Data sends a DATA frame.
func (c *H3) Data(id int64, p []byte, end bool) error {
	err := c.Frame(id, 0x00, p)
	if end && err == nil {
		err = c.End(id)
	}
	return err
}

// End ends our direction of a stream.
func (c *H3) End(id int64) error {
	c.note("->", "FIN on stream %d", id)
	return c.stream(id).str.Close()
}

// ResetStream sends RESET_STREAM.
func (c *H3) ResetStream(id int64, code H3Code) {
	c.note("->", "RESET_STREAM %v on stream %d", code, id)
	c.stream(id).str.CancelWrite(quic.StreamErrorCode(code))
}

// StopSending sends STOP_SENDING.
func (c *H3) StopSending(id int64, code H3Code) {
	c.note("->", "STOP_SENDING %v on stream %d", code, id)
	c.stream(id).str.CancelRead(quic.StreamErrorCode(code))
}

// Close ends the connection with H3_NO_ERROR.
func (c *H3) Close() { c.CloseWith(0x100) }

// CloseWith ends the connection.
func (c *H3) CloseWith(code H3Code) {
	c.note("->", "CONNECTION_CLOSE %v", code)
	c.q.CloseWithError(quic.ApplicationErrorCode(code), "")
}

func (c *H3) stream(id int64) *H3Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}

func (c *H3) event(f func()) {
	c.mu.Lock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
}

// accept reads the server's unidirectional streams; it ends with the connection.
func (c *H3) accept() {
	for {
		str, err := c.q.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		go c.readUni(str)
	}
}

func (c *H3) readUni(str *quic.ReceiveStream) {
	r := quicvarint.NewReader(str)
	kind, err := quicvarint.Read(r)
	if err != nil {
		return
	}
	c.event(func() { c.unis = append(c.unis, kind) })
	if kind != 0x00 {
		io.Copy(io.Discard, str)
		return
	}
	for first := true; ; first = false {
		t, err := quicvarint.Read(r)
		if err != nil {
			return
		}
		size, err := quicvarint.Read(r)
		if err != nil || size > 1<<20 {
			return
		}
		p := make([]byte, size)
		if _, err := io.ReadFull(r, p); err != nil {
			return
		}
		c.note("<-", "frame 0x%x on the control stream: %q", t, brief(p))
		c.event(func() {
			if first {
				c.first = t
			}
			c.control1(t, p)
		})
	}
}

// control1 keeps what a frame of the control stream says; mu is held.
func (c *H3) control1(t uint64, p []byte) {
	switch t {
	case 0x04:
		c.seen, c.settings = true, make(map[uint64]uint64)
		for len(p) > 0 {
			id, n, err := quicvarint.Parse(p)
			if err != nil {
				return
			}
			v, k, err := quicvarint.Parse(p[n:])
			if err != nil {
				return
			}
			c.settings[id] = v
			p = p[n+k:]
		}
	case 0x07:
		if id, _, err := quicvarint.Parse(p); err == nil {
			c.goaways = append(c.goaways, id)
		}
	}
}

// read reads a request stream to its end.
func (c *H3) read(id int64, s *H3Stream) {
	r := quicvarint.NewReader(s.str)
	for {
		t, err := quicvarint.Read(r)
		var size uint64
		if err == nil {
			size, err = quicvarint.Read(r)
		}
		if err == nil {
			err = c.payload(id, s, r, t, size)
		}
		if err == nil {
			continue
		}
		var e *quic.StreamError
		switch {
		case err == io.EOF:
			c.note("<-", "FIN on stream %d", id)
			c.event(func() { s.End = true })
		case errors.As(err, &e) && e.Remote:
			c.note("<-", "RESET_STREAM %v on stream %d", H3Code(e.ErrorCode), id)
			c.event(func() { s.Reset, s.Code = true, H3Code(e.ErrorCode) })
		}
		return
	}
}

// payload takes a frame's payload in pieces.
func (c *H3) payload(id int64, s *H3Stream, r io.Reader, t, size uint64) error {
	if t != 0x00 {
		p := make([]byte, min(size, 1<<20))
		if _, err := io.ReadFull(r, p); err != nil {
			return err
		}
		if t != 0x01 {
			c.note("<-", "frame 0x%x on stream %d: %q", t, id, brief(p))
			return nil
		}
		var f Fields
		for next := qpack.NewDecoder().Decode(p); ; {
			x, err := next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			f = append(f, Field{Name: x.Name, Value: x.Value})
		}
		c.note("<-", "HEADERS on stream %d: %s", id, f.brief())
		c.event(func() { s.Heads = append(s.Heads, f) })
		return nil
	}
	for size > 0 {
		c.unheld(s)
		p := make([]byte, min(size, 16<<10))
		n, err := r.Read(p)
		size -= uint64(n)
		if n > 0 {
			c.octets(fmt.Sprintf("<- on stream %d", id), p[:n])
			c.event(func() { s.Data, s.Total = append(s.Data, p[:n]...), s.Total+n })
		}
		if err != nil && (err != io.EOF || size > 0) {
			return err
		}
	}
	return nil
}

// HoldStream stops reading DATA of a stream, so that its window closes, or goes on.
func (c *H3) HoldStream(id int64, hold bool) {
	c.event(func() { c.at(id).Hold = hold })
}

// unheld waits while a stream is held and its connection lives.
func (c *H3) unheld(s *H3Stream) {
	for {
		c.mu.Lock()
		held, changed := s.Hold && c.err == nil, c.changed
		c.mu.Unlock()
		if !held {
			return
		}
		<-changed
	}
}

// await waits until ok, which is called with mu held, is true, or the connection
// has ended, or patience is over.
func (c *H3) await(want string, ok func() bool) error {
	timer := time.NewTimer(c.Patience)
	defer timer.Stop()
	for {
		c.mu.Lock()
		done, err, changed := ok(), c.err, c.changed
		c.mu.Unlock()
		switch {
		case done:
			return nil
		case err != nil:
			return mismatch(want, "end of the connection: %v", err)
		}
		select {
		case <-changed:
		case <-timer.C:
			return mismatch(want, "nothing in %v", c.Patience)
		}
	}
}

// Setting is a parameter of the server's SETTINGS.
func (c *H3) Setting(id uint64) (v uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok = c.settings[id]
	return v, ok
}

// GoAways are the ids of the server's GOAWAYs.
func (c *H3) GoAways() []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.goaways)
}
