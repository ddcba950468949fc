package conformance

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// Versions of HTTP that a case may be played on; they are the first word of ids.
const (
	h3 = "h3"
	h2 = "h2"
	h1 = "h1"
)

// Tunnel is the client's end of a WebSocket tunnel on any version.
type Tunnel interface {
	Write(p []byte) error     // octets, within the windows
	CloseWrite() error        // END_STREAM, FIN
	Reset() error             // RST_STREAM CANCEL, a TCP RST
	WantBytes(p []byte) error // exactly these come next
	WantEnd() error           // an orderly end, and nothing left before it
	WantReset() error         // anything but an orderly end
}

// Mux is a client's connection of a version with streams: HTTP/2 or HTTP/3.
type Mux interface {
	Send(head rawpeer.Fields, end bool) Stream // exactly these fields
	Scheme() string
	WantAlive() error     // it answers, and does not mean to end
	Cut()                 // the connection is gone: on HTTP/2 without a word, on HTTP/3 by CONNECTION_CLOSE
	Wait(d time.Duration) // how long its wants wait from now on
}

// Stream is a request on a Mux, and a tunnel once it was answered so.
type Stream interface {
	Tunnel
	Data(p []byte, end bool) error     // without a look at windows
	Trailers(rawpeer.Fields) error     // which end the stream
	Head(rawpeer.Fields) error         // a further header section that does not
	First() (rawpeer.Fields, error)    // the first head, interim or not; nil if there is none
	WantStatus(s int) (*Answer, error) // of the final head
	Answer() (*Answer, error)          // the final head, or an end without one
	Whole() (*Answer, error)           // until the stream is over, one way or the other
}

// Answer is what a client saw of an answer.
type Answer struct {
	Status  int // of the final head, 0 if none came
	Interim []int
	First   rawpeer.Fields // of the first interim head
	Head    rawpeer.Fields
	Trailer rawpeer.Fields
	Body    []byte
	End     bool // it is complete

	Reset  string // error code of the stream's reset, "" if there was none
	Closed string // how the connection ended or is to end, "" if not

	malformed   bool // the reset, or the end of the connection, is that for malformed messages
	unprocessed bool // the reset says that nothing was done: REFUSED_STREAM, H3_REQUEST_REJECTED
}

// String says it in a line.
func (a *Answer) String() string {
	s := "no answer"
	if a.Status != 0 {
		s = fmt.Sprintf("status %d", a.Status)
		if len(a.Body) > 0 {
			s += fmt.Sprintf(" %.60q", a.Body)
		}
	}
	if a.End {
		s += ", complete"
	}
	if a.Reset != "" {
		s += ", reset " + a.Reset
	}
	if a.Closed != "" {
		s += ", " + a.Closed
	}
	return s
}

// Open reports whether the answer opens a tunnel: on CONNECT any 2xx does (RFC
// 9110 section 9.3.6).
func (a *Answer) Open() bool { return a.Status/100 == 2 || a.Status == 101 }

// Malformed reports whether the request was refused as malformed: the stream or
// the connection reset so, or a complete 4xx (RFC 9113 section 8.1.1).
func (a *Answer) Malformed() bool {
	if a.Status != 0 {
		return a.Status/100 == 4 && a.End
	}
	return a.malformed
}

// Refused reports whether the request was turned down in whatever way: a complete
// 4xx or 5xx, or a reset.
func (a *Answer) Refused() bool {
	if a.Status != 0 {
		return a.Status/100 >= 4 && a.End
	}
	return a.Reset != "" || a.Closed != ""
}

// h2Mux is a Mux on HTTP/2.
type h2Mux struct{ *rawpeer.H2 }

func (m h2Mux) Send(head rawpeer.Fields, end bool) Stream {
	return &h2Stream{m.H2, m.Headers(head, end)}
}

// Wait implements Mux.
func (m h2Mux) Wait(d time.Duration) { m.Patience = d }

// h2Stream is a stream of it.
type h2Stream struct {
	c  *rawpeer.H2
	id uint32
}

func (s *h2Stream) Write(p []byte) error          { return s.c.Send(s.id, p) }
func (s *h2Stream) CloseWrite() error             { return s.c.End(s.id) }
func (s *h2Stream) Reset() error                  { return s.c.Reset(s.id, http2.ErrCodeCancel) }
func (s *h2Stream) WantBytes(p []byte) error      { return s.c.WantData(s.id, p) }
func (s *h2Stream) WantEnd() error                { return s.c.WantEnd(s.id) }
func (s *h2Stream) Data(p []byte, end bool) error { return s.c.Data(s.id, p, end) }

func (s *h2Stream) WantReset() error {
	return s.c.WantReset(s.id, http2.ErrCodeCancel, http2.ErrCodeConnect)
}

func (s *h2Stream) Trailers(f rawpeer.Fields) error {
	s.c.HeadersOn(s.id, f, true)
	return nil
}

func (s *h2Stream) Head(f rawpeer.Fields) error {
	s.c.HeadersOn(s.id, f, false)
	return nil
}

func (s *h2Stream) First() (rawpeer.Fields, error) {
	st, err := s.c.WantHeads(s.id, 1)
	if len(st.Heads) == 0 {
		return nil, err
	}
	return st.Heads[0], err
}

func (s *h2Stream) WantStatus(status int) (*Answer, error) {
	_, err := s.c.WantStatus(s.id, status)
	return s.told(s.c.Stream(s.id), nil), err
}

func (s *h2Stream) Answer() (*Answer, error) {
	st, err := s.c.WantAnswer(s.id)
	return s.judged(st, err)
}

func (s *h2Stream) Whole() (*Answer, error) {
	st, err := s.c.WantOver(s.id)
	return s.judged(st, err)
}

// judged is what was seen; the end of the connection is no error but a thing
// seen.
func (s *h2Stream) judged(st rawpeer.H2Stream, err error) (*Answer, error) {
	a := s.told(st, err)
	if a.Closed != "" {
		err = nil
	}
	return a, err
}

func (s *h2Stream) told(st rawpeer.H2Stream, err error) *Answer {
	a := answerOf(st.Heads, st.Data, st.End)
	if st.Reset {
		a.Reset = st.Code.String()
		a.malformed = st.Code == http2.ErrCodeProtocol
		a.unprocessed = st.Code == http2.ErrCodeRefusedStream
	}
	if g := s.c.GoAways(); len(g) > 0 {
		a.Closed = "GOAWAY " + g[0].Code.String()
		a.malformed = a.malformed || !st.Reset && g[0].Code != http2.ErrCodeNo // RFC 9113 section 5.4.2
	}
	if err != nil && a.Closed == "" && s.c.Ended() {
		a.Closed = "the connection ended"
	}
	return a
}

// answerOf sorts the heads of a stream.
func answerOf(heads []rawpeer.Fields, data []byte, end bool) *Answer {
	a := &Answer{Body: data, End: end}
	for _, h := range heads {
		n, _ := strconv.Atoi(h.Get(":status"))
		switch {
		case n == 0:
			a.Trailer = h
		case n < 200 && n != 101:
			if a.First == nil {
				a.First = h
			}
			a.Interim = append(a.Interim, n)
		default:
			a.Status, a.Head = n, h
		}
	}
	return a
}

// h1Tunnel is a tunnel over HTTP/1.1.
type h1Tunnel struct{ *rawpeer.H1 }

func (t h1Tunnel) Reset() error {
	t.Cut()
	return nil
}
func (t h1Tunnel) WantEnd() error   { return t.WantFIN() }
func (t h1Tunnel) WantReset() error { return t.WantRST() }

// Mux connects by the version of the case, to a gateway that announces extended
// CONNECT.
func (e *Env) Mux() Mux {
	e.needTunnels()
	return e.anyMux()
}

// anyMux connects by the version of the case.
func (e *Env) anyMux() Mux {
	if e.version() == h3 {
		return h3Mux{e.H3(), e}
	}
	return h2Mux{e.H2()}
}

// connect is a right extended CONNECT (RFC 8441 section 4) on m; more fields come
// behind.
func (e *Env) connect(m Mux, more ...string) rawpeer.Fields {
	f := rawpeer.ConnectFields(m.Scheme(), e.Authority(), e.Path("chat"), rawpeer.F(more...)...)
	return append(f, rawpeer.Field{Name: "origin", Value: m.Scheme() + "://" + e.Authority()}, e.Tag())
}

// Open opens a tunnel by the version of the case and returns both its ends.
func (e *Env) Open() (Tunnel, *rawpeer.BackendConn) {
	if e.version() == h1 {
		return e.openH1(e.H1())
	}
	s, b := e.openOn(e.Mux())
	return s, b
}

func (e *Env) openOn(m Mux, more ...string) (Stream, *rawpeer.BackendConn) {
	s := m.Send(e.connect(m, more...), false)
	b := e.Next()
	_, err := b.AcceptUpgrade()
	e.Must(err)
	_, err = s.WantStatus(200)
	e.On("opening a tunnel", err)
	return s, b
}

func (e *Env) openH1(c *rawpeer.H1) (Tunnel, *rawpeer.BackendConn) {
	e.Must(c.WriteString(e.upgrade()))
	b := e.Next()
	_, err := b.AcceptUpgrade()
	e.Must(err)
	_, err = c.WantStatus("GET", 101)
	e.On("opening a tunnel", err)
	return h1Tunnel{c}, b
}

// upgrade is a right opening handshake of HTTP/1.1 (RFC 6455 section 4.1).
func (e *Env) upgrade(more ...string) string {
	s := "GET " + e.Path("chat") + " HTTP/1.1\r\nHost: " + e.Authority() + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + rawpeer.Key + "\r\nSec-WebSocket-Version: 13\r\n"
	for _, f := range rawpeer.F(more...) {
		s += f.Name + ": " + f.Value + "\r\n"
	}
	return s + "\r\n"
}

// version is the first word of the case's id.
func (e *Env) version() string { return e.c.version() }

// whole is Whole for cases that end where there is nothing to be seen.
func (e *Env) whole(s Stream) *Answer {
	a, err := s.Whole()
	if err != nil {
		e.Fail("a complete answer, or a reset", "%v; %s%s", a, mismatchOf(err), e.arrived())
	}
	return a
}

// arrived says so if a request of this case waits at the backend.
func (e *Env) arrived() string {
	if e.claim != nil && len(e.claim.conns) > 0 {
		return "; the request went to the backend"
	}
	return ""
}

// WantMalformed checks that a request was refused as malformed and that nothing
// of it reached the backend.
func (e *Env) WantMalformed(s Stream) {
	const want = "a reset for a malformed request, or a complete 4xx"
	a, err := s.Whole()
	if err != nil {
		e.Fail(want, "%v; %s%s", a, mismatchOf(err), e.arrived())
	}
	if !a.Malformed() {
		e.Fail(want, "%v", a)
	}
	if a.Closed != "" {
		e.Note("the whole connection ended: %s", a.Closed)
	}
	e.Untouched()
}

// mismatchOf is what was seen in place of what was wanted.
func mismatchOf(err error) string {
	var m *rawpeer.Mismatch
	if errors.As(err, &m) {
		return m.Got
	}
	return err.Error()
}

// without takes fields of a name out.
func without(in rawpeer.Fields, name string) rawpeer.Fields {
	return slices.DeleteFunc(slices.Clone(in), func(f rawpeer.Field) bool { return f.Name == name })
}

// with replaces a field's value, where it stands.
func with(in rawpeer.Fields, name, value string) rawpeer.Fields {
	out := slices.Clone(in)
	for i := range out {
		if out[i].Name == name {
			out[i].Value = value
		}
	}
	return out
}

// before puts fields in front.
func before(in rawpeer.Fields, pairs ...string) rawpeer.Fields {
	return append(rawpeer.F(pairs...), in...)
}

// after puts fields behind.
func after(in rawpeer.Fields, pairs ...string) rawpeer.Fields {
	return append(slices.Clone(in), rawpeer.F(pairs...)...)
}

// nextOr waits for the request at the backend, or ends the case when the client
// was answered instead.
func (e *Env) nextOr(s Stream) *rawpeer.BackendConn {
	b, a := e.either(s)
	if b == nil {
		e.Fail("a request at the backend", "%v", a)
	}
	return b
}

// headOr accepts the request at the backend and returns its head, or nil when the
// client was turned down instead.
func (e *Env) headOr(s Stream) *rawpeer.Head {
	b, a := e.either(s)
	if b != nil {
		h, err := b.AcceptUpgrade()
		e.Must(err)
		_, err = s.WantStatus(200)
		e.Must(err)
		return h
	}
	if !a.Refused() {
		e.Fail("a tunnel, or a refusal", "%v", a)
	}
	return nil
}

// either waits for the request at the backend, or for what the client got instead.
func (e *Env) either(s Stream) (*rawpeer.BackendConn, *Answer) {
	type got struct {
		a   *Answer
		err error
	}
	answered := make(chan got, 1)
	go func() {
		a, err := s.Answer()
		if err == nil && a.Status != 0 {
			a, err = s.Whole()
		}
		answered <- got{a, err}
	}()
	select {
	case b := <-e.claim.conns:
		return b, nil
	case g := <-answered:
		e.Must(g.err)
		return nil, g.a
	}
}

// nextOrH1 is nextOr for a client of HTTP/1.1.
func (e *Env) nextOrH1(c *rawpeer.H1) *rawpeer.BackendConn {
	select {
	case b := <-e.claim.conns:
		return b
	case <-e.after(e.patience):
		c.Patience = e.Short()
		e.Fail("a request at the backend", "%q", c.PeekLine())
		return nil
	}
}

// soon is a deadline.
func soon(d time.Duration) time.Time { return time.Now().Add(d) }

// isTimeout reports whether an error says that the time was over.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
