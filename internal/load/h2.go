package load

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// conn is one HTTP/2 connection of the generator. Its reader goroutine owns
// everything; output gathers in out and leaves once per read.
type conn struct {
	nc      net.Conn
	in      []byte // unread part of the input
	buf     []byte
	out     []byte
	enc     *hpack.Encoder
	block   bytes.Buffer
	next    uint32
	streams map[uint32]*tunnel
	window  int // for sending, of the connection
	credit  int // taken from the connection's window, not yet given back
	initial int
	onOpen  func(*tunnel)
	onFrame func(*tunnel, []byte) // DATA payload
	onEnd   func(*tunnel, bool)   // reset or not
}

// tunnel is one stream.
type tunnel struct {
	c      *conn
	id     uint32
	open   bool
	ended  bool
	window int
	credit int
	got    int // octets of the present echo
}

const bigWindow = 1 << 20

// dialH2 connects and exchanges SETTINGS.
func dialH2(addr string, config *tls.Config) (*conn, error) {
	nc, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	if config != nil {
		tc := tls.Client(nc, config)
		nc.SetDeadline(time.Now().Add(10 * time.Second))
		if err := tc.Handshake(); err != nil {
			nc.Close()
			return nil, err
		}
		nc.SetDeadline(time.Time{})
		if p := tc.ConnectionState().NegotiatedProtocol; p != "h2" {
			nc.Close()
			return nil, fmt.Errorf("server chose %q, not h2", p)
		}
		nc = tc
	}
	c := &conn{nc: nc, next: 1, streams: make(map[uint32]*tunnel), window: 65535, initial: 65535, buf: make([]byte, 16<<10)}
	c.enc = hpack.NewEncoder(&c.block)
	c.out = append(c.out, http2.ClientPreface...)
	c.head(6, http2.FrameSettings, 0, 0)
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(http2.SettingInitialWindowSize))
	c.out = binary.BigEndian.AppendUint32(c.out, bigWindow)
	c.windowUpdate(0, 64<<20)
	return c, c.flush()
}

func (c *conn) head(n int, t http2.FrameType, flags http2.Flags, id uint32) {
	c.out = append(c.out, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	c.out = binary.BigEndian.AppendUint32(c.out, id)
}

func (c *conn) windowUpdate(id uint32, n int) {
	c.head(4, http2.FrameWindowUpdate, 0, id)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(n))
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// connect opens a tunnel.
func (c *conn) connect(scheme, authority, path string) *tunnel {
	t := &tunnel{c: c, id: c.next, window: c.initial}
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

// send writes a message; it fits the windows of closed-loop echo.
func (t *tunnel) send(p []byte) {
	for len(p) > 0 {
		n := min(len(p), 16384)
		t.c.head(n, http2.FrameData, 0, t.id)
		t.c.out = append(t.c.out, p[:n]...)
		p = p[n:]
		t.window -= n
		t.c.window -= n
	}
}

// end sends END_STREAM.
func (t *tunnel) end() {
	t.c.head(0, http2.FrameData, http2.FlagDataEndStream, t.id)
}

// run reads until the connection ends or stop is set and a read times out.
func (c *conn) run(stop *atomic.Bool) error {
	for {
		n, err := c.nc.Read(c.buf)
		if n > 0 {
			c.in = append(c.in, c.buf[:n]...)
			if err := c.frames(); err != nil {
				return err
			}
			if err := c.flush(); err != nil {
				return err
			}
		}
		if err != nil {
			if stop.Load() {
				return nil
			}
			return err
		}
	}
}

func (c *conn) frames() error {
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

func (c *conn) frame(ft http2.FrameType, flags http2.Flags, id uint32, p []byte) error {
	switch ft {
	case http2.FrameData:
		c.data(c.streams[id], flags, p)
	case http2.FrameHeaders:
		if t := c.streams[id]; t != nil && !t.open {
			// A refusal is told from an acceptance by END_STREAM; which status it
			// was does not matter to load.
			t.open = flags&http2.FlagHeadersEndStream == 0 && status200(p)
			if t.open {
				c.onOpen(t)
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

func (c *conn) data(t *tunnel, flags http2.Flags, p []byte) {
	c.credit += len(p)
	if c.credit >= 16<<20 {
		c.windowUpdate(0, c.credit)
		c.credit = 0
	}
	if t == nil {
		return
	}
	t.credit += len(p)
	if t.credit >= bigWindow/2 {
		c.windowUpdate(t.id, t.credit)
		t.credit = 0
	}
	if len(p) > 0 {
		c.onFrame(t, p)
	}
	if flags&http2.FlagDataEndStream != 0 {
		c.ended(t, false)
	}
}

func (c *conn) ended(t *tunnel, reset bool) {
	if !t.ended {
		t.ended = true
		delete(c.streams, t.id)
		c.onEnd(t, reset)
	}
}

// Target is what is loaded.
type Target struct {
	Addr string
	TLS  *tls.Config // nil: cleartext
	PID  int         // of the process whose CPU counts; 0: none
}

func (t *Target) scheme() string {
	if t.TLS == nil {
		return "http"
	}
	return "https"
}

// Result is what a run saw.
type Result struct {
	Opened, Refused, Errors, Messages int64
	Elapsed                           time.Duration
	CPU                               time.Duration // of the target
}

// fleet is the connections of a run.
type fleet struct {
	target *Target
	conns  []*conn
	stop   atomic.Bool
	wg     sync.WaitGroup

	opened, refused, errors, messages atomic.Int64
	firstErr                          atomic.Pointer[error]
}

func (f *fleet) fail(err error) {
	f.errors.Add(1)
	f.firstErr.CompareAndSwap(nil, &err)
}

func (f *fleet) err() error {
	if p := f.firstErr.Load(); p != nil {
		return *p
	}
	return nil
}

// dial opens n connections.
func (f *fleet) dial(n int) error {
	for range n {
		c, err := dialH2(f.target.Addr, f.target.TLS)
		if err != nil {
			return err
		}
		c.onOpen = func(*tunnel) {}
		c.onFrame = func(*tunnel, []byte) {}
		c.onEnd = func(_ *tunnel, reset bool) {}
		f.conns = append(f.conns, c)
	}
	return nil
}

// start runs the readers.
func (f *fleet) start() {
	for _, c := range f.conns {
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			if err := c.flush(); err != nil {
				f.fail(err)
				return
			}
			if err := c.run(&f.stop); err != nil && !f.stop.Load() && !errors.Is(err, io.EOF) {
				f.fail(err)
			}
		}()
	}
}

// end stops the readers and closes the connections.
func (f *fleet) end() {
	f.stop.Store(true)
	for _, c := range f.conns {
		c.nc.SetReadDeadline(time.Now())
	}
	f.wg.Wait()
	for _, c := range f.conns {
		c.nc.Close()
	}
}

// inFlight bounds the handshakes that the generator has under way at once:
// gateways bound theirs, and a real crowd comes one by one.
const inFlight = 500

// openAll opens tunnels on each connection, a bounded number at a time.
func (f *fleet) openAll(tunnels int) {
	width := max(1, inFlight/len(f.conns))
	for _, c := range f.conns {
		left := tunnels
		connect := func() {
			if left > 0 {
				left--
				c.connect(f.target.scheme(), f.target.Addr, "/echo")
			}
		}
		opened, ended := c.onOpen, c.onEnd
		c.onOpen = func(t *tunnel) { opened(t); connect() }
		c.onEnd = func(t *tunnel, reset bool) {
			ended(t, reset)
			if !t.open {
				connect()
			}
		}
		for range min(width, tunnels) {
			connect()
		}
	}
}

// Echo keeps one message of size octets under way in each tunnel, conns
// connections with tunnels each, warms up, and measures for d.
func Echo(t *Target, conns, tunnels, size int, d time.Duration) (Result, error) {
	f := &fleet{target: t}
	defer f.end()
	if err := f.dial(conns); err != nil {
		return Result{}, err
	}
	msg := message(size)
	want := len(appendHead(nil, 0x82, size)) + size
	for _, c := range f.conns {
		c.onOpen = func(t *tunnel) { f.opened.Add(1); t.send(msg) }
		c.onFrame = func(t *tunnel, p []byte) {
			for t.got += len(p); t.got >= want; t.got -= want {
				f.messages.Add(1)
				t.send(msg)
			}
		}
		c.onEnd = func(_ *tunnel, reset bool) { f.refused.Add(1) }
	}
	f.openAll(tunnels)
	f.start()
	total := int64(conns * tunnels)
	if err := f.until(func() bool { return f.opened.Load()+f.refused.Load() >= total && f.messages.Load() > 2*total }); err != nil {
		return Result{Opened: f.opened.Load(), Refused: f.refused.Load()}, err
	}
	return f.measure(d, &f.messages)
}

// until waits, for 20 s at the most.
func (f *fleet) until(ok func() bool) error {
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if err := f.err(); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the target does not answer: %d tunnels open, %d refused, %d messages", f.opened.Load(), f.refused.Load(), f.messages.Load())
		}
	}
	return nil
}

// measure counts for d.
func (f *fleet) measure(d time.Duration, count *atomic.Int64) (Result, error) {
	cpu0, err := CPU(f.target.PID)
	if err != nil {
		return Result{}, err
	}
	n0, t0 := count.Load(), time.Now()
	time.Sleep(d)
	n1, t1 := count.Load(), time.Now()
	cpu1, err := CPU(f.target.PID)
	if err != nil {
		return Result{}, err
	}
	return Result{
		Opened: f.opened.Load(), Refused: f.refused.Load(), Errors: f.errors.Load(),
		Messages: n1 - n0, Elapsed: t1.Sub(t0), CPU: cpu1 - cpu0,
	}, f.err()
}

// Open opens and closes tunnels as fast as answers come, with width of them
// under way on each connection. Result.Messages counts whole lives.
func Open(t *Target, conns, width int, d time.Duration) (Result, error) {
	f := &fleet{target: t}
	defer f.end()
	if err := f.dial(conns); err != nil {
		return Result{}, err
	}
	bye := []byte{0x88, 0x80, 0, 0, 0, 0}
	for _, c := range f.conns {
		c.onOpen = func(t *tunnel) {
			f.opened.Add(1)
			t.send(bye)
			t.end()
		}
		c.onEnd = func(tn *tunnel, reset bool) {
			if reset {
				f.refused.Add(1)
			} else {
				f.messages.Add(1)
			}
			if !f.stop.Load() {
				c.connect(t.scheme(), t.Addr, "/echo")
			}
		}
		for range width {
			c.connect(t.scheme(), t.Addr, "/echo")
		}
	}
	f.start()
	if err := f.until(func() bool { return f.messages.Load() > int64(conns*width*5) }); err != nil {
		return Result{Opened: f.opened.Load(), Refused: f.refused.Load()}, err
	}
	return f.measure(d, &f.messages)
}

// Idle opens tunnels, sends one message on each and returns by how much the
// target's PSS grew per tunnel, in octets.
func Idle(t *Target, conns, tunnels, size int) (float64, error) {
	f := &fleet{target: t}
	defer f.end()
	// Code and buffers that the first tunnel brings into memory are not the
	// cost of one more.
	if _, err := Echo(t, 1, 1, size, 100*time.Millisecond); err != nil {
		return 0, err
	}
	before, err := PSS(t.PID)
	if err != nil {
		return 0, err
	}
	if err := f.dial(conns); err != nil {
		return 0, err
	}
	msg := message(size)
	for _, c := range f.conns {
		c.onOpen = func(t *tunnel) { f.opened.Add(1); t.send(msg) }
		c.onFrame = func(t *tunnel, p []byte) { f.messages.Add(1) }
		c.onEnd = func(_ *tunnel, reset bool) { f.refused.Add(1) }
	}
	f.openAll(tunnels)
	f.start()
	total := int64(conns * tunnels)
	if err := f.until(func() bool { return f.messages.Load() >= total }); err != nil {
		return 0, err
	}
	time.Sleep(3 * time.Second) // what a collector or an allocator gives back soon it may
	after, err := PSS(t.PID)
	return float64(after-before) / float64(total), err
}
