package rawpeer

import (
	"bufio"
	"bytes"
	"crypto/tls"
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
	first   http2.FrameType // of the first frame, once there is one
	frames  int             // read so far
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
	c.note("->", "preface, SETTINGS %v", settings)
	if _, err := io.WriteString(c.nc, http2.ClientPreface); err != nil {
		return err
	}
	err := c.fr.WriteSettings(settings...)
	c.greeted = true
	for _, f := range c.waiting {
		err = errors.Join(err, f(c.fr))
	}
	c.waiting = nil
	return err
}

// Close drops the connection with a FIN.
func (c *H2) Close() {
	c.note("->", "close")
	c.nc.Close()
}

// Cut drops the connection with a TCP RST.
func (c *H2) Cut() {
	c.note("->", "RST")
	cut(c.nc)
}

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
		c.event(func() {
			if c.frames++; c.frames == 1 {
				c.first = f.Header().Type
			}
		})
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
	c.note("<-", "HEADERS stream=%d end=%v %s", id, end, f.brief())
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
		c.note("<-", "DATA stream=%d end=%v %d octets %s", f.StreamID, f.StreamEnded(), len(p), show(p))
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
