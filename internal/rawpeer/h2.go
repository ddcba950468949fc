package rawpeer

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// H2 is a raw HTTP/2 client. Frames that it reads are kept until wanted.
type H2 struct {
	journal
	// Patience bounds each want.
	Patience time.Duration
	// NoCredit stops the WINDOW_UPDATEs that otherwise answer each DATA frame.
	// Set it before DATA arrives.
	NoCredit bool

	nc net.Conn

	wmu     sync.Mutex
	greeted bool                        // the preface is out; before it nothing may go
	waiting []func(*http2.Framer) error // answers that wait for it
	fr      *http2.Framer
	enc     *hpack.Encoder
	ebuf    bytes.Buffer
	next    uint32

	mu      sync.Mutex
	changed chan struct{} // closed and renewed at every event
	streams map[uint32]*H2Stream
	setting map[http2.SettingID]uint32
	seen    []http2.Setting // all settings in the order they came
	acks    int             // of our SETTINGS
	pings   map[[8]byte]bool
	goaways []GoAway
	window  int64 // of the connection, for sending
	err     error // why reading ended
}

// GoAway is a GOAWAY frame that was read.
type GoAway struct {
	Last uint32
	Code http2.ErrCode
}

// H2Stream is what was read of a stream.
type H2Stream struct {
	Heads  []Fields // interim, final, trailers
	Data   []byte   // not yet taken by WantData
	Total  int      // octets of DATA in all
	End    bool
	Reset  bool
	Code   http2.ErrCode
	window int64
}

// DialH2 connects by TLS, or in cleartext with prior knowledge if config is
// nil, sends preface and SETTINGS and waits for the server's SETTINGS.
func DialH2(addr string, config *tls.Config, settings ...http2.Setting) (*H2, error) {
	c, err := DialH2Quiet(addr, config)
	if err != nil {
		return nil, err
	}
	if err := c.Preface(settings...); err != nil {
		c.Close()
		return nil, err
	}
	if err := c.await("SETTINGS of the server", func() bool { return c.seen != nil }); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// DialH2Quiet connects and says nothing.
func DialH2Quiet(addr string, config *tls.Config) (*H2, error) {
	nc, err := dial(addr, config, "h2")
	if err != nil {
		return nil, err
	}
	c := &H2{
		Patience: Patience, nc: nc, next: 1, changed: make(chan struct{}), streams: make(map[uint32]*H2Stream),
		setting: make(map[http2.SettingID]uint32), pings: make(map[[8]byte]bool), window: 65535,
	}
	c.fr = http2.NewFramer(nc, bufio.NewReader(nc))
	c.fr.AllowIllegalWrites = true
	c.fr.AllowIllegalReads = true
	c.fr.SetMaxReadFrameSize(1 << 20)
	c.enc = hpack.NewEncoder(&c.ebuf)
	go c.read()
	return c, nil
}

// Preface sends the client preface and SETTINGS.
func (c *H2) Preface(settings ...http2.Setting) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if _, err := io.WriteString(c.nc, http2.ClientPreface); err != nil {
		return err
	}
	c.note("->", "preface, SETTINGS %v", settings)
	err := c.fr.WriteSettings(settings...)
	c.greeted = true
	for _, f := range c.waiting {
		err = errors.Join(err, f(c.fr))
	}
	c.waiting = nil
	return err
}

// Close drops the connection with a FIN.
func (c *H2) Close() { c.nc.Close() }

// Cut drops the connection with a TCP RST.
func (c *H2) Cut() { cut(c.nc) }

// Conn is the connection underneath, for those who write to it themselves.
func (c *H2) Conn() net.Conn { return c.nc }

// read is the reader's goroutine; it ends with the connection.
func (c *H2) read() {
	dec := hpack.NewDecoder(4096, nil)
	dec.SetMaxStringLength(1 << 20)
	var block []byte
	var blockID uint32
	var blockEnd bool
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			c.event(func() { c.err = err })
			c.note("<-", "end of connection: %v", err)
			return
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			block, blockID, blockEnd = append([]byte(nil), f.HeaderBlockFragment()...), f.StreamID, f.StreamEnded()
			if f.HeadersEnded() {
				c.head(dec, blockID, block, blockEnd)
			}
		case *http2.ContinuationFrame:
			block = append(block, f.HeaderBlockFragment()...)
			if f.HeadersEnded() {
				c.head(dec, blockID, block, blockEnd)
			}
		default:
			c.frame(f)
		}
	}
}

func (c *H2) head(dec *hpack.Decoder, id uint32, block []byte, end bool) {
	list, err := dec.DecodeFull(block)
	if err != nil {
		c.note("<-", "HEADERS stream=%d with a broken block: %v", id, err)
		c.event(func() { c.err = err })
		return
	}
	var f Fields
	for _, h := range list {
		f = append(f, Field{h.Name, h.Value})
	}
	c.note("<-", "HEADERS stream=%d end=%v %q", id, end, f)
	c.event(func() {
		s := c.stream(id)
		s.Heads = append(s.Heads, f)
		s.End = s.End || end
	})
}

// frame takes any frame but HEADERS and CONTINUATION.
func (c *H2) frame(f http2.Frame) {
	switch f := f.(type) {
	case *http2.DataFrame:
		p := append([]byte(nil), f.Data()...)
		c.note("<-", "DATA stream=%d end=%v %d octets", f.StreamID, f.StreamEnded(), len(p))
		n := uint32(f.Length)
		c.event(func() {
			s := c.stream(f.StreamID)
			s.Data = append(s.Data, p...)
			s.Total += len(p)
			s.End = s.End || f.StreamEnded()
		})
		if !c.NoCredit && n > 0 {
			c.answer(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(0, n) })
			if !f.StreamEnded() {
				c.answer(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(f.StreamID, n) })
			}
		}
	case *http2.SettingsFrame:
		c.settings(f)
	case *http2.RSTStreamFrame:
		c.note("<-", "RST_STREAM stream=%d %v", f.StreamID, f.ErrCode)
		c.event(func() {
			s := c.stream(f.StreamID)
			s.Reset, s.Code = true, f.ErrCode
		})
	case *http2.PingFrame:
		c.note("<-", "PING ack=%v", f.IsAck())
		if f.IsAck() {
			c.event(func() { c.pings[f.Data] = true })
		} else {
			c.answer(func(fr *http2.Framer) error { return fr.WritePing(true, f.Data) })
		}
	case *http2.GoAwayFrame:
		c.note("<-", "GOAWAY last=%d %v %q", f.LastStreamID, f.ErrCode, f.DebugData())
		c.event(func() { c.goaways = append(c.goaways, GoAway{f.LastStreamID, f.ErrCode}) })
	case *http2.WindowUpdateFrame:
		c.note("<-", "WINDOW_UPDATE stream=%d %d", f.StreamID, f.Increment)
		c.event(func() {
			if f.StreamID == 0 {
				c.window += int64(f.Increment)
			} else {
				c.stream(f.StreamID).window += int64(f.Increment)
			}
		})
	default:
		c.note("<-", "%v", f)
	}
}

func (c *H2) settings(f *http2.SettingsFrame) {
	c.note("<-", "%v", f)
	if f.IsAck() {
		c.event(func() { c.acks++ })
		return
	}
	c.event(func() {
		if c.seen == nil {
			c.seen = []http2.Setting{}
		}
		f.ForeachSetting(func(s http2.Setting) error {
			if s.ID == http2.SettingInitialWindowSize {
				old := c.initialWindow()
				for _, st := range c.streams {
					st.window += int64(s.Val) - old
				}
			}
			c.setting[s.ID] = s.Val
			c.seen = append(c.seen, s)
			return nil
		})
	})
	c.answer(func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
}

func (c *H2) initialWindow() int64 {
	if v, ok := c.setting[http2.SettingInitialWindowSize]; ok {
		return int64(v)
	}
	return 65535
}

// stream finds or makes a stream's record; mu is held.
func (c *H2) stream(id uint32) *H2Stream {
	s := c.streams[id]
	if s == nil {
		s = &H2Stream{window: c.initialWindow()}
		c.streams[id] = s
	}
	return s
}

func (c *H2) event(f func()) {
	c.mu.Lock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
}

// await waits until ok, which is called with mu held, is true, or the
// connection has ended, or patience is over.
func (c *H2) await(want string, ok func() bool) error {
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
			return mismatch(want, "end of the connection: %v%s", err, c.lastGoAway())
		}
		select {
		case <-changed:
		case <-timer.C:
			return mismatch(want, "nothing in %v", c.Patience)
		}
	}
}

func (c *H2) lastGoAway() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.goaways); n > 0 {
		return fmt.Sprintf(" after GOAWAY %v", c.goaways[n-1].Code)
	}
	return ""
}

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
	c.note("->", "HEADERS stream=%d end=%v %q", id, end, f)
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
	c.note("->", "DATA stream=%d end=%v %d octets", id, end, len(p))
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

// Setting returns the server's value of a setting and whether it sent one.
func (c *H2) Setting(id http2.SettingID) (uint32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.setting[id]
	return v, ok
}

// WantStatus waits for the final head of a stream and compares its status.
func (c *H2) WantStatus(id uint32, status int) (Fields, error) {
	want := fmt.Sprintf(":status %d on stream %d", status, id)
	var f Fields
	var got string
	err := c.await(want, func() bool {
		s := c.stream(id)
		for _, h := range s.Heads {
			if st := h.Get(":status"); len(st) == 3 && st[0] != '1' || st == "101" {
				f = h
				return true
			}
		}
		if s.Reset {
			got = fmt.Sprintf("RST_STREAM %v", s.Code)
		} else if s.End {
			got = "END_STREAM"
		}
		return got != ""
	})
	switch {
	case err != nil:
		return nil, err
	case f == nil:
		return nil, mismatch(want, "%s", got)
	case f.Get(":status") != fmt.Sprint(status):
		return f, mismatch(want, ":status %s", f.Get(":status"))
	}
	return f, nil
}

// WantData waits for exactly p as the next octets of a stream.
func (c *H2) WantData(id uint32, p []byte) error {
	want := fmt.Sprintf("%d octets %s on stream %d", len(p), show(p), id)
	var got []byte
	end := ""
	err := c.await(want, func() bool {
		s := c.stream(id)
		n := min(len(s.Data), len(p))
		got = s.Data[:n]
		if n == len(p) || !bytes.Equal(got, p[:n]) {
			s.Data = s.Data[n:]
			return true
		}
		if s.Reset {
			end = fmt.Sprintf(" then RST_STREAM %v", s.Code)
		} else if s.End {
			end = " then END_STREAM"
		}
		return end != ""
	})
	if err != nil {
		var m *Mismatch
		if errors.As(err, &m) {
			m.Got += fmt.Sprintf(" after %d octets %s", len(got), show(got))
		}
		return err
	}
	if !bytes.Equal(got, p) {
		return mismatch(want, "%d octets %s%s", len(got), show(got), end)
	}
	return nil
}

func show(p []byte) string {
	if len(p) > 48 {
		return fmt.Sprintf("%q…", p[:48])
	}
	return fmt.Sprintf("%q", p)
}

// WantEnd waits for END_STREAM and that no octet is left before it.
func (c *H2) WantEnd(id uint32) error {
	want := fmt.Sprintf("END_STREAM on stream %d", id)
	got := ""
	err := c.await(want, func() bool {
		s := c.stream(id)
		switch {
		case len(s.Data) > 0:
			got = fmt.Sprintf("%d more octets %s", len(s.Data), show(s.Data))
		case s.End:
			return true
		case s.Reset:
			got = fmt.Sprintf("RST_STREAM %v", s.Code)
		}
		return got != ""
	})
	if err == nil && got != "" {
		return mismatch(want, "%s", got)
	}
	return err
}

// WantReset waits for RST_STREAM with one of the codes, and no END_STREAM before it.
func (c *H2) WantReset(id uint32, codes ...http2.ErrCode) error {
	want := fmt.Sprintf("RST_STREAM %v on stream %d", codes, id)
	var s H2Stream
	err := c.await(want, func() bool { s = *c.stream(id); return s.Reset })
	if err != nil {
		if s.End {
			return mismatch(want, "END_STREAM")
		}
		if len(s.Heads) > 0 {
			return mismatch(want, ":status %s and no reset", s.Heads[len(s.Heads)-1].Get(":status"))
		}
		return err
	}
	for _, code := range codes {
		if s.Code == code {
			return nil
		}
	}
	return mismatch(want, "RST_STREAM %v", s.Code)
}

// WantHeads waits until a stream has n header sections, or is over.
func (c *H2) WantHeads(id uint32, n int) (H2Stream, error) {
	var s H2Stream
	err := c.await(fmt.Sprintf("%d header sections on stream %d", n, id), func() bool {
		s = *c.stream(id)
		return len(s.Heads) >= n || s.End || s.Reset
	})
	return s, err
}

// WantOver waits until a stream is over, one way or the other.
func (c *H2) WantOver(id uint32) (H2Stream, error) {
	var s H2Stream
	err := c.await(fmt.Sprintf("the end of stream %d", id), func() bool {
		s = *c.stream(id)
		return s.End || s.Reset
	})
	return s, err
}

// ErrStreamReset is what Read answers after RST_STREAM.
var ErrStreamReset = errors.New("RST_STREAM")

// Read takes octets of a stream: at least one, io.EOF after END_STREAM,
// ErrStreamReset after RST_STREAM.
func (c *H2) Read(id uint32, p []byte) (n int, err error) {
	fault := c.await(fmt.Sprintf("octets on stream %d", id), func() bool {
		s := c.stream(id)
		switch {
		case len(s.Data) > 0:
			n = copy(p, s.Data)
			s.Data = s.Data[n:]
		case s.End:
			err = io.EOF
		case s.Reset:
			err = ErrStreamReset
		default:
			return false
		}
		return true
	})
	if fault != nil {
		return 0, fault
	}
	return n, err
}

// Stream returns a copy of what was read of a stream so far.
func (c *H2) Stream(id uint32) H2Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.stream(id)
}

// WantMalformed waits for what a malformed request may get: RST_STREAM
// PROTOCOL_ERROR, or a complete 4xx with or without a reset behind it (RFC 9113
// section 8.1.1).
func (c *H2) WantMalformed(id uint32) error {
	want := fmt.Sprintf("stream %d refused as malformed", id)
	got := ""
	ok := false
	err := c.await(want, func() bool {
		s := c.stream(id)
		if len(s.Heads) > 0 {
			st := s.Heads[0].Get(":status")
			if len(st) != 3 || st[0] != '4' {
				got = ":status " + st
				return true
			}
			ok = s.End
			return ok
		}
		if s.Reset {
			ok = s.Code == http2.ErrCodeProtocol
			got = fmt.Sprintf("RST_STREAM %v", s.Code)
		}
		return s.Reset
	})
	if err == nil && !ok {
		return mismatch(want, "%s", got)
	}
	return err
}

// WantGoAway waits for a GOAWAY with one of the codes.
func (c *H2) WantGoAway(codes ...http2.ErrCode) error {
	want := fmt.Sprintf("GOAWAY %v", codes)
	var seen []GoAway
	err := c.await(want, func() bool {
		seen = c.goaways
		for _, g := range seen {
			for _, code := range codes {
				if g.Code == code {
					return true
				}
			}
		}
		return false
	})
	if err != nil && len(seen) > 0 {
		return mismatch(want, "GOAWAY %v", seen)
	}
	return err
}

// GoAways returns the GOAWAY frames so far.
func (c *H2) GoAways() []GoAway {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]GoAway(nil), c.goaways...)
}

// WantClosed waits for the end of the connection.
func (c *H2) WantClosed() error {
	err := c.await("end of the connection", func() bool { return c.err != nil })
	return err
}

// Ping sends PING and waits for its answer: all that the server had to say
// before it has then been read.
func (c *H2) Ping() error {
	c.wmu.Lock()
	var data [8]byte
	copy(data[:], fmt.Sprintf("%08x", time.Now().UnixNano()&0xffffffff))
	err := c.fr.WritePing(false, data)
	c.wmu.Unlock()
	if err != nil {
		return err
	}
	return c.await("PING answered", func() bool { return c.pings[data] })
}

// WantAlive checks that the connection still works: PING is answered and no
// GOAWAY came.
func (c *H2) WantAlive() error {
	if err := c.Ping(); err != nil {
		return err
	}
	if g := c.GoAways(); len(g) > 0 {
		return mismatch("a living connection", "GOAWAY %v", g[0].Code)
	}
	return nil
}

// WantAcks waits until the server acknowledged n SETTINGS frames.
func (c *H2) WantAcks(n int) error {
	return c.await(fmt.Sprintf("%d SETTINGS acknowledgements", n), func() bool { return c.acks >= n })
}
