package rawpeer

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Batch is an HTTP/2 client for load: one goroutine reads, acts in the callbacks
// and writes all it gathered once per read. It keeps to the protocol, but not to
// the windows for sending: closed-loop messages fit them. Everything belongs to
// the goroutine that calls Run; before Run, to who dialled.
type Batch struct {
	nc      net.Conn
	in      []byte // unread part of the input
	buf     []byte
	out     []byte
	enc     *hpack.Encoder
	block   bytes.Buffer
	next    uint32
	streams map[uint32]*BatchStream
	window  int // for sending, of the connection
	credit  int // taken from the connection's window, not yet given back
	initial int
	stop    atomic.Bool

	OnOpen func(*BatchStream)         // answered 200
	OnData func(*BatchStream, []byte) // payload of DATA, valid during the call
	OnEnd  func(*BatchStream, bool)   // END_STREAM, or true: refused or reset
}

// BatchStream is one tunnel of a Batch.
type BatchStream struct {
	c      *Batch
	id     uint32
	Open   bool // it was answered 200
	Got    int  // for the owner's use
	ended  bool
	window int
	credit int
}

// batchWindow is the receive window of a BatchStream in octets.
const batchWindow = 1 << 20

// DialBatch connects, by TLS or in cleartext with prior knowledge, and sends
// preface and SETTINGS. The callbacks do nothing until they are set.
func DialBatch(addr string, config *tls.Config) (*Batch, error) {
	nc, err := dial(addr, config, "h2")
	if err != nil {
		return nil, err
	}
	c := &Batch{nc: nc, next: 1, streams: make(map[uint32]*BatchStream), window: 65535, initial: 65535, buf: make([]byte, 16<<10)}
	c.OnOpen, c.OnData, c.OnEnd = func(*BatchStream) {}, func(*BatchStream, []byte) {}, func(*BatchStream, bool) {}
	c.enc = hpack.NewEncoder(&c.block)
	c.out = append(c.out, http2.ClientPreface...)
	c.head(6, http2.FrameSettings, 0, 0)
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(http2.SettingInitialWindowSize))
	c.out = binary.BigEndian.AppendUint32(c.out, batchWindow)
	c.windowUpdate(0, 64<<20)
	return c, c.Flush()
}

func (c *Batch) head(n int, t http2.FrameType, flags http2.Flags, id uint32) {
	c.out = append(c.out, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	c.out = binary.BigEndian.AppendUint32(c.out, id)
}

func (c *Batch) windowUpdate(id uint32, n int) {
	c.head(4, http2.FrameWindowUpdate, 0, id)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(n))
}

// Flush writes what has gathered; Run does it once per read.
func (c *Batch) Flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// Connect opens a BatchStream.
func (c *Batch) Connect(scheme, authority, path string) *BatchStream {
	t := &BatchStream{c: c, id: c.next, window: c.initial}
	c.next += 2
	c.streams[t.id] = t
	c.block.Reset()
	for _, f := range [][2]string{
		{":method", "CONNECT"},
		{":protocol", "websocket"},
		{":scheme", scheme},
		{":path", path},
		{":authority", authority},
		{"sec-websocket-version", "13"},
		{"origin", scheme + "://" + authority},
	} {
		_ = c.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	c.head(c.block.Len(), http2.FrameHeaders, http2.FlagHeadersEndHeaders, t.id)
	c.out = append(c.out, c.block.Bytes()...)
	return t
}

// Send writes a message; it fits the windows of closed-loop echo.
func (t *BatchStream) Send(p []byte) {
	for len(p) > 0 {
		n := min(len(p), 16384)
		t.c.head(n, http2.FrameData, 0, t.id)
		t.c.out = append(t.c.out, p[:n]...)
		p = p[n:]
		t.window -= n
		t.c.window -= n
	}
}

// End sends END_STREAM.
func (t *BatchStream) End() {
	t.c.head(0, http2.FrameData, http2.FlagDataEndStream, t.id)
}

// Run reads until the connection ends, which is nil after Stop.
func (c *Batch) Run() error {
	for {
		n, err := c.nc.Read(c.buf)
		if n > 0 {
			c.in = append(c.in, c.buf[:n]...)
			if err := c.frames(); err != nil {
				return err
			}
			if err := c.Flush(); err != nil {
				return err
			}
		}
		if err != nil {
			if c.stop.Load() {
				return nil
			}
			return err
		}
	}
}

func (c *Batch) frames() error {
	p := c.in
	for len(p) >= 9 {
		n := int(p[0])<<16 | int(p[1])<<8 | int(p[2])
		if len(p) < 9+n {
			break
		}
		if err := c.frame(http2.FrameType(p[3]), http2.Flags(p[4]), binary.BigEndian.Uint32(p[5:])&^(1<<31), p[9:9+n]); err != nil {
			return err
		}
		p = p[9+n:]
	}
	c.in = append(c.in[:0], p...)
	return nil
}

func (c *Batch) frame(ft http2.FrameType, flags http2.Flags, id uint32, p []byte) error {
	switch ft {
	case http2.FrameData:
		c.data(c.streams[id], flags, p)
	case http2.FrameHeaders:
		if t := c.streams[id]; t != nil && !t.Open {
			// A refusal is told from an acceptance by END_STREAM; which status it
			// was does not matter to load.
			t.Open = flags&http2.FlagHeadersEndStream == 0 && status200(p)
			if t.Open {
				c.OnOpen(t)
			} else {
				c.ended(t, true)
			}
		}
	case http2.FrameRSTStream:
		if t := c.streams[id]; t != nil {
			c.ended(t, true)
		}
	case http2.FrameSettings:
		if flags&http2.FlagSettingsAck == 0 {
			for ; len(p) >= 6; p = p[6:] {
				if http2.SettingID(binary.BigEndian.Uint16(p)) == http2.SettingInitialWindowSize {
					c.initial = int(binary.BigEndian.Uint32(p[2:]))
				}
			}
			c.head(0, http2.FrameSettings, http2.FlagSettingsAck, 0)
		}
	case http2.FramePing:
		if flags&http2.FlagPingAck == 0 {
			c.head(8, http2.FramePing, http2.FlagPingAck, 0)
			c.out = append(c.out, p...)
		}
	case http2.FrameGoAway:
		return fmt.Errorf("GOAWAY %v", http2.ErrCode(binary.BigEndian.Uint32(p[4:])))
	case http2.FrameWindowUpdate:
		n := int(binary.BigEndian.Uint32(p))
		if id == 0 {
			c.window += n
		} else if t := c.streams[id]; t != nil {
			t.window += n
		}
	}
	return nil
}

// status200 looks at the first field of a block: :status 200 is indexed field 8.
func status200(p []byte) bool { return len(p) > 0 && (p[0] == 0x88 || p[0]&0xe0 == 0x20) }

func (c *Batch) data(t *BatchStream, flags http2.Flags, p []byte) {
	c.credit += len(p)
	if c.credit >= 16<<20 {
		c.windowUpdate(0, c.credit)
		c.credit = 0
	}
	if t == nil {
		return
	}
	t.credit += len(p)
	if t.credit >= batchWindow/2 {
		c.windowUpdate(t.id, t.credit)
		t.credit = 0
	}
	if len(p) > 0 {
		c.OnData(t, p)
	}
	if flags&http2.FlagDataEndStream != 0 {
		c.ended(t, false)
	}
}

func (c *Batch) ended(t *BatchStream, reset bool) {
	if !t.ended {
		t.ended = true
		delete(c.streams, t.id)
		c.OnEnd(t, reset)
	}
}

// Stop makes Run return. Any goroutine may call it.
func (c *Batch) Stop() {
	c.stop.Store(true)
	_ = c.nc.SetReadDeadline(time.Now())
}

// Close drops the connection.
func (c *Batch) Close() { c.nc.Close() }
