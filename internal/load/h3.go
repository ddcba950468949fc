package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"wsgate/internal/rawpeer"
)

// h3 is a session of HTTP/3: tunnels by extended CONNECT (RFC 9220) on streams of
// quic-go, each with a goroutine that reads it.
type h3 struct {
	*link
	q                *quic.Conn
	pc               net.PacketConn
	connect, request []byte // HEADERS frames
	extends          bool   // the peer's SETTINGS_ENABLE_CONNECT_PROTOCOL
	streams          map[*tunnel]*h3stream
	frame            []byte // scratch
	readers          sync.WaitGroup
}

// h3stream is a request stream. All but the reader belongs to who has the session.
type h3stream struct {
	s       *h3
	t       *tunnel
	str     *quic.Stream // nil until the peer allows it
	rest    []byte       // read, and no whole frame yet
	left    uint64       // of a DATA frame that is not over
	waiting []byte       // what the writing goroutine takes next
	writing bool
	fin     bool // behind what waits
}

// newH3 connects and waits for the peer's SETTINGS: extended CONNECT may be sent
// only after they allowed it (RFC 9220 section 3).
func newH3(d dialer, target *Target, n int) (*h3, error) {
	to, err := net.ResolveUDPAddr("udp", target.Addr)
	if err != nil {
		return nil, err
	}
	var from *net.UDPAddr
	if a, ok := target.source(n).(*net.TCPAddr); ok {
		from = &net.UDPAddr{IP: a.IP}
	}
	pc, err := net.ListenUDP("udp", from)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(d.ctx, dialTime)
	defer cancel()
	config := target.TLS.Clone()
	config.NextProtos = []string{"h3"}
	q, err := quic.Dial(ctx, pc, to, config, &quic.Config{
		MaxIdleTimeout: time.Minute, KeepAlivePeriod: 15 * time.Second, InitialStreamReceiveWindow: streamWindow, InitialConnectionReceiveWindow: connWindow,
	})
	if err != nil {
		pc.Close()
		return nil, fmt.Errorf("QUIC handshake with %s: %w", target.Addr, err)
	}
	s := &h3{link: &link{number: n, clock: d.clock}, q: q, pc: pc, streams: make(map[*tunnel]*h3stream)}
	s.wake = sync.NewCond(&s.mu)
	common := []string{":scheme", "https", ":path", target.Path, ":authority", target.authority()}
	s.request = rawpeer.H3Frame(0x01, rawpeer.Section(rawpeer.F(append([]string{":method", "GET"}, common...)...)))
	connect := append([]string{":method", "CONNECT", ":protocol", "websocket"}, common...)
	for _, f := range handshakeFields(target) {
		connect = append(connect, f[0], f[1])
	}
	s.connect = rawpeer.H3Frame(0x01, rawpeer.Section(rawpeer.F(connect...)))
	if err := s.greet(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("no SETTINGS from %s: %w", target.Addr, err)
	}
	go func() { // what else the peer opens is not for us
		for {
			str, err := q.AcceptUniStream(context.Background())
			if err != nil {
				return
			}
			go io.Copy(io.Discard, str)
		}
	}()
	return s, nil
}

// greet exchanges SETTINGS (RFC 9114 section 7.2.4).
func (s *h3) greet(ctx context.Context) error {
	ctl, err := s.q.OpenUniStream()
	if err != nil {
		return err
	}
	if _, err := ctl.Write(append([]byte{0x00}, rawpeer.H3Frame(0x04, nil)...)); err != nil {
		return err
	}
	for {
		str, err := s.q.AcceptUniStream(ctx)
		if err != nil {
			return err
		}
		str.SetReadDeadline(time.Now().Add(dialTime))
		r := quicvarint.NewReader(str)
		kind, err := quicvarint.Read(r)
		if err != nil {
			return err
		}
		if kind != 0x00 {
			str.SetReadDeadline(time.Time{})
			go io.Copy(io.Discard, str)
			continue
		}
		typ, err := quicvarint.Read(r)
		size, err2 := quicvarint.Read(r)
		if err = errors.Join(err, err2); err != nil || typ != 0x04 || size > 1<<16 {
			return fmt.Errorf("the first frame is 0x%x of %d octets: %w", typ, size, err)
		}
		p := make([]byte, size)
		if _, err := io.ReadFull(r, p); err != nil {
			return err
		}
		for len(p) > 0 {
			id, n, err := quicvarint.Parse(p)
			if err != nil {
				return err
			}
			v, k, err := quicvarint.Parse(p[n:])
			if err != nil {
				return err
			}
			s.extends = s.extends || id == 0x08 && v == 1
			p = p[n+k:]
		}
		str.SetReadDeadline(time.Time{})
		go io.Copy(io.Discard, str)
		return nil
	}
}

func (s *h3) end() error { s.mu.Unlock(); return nil }

func (s *h3) run() error {
	<-s.q.Context().Done()
	s.begin()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return nil
	}
	err := context.Cause(s.q.Context())
	for t := range s.streams {
		t.ended(err)
	}
	clear(s.streams)
	return err
}

func (s *h3) close() {
	s.closed.Store(true)
	s.q.CloseWithError(0x100, "") // H3_NO_ERROR
	s.pc.Close()
	s.readers.Wait()
}

func (s *h3) open(t *tunnel) {
	t.s = s
	if !s.extends {
		t.ended(fmt.Errorf("%w: the peer does not announce SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 9220 section 3)", errRefused))
		return
	}
	s.ask(t, s.connect, false)
}

func (s *h3) get(t *tunnel) {
	t.s = s
	s.ask(t, s.request, true)
}

// ask sends a head on a new stream. If the peer allows none just now a goroutine
// waits for one.
func (s *h3) ask(t *tunnel, head []byte, end bool) {
	st := &h3stream{s: s, t: t}
	s.streams[t] = st
	if str, err := s.q.OpenStream(); err == nil {
		st.opened(str, head, end)
		return
	}
	s.readers.Go(func() {
		str, err := s.q.OpenStreamSync(context.Background())
		if err != nil {
			return // the connection has ended, which run tells
		}
		s.begin()
		defer s.mu.Unlock()
		if !s.closed.Load() {
			st.opened(str, head, end)
		}
	})
}

func (st *h3stream) opened(str *quic.Stream, head []byte, end bool) {
	st.str, st.t.id = str, uint32(str.StreamID())
	st.write(head)
	if end {
		st.close()
	}
	st.s.readers.Go(st.read)
}

func (s *h3) send(t *tunnel, p []byte) {
	st := s.streams[t]
	if st == nil || t.stage == over {
		return
	}
	s.frame = append(quicvarint.Append(quicvarint.Append(s.frame[:0], 0x00), uint64(len(p))), p...)
	st.write(s.frame)
}

func (s *h3) finish(t *tunnel) {
	if st := s.streams[t]; st != nil {
		st.close()
	}
}

// write hands p to QUIC, or to a goroutine that waits for its windows.
func (st *h3stream) write(p []byte) {
	switch {
	case st.writing:
		st.waiting = append(st.waiting, p...)
	case st.str.TryWriteAll(p) == nil:
	default:
		st.writing = true
		st.waiting = append(st.waiting[:0], p...)
		st.s.readers.Go(st.flush)
	}
}

func (st *h3stream) flush() {
	var p []byte
	for {
		st.s.mu.Lock()
		if p, st.waiting = st.waiting, p[:0]; len(p) == 0 {
			if st.writing = false; st.fin {
				st.str.Close()
			}
			st.s.mu.Unlock()
			return
		}
		st.s.mu.Unlock()
		if _, err := st.str.Write(p); err != nil {
			return // the reader tells
		}
	}
}

func (st *h3stream) close() {
	if st.fin = true; !st.writing {
		st.str.Close()
	}
}

// read is the goroutine of a stream. It ends with the stream.
func (st *h3stream) read() {
	s := st.s
	buf := make([]byte, 1<<10)
	for {
		n, err := st.str.Read(buf)
		s.begin()
		if s.closed.Load() || s.streams[st.t] != st {
			s.mu.Unlock()
			return
		}
		if ferr := st.feed(buf[:n]); ferr != nil {
			st.str.CancelRead(0x10c)
			st.str.CancelWrite(0x10c)
			err = ferr
		}
		if err != nil {
			delete(s.streams, st.t)
			switch {
			case s.q.Context().Err() != nil:
				err = context.Cause(s.q.Context())
			case err == io.EOF:
				err = nil
			}
			st.t.ended(err)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if n == len(buf) && n < 32<<10 {
			buf = make([]byte, 4*n)
		}
	}
}

// feed takes octets of the stream.
func (st *h3stream) feed(p []byte) error {
	if len(st.rest) > 0 {
		p = append(st.rest, p...)
		st.rest = nil
	}
	for len(p) > 0 {
		if st.left > 0 {
			n := int(min(st.left, uint64(len(p))))
			st.left -= uint64(n)
			if err := st.t.octets(p[:n]); err != nil {
				return err
			}
			p = p[n:]
			continue
		}
		typ, n, err := quicvarint.Parse(p)
		if err == nil {
			var k int
			if st.left, k, err = quicvarint.Parse(p[n:]); err == nil {
				n += k
			}
		}
		if err != nil || typ != 0x00 && uint64(len(p)-n) < st.left {
			if st.left > 1<<20 {
				return fmt.Errorf("frame 0x%x of %d octets", typ, st.left)
			}
			st.left, st.rest = 0, append([]byte(nil), p...)
			return nil
		}
		if p = p[n:]; typ == 0x00 {
			continue
		}
		section := p[:st.left]
		p, st.left = p[st.left:], 0
		if typ == 0x01 {
			if err := st.head(section); err != nil {
				return err
			}
		}
	}
	return nil
}

// head is a field section.
func (st *h3stream) head(section []byte) error {
	if st.t.stage != asked {
		return nil // trailers
	}
	status := ""
	for next := qpack.NewDecoder().Decode(section); ; {
		f, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("field section: %w", err)
		}
		if f.Name == ":status" {
			status = f.Value
		}
	}
	switch {
	case len(status) == 3 && status[0] == '1': // interim (RFC 9110 section 15.2)
	case status != "200":
		return fmt.Errorf("%w: the answer's status is %q", errRefused, status)
	default:
		st.t.answered()
	}
	return nil
}
