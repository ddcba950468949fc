package conformance

import (
	"fmt"
	"net"
	"strings"
	"time"

	"wsgate/internal/rawpeer"
)

// Codes of HTTP/3 (RFC 9114 section 8.1) and QPACK (RFC 9204 section 6).
const (
	h3NoError             rawpeer.H3Code = 0x100
	h3GeneralError        rawpeer.H3Code = 0x101
	h3StreamCreation      rawpeer.H3Code = 0x103
	h3ClosedCritical      rawpeer.H3Code = 0x104
	h3FrameUnexpected     rawpeer.H3Code = 0x105
	h3FrameError          rawpeer.H3Code = 0x106
	h3ExcessiveLoad       rawpeer.H3Code = 0x107
	h3IDError             rawpeer.H3Code = 0x108
	h3SettingsError       rawpeer.H3Code = 0x109
	h3MissingSettings     rawpeer.H3Code = 0x10a
	h3RequestRejected     rawpeer.H3Code = 0x10b
	h3RequestCancelled    rawpeer.H3Code = 0x10c
	h3RequestIncomplete   rawpeer.H3Code = 0x10d
	h3MessageError        rawpeer.H3Code = 0x10e
	h3ConnectError        rawpeer.H3Code = 0x10f
	qpackDecompression    rawpeer.H3Code = 0x200
	qpackEncoderStream    rawpeer.H3Code = 0x201
	qpackDecoderStream    rawpeer.H3Code = 0x202
	settingConnectOnH3                   = 0x08 // RFC 9220 section 5
	settingH3Datagram                    = 0x33 // RFC 9297 section 5.1
	settingMaxSectionSize                = 0x06 // RFC 9114 section 7.2.4.1
)

// h3Mux is a Mux on HTTP/3.
type h3Mux struct {
	*rawpeer.H3
	e *Env
}

func (m h3Mux) Send(head rawpeer.Fields, end bool) Stream {
	return &h3Stream{m.H3, m.begin(head, end)}
}

// begin opens a request stream.
func (m h3Mux) begin(head rawpeer.Fields, end bool) int64 {
	id := m.Open()
	if id < 0 {
		panic(stop{Fail, "room for a request stream", "the gateway allows none"})
	}
	m.HeadersOn(id, head, end)
	return id
}

// Scheme implements Mux.
func (m h3Mux) Scheme() string { return "https" }

// Cut implements Mux.
func (m h3Mux) Cut() { m.Close() }

// Wait implements Mux.
func (m h3Mux) Wait(d time.Duration) { m.Patience = d }

// WantAlive implements Mux: an ordinary request of the suite's own gets an answer,
// whatever it is.
func (m h3Mux) WantAlive() error {
	id := m.begin(with(m.e.get(m.Scheme()), ":path", m.e.Path(strings.TrimPrefix(fence, "/"))), true)
	if _, err := m.WantAnswer(id); err != nil {
		return err
	}
	if len(m.GoAways()) > 0 {
		return &rawpeer.Mismatch{Want: "a living connection", Got: "GOAWAY"}
	}
	return nil
}

// h3Stream is a stream of it.
type h3Stream struct {
	c  *rawpeer.H3
	id int64
}

// Write implements Tunnel: DATA frames, each within its own patience.
func (s *h3Stream) Write(p []byte) error {
	for {
		n := min(len(p), 16384)
		if err := s.c.Data(s.id, p[:n], false); err != nil {
			return s.refused(err)
		}
		if p = p[n:]; len(p) == 0 {
			return nil
		}
	}
}

// refused says why octets were not taken.
func (s *h3Stream) refused(err error) error {
	got := err.Error()
	if st := s.c.Stream(s.id); st.Stopped {
		got = "STOP_SENDING " + nameH3(st.StopFor)
	}
	return &rawpeer.Mismatch{Want: fmt.Sprintf("octets to be taken on stream %d", s.id), Got: got}
}

func (s *h3Stream) CloseWrite() error             { return s.c.End(s.id) }
func (s *h3Stream) WantBytes(p []byte) error      { return s.c.WantData(s.id, p) }
func (s *h3Stream) WantEnd() error                { return s.c.WantEnd(s.id) }
func (s *h3Stream) Data(p []byte, end bool) error { return s.c.Data(s.id, p, end) }

// Reset implements Tunnel.
func (s *h3Stream) Reset() error {
	s.c.ResetStream(s.id, h3RequestCancelled)
	return nil
}

// WantReset implements Tunnel: the code for a TCP connection's error is another in
// RFC 9114 section 4.4 than in RFC 9220 section 3.
func (s *h3Stream) WantReset() error {
	return s.c.WantReset(s.id, h3RequestCancelled, h3ConnectError)
}

// Trailers implements Stream.
func (s *h3Stream) Trailers(f rawpeer.Fields) error {
	s.c.HeadersOn(s.id, f, true)
	return nil
}

// Head implements Stream.
func (s *h3Stream) Head(f rawpeer.Fields) error {
	s.c.HeadersOn(s.id, f, false)
	return nil
}

// First implements Stream.
func (s *h3Stream) First() (rawpeer.Fields, error) {
	st, err := s.c.WantHeads(s.id, 1)
	if len(st.Heads) == 0 {
		return nil, err
	}
	return st.Heads[0], err
}

// WantStatus implements Stream.
func (s *h3Stream) WantStatus(status int) (*Answer, error) {
	_, err := s.c.WantStatus(s.id, status)
	return s.told(s.c.Stream(s.id)), err
}

// Answer implements Stream.
func (s *h3Stream) Answer() (*Answer, error) {
	st, err := s.c.WantAnswer(s.id)
	return s.judged(st, err)
}

// Whole implements Stream.
func (s *h3Stream) Whole() (*Answer, error) {
	st, err := s.c.WantOver(s.id)
	return s.judged(st, err)
}

// judged is what was seen; the end of the connection is no error but a thing
// seen.
func (s *h3Stream) judged(st rawpeer.H3Stream, err error) (*Answer, error) {
	a := s.told(st)
	if a.Closed != "" {
		err = nil
	}
	return a, err
}

func (s *h3Stream) told(st rawpeer.H3Stream) *Answer {
	a := answerOf(st.Heads, st.Data, st.End)
	if st.Reset {
		a.Reset = nameH3(st.Code)
		a.malformed = st.Code == h3MessageError || st.Code == h3GeneralError // RFC 9114 section 8.1 lets it decline to be specific
		a.unprocessed = st.Code == h3RequestRejected
	}
	if err := s.c.Cause(); err != nil {
		a.Closed = "the connection ended: " + err.Error()
		if code, ok := s.c.CloseCode(); ok && !st.Reset { // RFC 9114 section 8: a stream error may end the connection
			a.malformed = code != h3NoError
		}
	} else if len(s.c.GoAways()) > 0 && !a.End {
		a.Closed = "GOAWAY"
	}
	return a
}

// nameH3 names a code.
func nameH3(c rawpeer.H3Code) string {
	for code, name := range map[rawpeer.H3Code]string{
		h3NoError: "H3_NO_ERROR", h3GeneralError: "H3_GENERAL_PROTOCOL_ERROR", 0x102: "H3_INTERNAL_ERROR", h3StreamCreation: "H3_STREAM_CREATION_ERROR",
		h3ClosedCritical: "H3_CLOSED_CRITICAL_STREAM", h3FrameUnexpected: "H3_FRAME_UNEXPECTED", h3FrameError: "H3_FRAME_ERROR", h3ExcessiveLoad: "H3_EXCESSIVE_LOAD",
		h3IDError: "H3_ID_ERROR", h3SettingsError: "H3_SETTINGS_ERROR", h3MissingSettings: "H3_MISSING_SETTINGS", h3RequestRejected: "H3_REQUEST_REJECTED",
		h3RequestCancelled: "H3_REQUEST_CANCELLED", h3RequestIncomplete: "H3_REQUEST_INCOMPLETE", h3MessageError: "H3_MESSAGE_ERROR", h3ConnectError: "H3_CONNECT_ERROR",
		0x110: "H3_VERSION_FALLBACK", qpackDecompression: "QPACK_DECOMPRESSION_FAILED", qpackEncoderStream: "QPACK_ENCODER_STREAM_ERROR", qpackDecoderStream: "QPACK_DECODER_STREAM_ERROR",
	} {
		if code == c {
			return name
		}
	}
	return c.String()
}

// H3 connects by QUIC and exchanges SETTINGS.
func (e *Env) H3(settings ...rawpeer.H3Setting) *rawpeer.H3 {
	return e.greet3(e.H3Quiet(), settings...)
}

// H3Quiet connects by QUIC and says nothing.
func (e *Env) H3Quiet() *rawpeer.H3 {
	e.needH3()
	c, err := rawpeer.DialH3Quiet(e.run.front3, e.run.o.TLS)
	if err != nil {
		e.broken("a QUIC connection to "+e.run.front3, err)
	}
	return e.tape3(c)
}

// needH3 ends the case where there is no HTTP/3.
func (e *Env) needH3() {
	if e.run.has.h3 != "" {
		e.Skip("%s", e.run.has.h3)
	}
}

// greet3 exchanges SETTINGS.
func (e *Env) greet3(c *rawpeer.H3, settings ...rawpeer.H3Setting) *rawpeer.H3 {
	e.Must(c.Greet(settings...))
	_, err := c.WantFirst()
	e.Must(err)
	return c
}

// tape3 readies a client for the case.
func (e *Env) tape3(c *rawpeer.H3) *rawpeer.H3 {
	c.Patience = e.patience
	e.keep("client", c.Notes, c.Close)
	return c
}

// h3At connects to an address; idle is how long a silence the client bears, if it
// is to send no PING of its own, 0 if it may.
func (e *Env) h3At(to string, idle time.Duration) *rawpeer.H3 {
	e.needH3()
	conf := rawpeer.QUIC()
	if idle > 0 {
		conf.MaxIdleTimeout, conf.KeepAlivePeriod = idle, 0
	}
	c, err := rawpeer.DialH3From(e.udp(), to, e.run.o.TLS, conf)
	if err != nil {
		e.broken("a QUIC connection to "+to, err)
	}
	return e.tape3(c)
}

// udp is a socket that is closed with the case.
func (e *Env) udp() *net.UDPConn {
	pc, err := net.ListenUDP("udp", nil)
	if err != nil {
		e.broken("a UDP socket", err)
	}
	e.later(func() { pc.Close() })
	return pc
}

// tunnel3 opens a tunnel on a connection of its own, for cases that speak frames.
func (e *Env) tunnel3(settings ...rawpeer.H3Setting) (*rawpeer.H3, *h3Stream, *rawpeer.BackendConn) {
	e.needTunnels()
	c := e.H3(settings...)
	s, b := e.openOn(h3Mux{c, e})
	return c, s.(*h3Stream), b
}

// WantH3Closed waits for the end of a connection by one of the codes. That a server
// declines to say which rule was broken is allowed (RFC 9114 section 8.1) and
// noted.
func (e *Env) WantH3Closed(c *rawpeer.H3, codes ...rawpeer.H3Code) {
	names := ""
	for i, code := range codes {
		if i > 0 {
			names += " or "
		}
		names += nameH3(code)
	}
	if err := c.WantClosed(append(codes, h3GeneralError)...); err != nil {
		got := "the connection goes on"
		if code, ok := c.CloseCode(); ok {
			got = "CONNECTION_CLOSE " + nameH3(code)
		} else if cause := c.Cause(); cause != nil {
			got = cause.Error()
		}
		e.Fail("CONNECTION_CLOSE "+names, "%s", got)
	}
	if c.WantClosed(codes...) != nil {
		e.Note("the code was H3_GENERAL_PROTOCOL_ERROR")
	}
}
