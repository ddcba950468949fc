package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	maxFrame     = 16384
	streamWindow = 1 << 20  // for receiving, of a stream
	connWindow   = 64 << 20 // of the connection
)

// h2 is a session of HTTP/2: tunnels by extended CONNECT (RFC 8441) on streams.
type h2 struct {
	*link
	connect, request []hpack.HeaderField
	enc              *hpack.Encoder
	dec              *hpack.Decoder
	block            bytes.Buffer
	status           string // of the header block that is being decoded
	partial          []byte // fragments of a header block, until END_HEADERS
	partialEnd       bool   // its HEADERS had END_STREAM

	next    uint32
	streams map[uint32]*tunnel
	waiting []*tunnel // for the connection's window
	window  int       // for sending, of the connection
	credit  int       // received, not yet given back
	initial int       // the peer's SETTINGS_INITIAL_WINDOW_SIZE
	limit   uint32    // the peer's SETTINGS_MAX_CONCURRENT_STREAMS
	extends bool      // the peer's SETTINGS_ENABLE_CONNECT_PROTOCOL
	settled bool      // its SETTINGS have come
}

// newH2 sends preface and SETTINGS and waits for the peer's: extended CONNECT
// may be sent only after they allowed it (RFC 8441 section 3).
func newH2(l *link, target *Target) (*h2, error) {
	s := &h2{link: l, next: 1, streams: make(map[uint32]*tunnel), window: 65535, initial: 65535, limit: 1<<32 - 1}
	s.wire = s
	s.enc = hpack.NewEncoder(&s.block)
	s.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			s.status = f.Value
		}
	})
	common := []hpack.HeaderField{
		{Name: ":scheme", Value: target.scheme()}, {Name: ":path", Value: target.Path}, {Name: ":authority", Value: target.authority()},
	}
	s.request = append([]hpack.HeaderField{{Name: ":method", Value: "GET"}}, common...)
	s.connect = append([]hpack.HeaderField{{Name: ":method", Value: "CONNECT"}, {Name: ":protocol", Value: "websocket"}}, common...)
	for _, f := range handshakeFields(target) {
		s.connect = append(s.connect, hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	s.out = append(s.out, http2.ClientPreface...)
	s.head(6, http2.FrameSettings, 0, 0)
	s.out = binary.BigEndian.AppendUint16(s.out, uint16(http2.SettingInitialWindowSize))
	s.out = binary.BigEndian.AppendUint32(s.out, streamWindow)
	s.windowUpdate(0, connWindow-65535)
	buf := make([]byte, 16<<10)
	var rest []byte
	for !s.settled {
		_, err := s.nc.Write(s.out)
		s.out = s.out[:0]
		if err != nil {
			return nil, err
		}
		n, err := s.nc.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("no SETTINGS from %s: %w", target.Addr, err)
		}
		left, err := s.feed(append(rest, buf[:n]...))
		if err != nil {
			return nil, err
		}
		rest = append([]byte(nil), left...)
	}
	s.pending = rest
	return s, nil
}

func (s *h2) head(n int, t http2.FrameType, flags http2.Flags, id uint32) {
	s.out = append(s.out, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	s.out = binary.BigEndian.AppendUint32(s.out, id)
}

func (s *h2) windowUpdate(id uint32, n int) {
	s.head(4, http2.FrameWindowUpdate, 0, id)
	s.out = binary.BigEndian.AppendUint32(s.out, uint32(n))
}

func (s *h2) open(t *tunnel) {
	if !s.extends {
		s.begun(t)
		t.ended(fmt.Errorf("%w: the peer does not announce SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 section 3)", errRefused))
		return
	}
	s.ask(t, s.connect, http2.FlagHeadersEndHeaders)
}

func (s *h2) get(t *tunnel) {
	s.ask(t, s.request, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream)
}

// begun gives t its stream.
func (s *h2) begun(t *tunnel) {
	t.s, t.id, t.window = s, s.next, s.initial
	s.next += 2
}

func (s *h2) ask(t *tunnel, fields []hpack.HeaderField, flags http2.Flags) {
	if uint32(len(s.streams)) >= s.limit { // RFC 9113 section 5.1.2
		s.begun(t)
		t.ended(fmt.Errorf("%w: the peer takes no more than %d streams on a connection", errRefused, s.limit))
		return
	}
	s.begun(t)
	s.streams[t.id] = t
	s.block.Reset()
	for _, f := range fields {
		_ = s.enc.WriteField(f) // to a buffer
	}
	s.head(s.block.Len(), http2.FrameHeaders, flags, t.id)
	s.out = append(s.out, s.block.Bytes()...)
}

// send sends p as far as the windows go (RFC 9113 section 5.2); the rest waits.
func (s *h2) send(t *tunnel, p []byte) {
	if t.stage == over {
		return
	}
	if len(t.rest) == 0 {
		p = p[s.data(t, p):]
		if len(p) > 0 {
			s.waiting = append(s.waiting, t)
		}
	}
	t.rest = append(t.rest, p...)
}

// data sends what of p the windows take.
func (s *h2) data(t *tunnel, p []byte) int {
	sent := 0
	for len(p) > sent {
		n := min(len(p)-sent, maxFrame, t.window, s.window)
		if n <= 0 {
			break
		}
		s.head(n, http2.FrameData, 0, t.id)
		s.out = append(s.out, p[sent:sent+n]...)
		sent += n
		t.window -= n
		s.window -= n
	}
	return sent
}

// pump sends what waited for windows.
func (s *h2) pump() {
	keep := s.waiting[:0]
	for _, t := range s.waiting {
		if t.stage != over {
			n := s.data(t, t.rest)
			t.rest = append(t.rest[:0], t.rest[n:]...)
		}
		if len(t.rest) > 0 {
			keep = append(keep, t)
		}
	}
	s.waiting = keep
}

func (s *h2) finish(t *tunnel) { s.head(0, http2.FrameData, http2.FlagDataEndStream, t.id) }

// reset tells the peer that a stream is over for us.
func (s *h2) reset(t *tunnel, err error) {
	s.head(4, http2.FrameRSTStream, 0, t.id)
	s.out = binary.BigEndian.AppendUint32(s.out, uint32(http2.ErrCodeCancel))
	s.gone(t, err)
}

// gone is the end of a stream.
func (s *h2) gone(t *tunnel, err error) {
	delete(s.streams, t.id)
	t.ended(err)
}

func (s *h2) lost(err error) {
	for _, t := range s.streams {
		t.ended(err)
	}
	clear(s.streams)
}

func (s *h2) feed(p []byte) ([]byte, error) {
	for len(p) >= 9 {
		n := int(p[0])<<16 | int(p[1])<<8 | int(p[2])
		if n > maxFrame {
			return nil, fmt.Errorf("got a frame of %d octets, more than SETTINGS_MAX_FRAME_SIZE", n)
		}
		if len(p) < 9+n {
			break
		}
		if err := s.frame(http2.FrameType(p[3]), http2.Flags(p[4]), binary.BigEndian.Uint32(p[5:])&^(1<<31), p[9:9+n]); err != nil {
			return nil, err
		}
		p = p[9+n:]
	}
	return p, nil
}

// shortest are the least lengths of frames that frame looks into.
var shortest = map[http2.FrameType]int{
	http2.FrameRSTStream: 4, http2.FramePing: 8, http2.FrameGoAway: 8, http2.FrameWindowUpdate: 4,
}

func (s *h2) frame(ft http2.FrameType, flags http2.Flags, id uint32, p []byte) error {
	if len(p) < shortest[ft] {
		return fmt.Errorf("got a %v frame of %d octets", ft, len(p))
	}
	switch ft {
	case http2.FrameData:
		return s.received(flags, id, p)
	case http2.FrameHeaders:
		return s.headers(flags, id, p)
	case http2.FrameContinuation:
		s.partial = append(s.partial, p...)
		if flags&http2.FlagContinuationEndHeaders != 0 {
			return s.answer(id, s.partial, s.partialEnd)
		}
	case http2.FrameRSTStream:
		if t := s.streams[id]; t != nil {
			s.gone(t, fmt.Errorf("RST_STREAM %v", http2.ErrCode(binary.BigEndian.Uint32(p))))
		}
	case http2.FrameSettings:
		s.settings(flags, p)
	case http2.FramePing:
		if flags&http2.FlagPingAck == 0 {
			s.head(8, http2.FramePing, http2.FlagPingAck, 0)
			s.out = append(s.out, p[:8]...)
		}
	case http2.FrameGoAway:
		if code := http2.ErrCode(binary.BigEndian.Uint32(p[4:])); code != http2.ErrCodeNo {
			return fmt.Errorf("GOAWAY %v %q", code, p[8:])
		}
		s.limit = 0 // its streams go on; new ones do not
	case http2.FrameWindowUpdate:
		n := int(binary.BigEndian.Uint32(p) &^ (1 << 31))
		if id == 0 {
			s.window += n
		} else if t := s.streams[id]; t != nil {
			t.window += n
		}
		s.pump()
	}
	return nil
}

func (s *h2) settings(flags http2.Flags, p []byte) {
	if flags&http2.FlagSettingsAck != 0 {
		return
	}
	for ; len(p) >= 6; p = p[6:] {
		v := binary.BigEndian.Uint32(p[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(p)) {
		case http2.SettingInitialWindowSize: // RFC 9113 section 6.9.2
			for _, t := range s.streams {
				t.window += int(v) - s.initial
			}
			s.initial = int(v)
		case http2.SettingMaxConcurrentStreams:
			s.limit = v
		case http2.SettingEnableConnectProtocol:
			s.extends = v == 1
		case http2.SettingHeaderTableSize:
			s.enc.SetMaxDynamicTableSizeLimit(v)
		}
	}
	s.head(0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	s.settled = true
	s.pump()
}

// unpad takes padding and priority away (RFC 9113 sections 6.1 and 6.2).
func unpad(flags http2.Flags, p []byte, priority bool) ([]byte, error) {
	pad := 0
	if flags&http2.FlagDataPadded != 0 {
		if len(p) == 0 {
			return nil, errors.New("got a padded frame without a Pad Length")
		}
		pad, p = int(p[0]), p[1:]
	}
	if priority && flags&http2.FlagHeadersPriority != 0 {
		if len(p) < 5 {
			return nil, errors.New("got a HEADERS frame with half a priority")
		}
		p = p[5:]
	}
	if pad > len(p) {
		return nil, errors.New("got a frame with more padding than there is")
	}
	return p[:len(p)-pad], nil
}

func (s *h2) headers(flags http2.Flags, id uint32, p []byte) error {
	p, err := unpad(flags, p, true)
	if err != nil {
		return err
	}
	end := flags&http2.FlagHeadersEndStream != 0
	if flags&http2.FlagHeadersEndHeaders == 0 {
		s.partial, s.partialEnd = append(s.partial[:0], p...), end
		return nil
	}
	return s.answer(id, p, end)
}

// answer is a whole header block.
func (s *h2) answer(id uint32, block []byte, end bool) error {
	s.status = ""
	if _, err := s.dec.Write(block); err != nil {
		return fmt.Errorf("header block: %w", err)
	}
	if err := s.dec.Close(); err != nil {
		return fmt.Errorf("header block: %w", err)
	}
	t := s.streams[id]
	switch {
	case t == nil:
	case t.stage == opened: // trailers
		if end {
			s.gone(t, nil)
		}
	case len(s.status) == 3 && s.status[0] == '1': // interim (RFC 9110 section 15.2)
	case s.status != "200" || end && !t.plain:
		s.refused(t, end)
	default:
		t.answered()
		if end {
			s.gone(t, nil)
		}
	}
	return nil
}

func (s *h2) refused(t *tunnel, end bool) {
	err := fmt.Errorf("%w: the answer's status is %q", errRefused, s.status)
	if end {
		s.gone(t, err)
	} else {
		s.reset(t, err)
	}
}

// received is DATA: it counts for flow control as a whole (RFC 9113 section 6.9.1).
func (s *h2) received(flags http2.Flags, id uint32, p []byte) error {
	size := len(p)
	if s.credit += size; s.credit >= connWindow/4 {
		s.windowUpdate(0, s.credit)
		s.credit = 0
	}
	t := s.streams[id]
	if t == nil {
		return nil
	}
	p, err := unpad(flags, p, false)
	if err != nil {
		return err
	}
	end := flags&http2.FlagDataEndStream != 0
	if t.credit += size; t.credit >= streamWindow/2 && !end {
		s.windowUpdate(id, t.credit)
		t.credit = 0
	}
	if len(p) > 0 {
		if err := t.octets(p); err != nil {
			s.reset(t, err)
			return nil
		}
	}
	if end && s.streams[id] == t {
		s.gone(t, nil)
	}
	return nil
}
