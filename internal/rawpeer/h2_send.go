package rawpeer

import (
	"crypto/tls"
	"encoding/hex"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func (c *H2) write(f func(*http2.Framer) error) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return f(c.fr)
}

// answer writes what the reader owes the server, after the preface.
func (c *H2) answer(f func(*http2.Framer) error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.greeted {
		c.waiting = append(c.waiting, f)
		return
	}
	_ = f(c.fr) // the reader sees a dead connection by itself
}

// Frame writes a frame of any type, flags and payload.
func (c *H2) Frame(t http2.FrameType, flags http2.Flags, id uint32, payload []byte) error {
	c.note("->", "%v flags=%#x stream=%d %d octets", t, flags, id, len(payload))
	return c.write(func(fr *http2.Framer) error { return fr.WriteRawFrame(t, flags, id, payload) })
}

// Raw writes octets.
func (c *H2) Raw(p []byte) error {
	c.note("->", "raw %s", hex.EncodeToString(p[:min(len(p), 40)]))
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_, err := c.nc.Write(p)
	return err
}

// NewID takes the next stream id.
func (c *H2) NewID() uint32 {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	id := c.next
	c.next += 2
	return id
}

// Block encodes fields, in order, with the connection's HPACK state.
func (c *H2) Block(f Fields) []byte {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.block(f)
}

func (c *H2) block(f Fields) []byte {
	c.ebuf.Reset()
	for _, x := range f {
		c.enc.WriteField(hpack.HeaderField{Name: x.Name, Value: x.Value})
	}
	return append([]byte(nil), c.ebuf.Bytes()...)
}

// Headers opens a stream with exactly these fields, pseudo-fields included.
func (c *H2) Headers(f Fields, end bool) uint32 {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	id := c.next
	c.next += 2
	c.headers(id, f, end)
	return id
}

// HeadersOn sends a further header section on a stream.
func (c *H2) HeadersOn(id uint32, f Fields, end bool) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.headers(id, f, end)
}

func (c *H2) headers(id uint32, f Fields, end bool) {
	c.note("->", "HEADERS stream=%d end=%v %s", id, end, f.brief())
	b := c.block(f)
	first := b[:min(len(b), 16384)]
	rest := b[len(first):]
	_ = c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0})
	for len(rest) > 0 {
		n := min(len(rest), 16384)
		_ = c.fr.WriteContinuation(id, n == len(rest), rest[:n])
		rest = rest[n:]
	}
}

// ConnectFields are the fields of a right extended CONNECT (RFC 8441 section 4).
func ConnectFields(scheme, authority, path string, more ...Field) Fields {
	f := F(":method", "CONNECT", ":protocol", "websocket", ":scheme", scheme, ":path", path, ":authority", authority,
		"sec-websocket-version", "13")
	return append(f, more...)
}

// Connect opens a tunnel's stream.
func (c *H2) Connect(path string, more ...Field) uint32 {
	return c.Headers(ConnectFields(c.Scheme(), "localhost", path, more...), false)
}

// Scheme is https over TLS, http in cleartext.
func (c *H2) Scheme() string {
	if _, ok := c.nc.(*tls.Conn); ok {
		return "https"
	}
	return "http"
}

// Get sends an ordinary GET.
func (c *H2) Get(path string, more ...Field) uint32 {
	return c.Headers(append(F(":method", "GET", ":scheme", c.Scheme(), ":path", path, ":authority", "localhost"), more...), true)
}

// Data sends one DATA frame without a look at windows.
func (c *H2) Data(id uint32, p []byte, end bool) error {
	c.note("->", "DATA stream=%d end=%v %d octets %s", id, end, len(p), show(p))
	return c.write(func(fr *http2.Framer) error { return fr.WriteData(id, end, p) })
}

// Send sends p within the windows, in frames of at most 16 KiB.
func (c *H2) Send(id uint32, p []byte) error {
	for len(p) > 0 {
		n := 0
		err := c.await("room in the windows", func() bool {
			s := c.stream(id)
			n = int(min(int64(len(p)), 16384, c.window, s.window))
			if s.Reset {
				return true
			}
			if n > 0 {
				c.window -= int64(n)
				s.window -= int64(n)
			}
			return n > 0
		})
		if err != nil {
			return err
		}
		if n <= 0 {
			return mismatch("room in the windows", "RST_STREAM")
		}
		if err := c.Data(id, p[:n], false); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// Windows returns the room for sending on a stream and on the connection.
func (c *H2) Windows(id uint32) (stream, conn int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream(id).window, c.window
}

// End sends END_STREAM in an empty DATA frame.
func (c *H2) End(id uint32) error { return c.Data(id, nil, true) }

// Reset sends RST_STREAM.
func (c *H2) Reset(id uint32, code http2.ErrCode) error {
	c.note("->", "RST_STREAM stream=%d %v", id, code)
	return c.write(func(fr *http2.Framer) error { return fr.WriteRSTStream(id, code) })
}

// WindowUpdate sends WINDOW_UPDATE; a zero increment is sent as it is.
func (c *H2) WindowUpdate(id, n uint32) error {
	return c.Frame(http2.FrameWindowUpdate, 0, id, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// WantFirst waits for the first frame of the server and returns its type.
func (c *H2) WantFirst() (t http2.FrameType, err error) {
	err = c.await("a first frame", func() bool { t = c.first; return c.frames > 0 })
	return t, err
}

// Settings returns all settings that the server sent, in the order they came.
func (c *H2) Settings() []http2.Setting {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]http2.Setting(nil), c.seen...)
}

// Setting returns the server's value of a setting and whether it sent one.
func (c *H2) Setting(id http2.SettingID) (uint32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.setting[id]
	return v, ok
}
