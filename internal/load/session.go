package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// session is a connection in one HTTP version and the tunnels on it. All
// methods but run and close are called between begin and end of the session, or
// by the scenario when run calls it: it has the session then.
type session interface {
	begin()     // takes the session
	end() error // writes what was sent and gives it back
	run() error // reads until the connection ends; nil if that was close's doing
	close()

	open(t *tunnel)           // starts an opening handshake
	get(t *tunnel)            // starts an ordinary request
	send(t *tunnel, p []byte) // sends octets; windows may make them wait
	finish(t *tunnel)         // ends our direction in order
	state() *link
}

// scenario is what happens on the tunnels of a fleet. Its methods are called
// with the session of the tunnel held.
type scenario interface {
	opened(t *tunnel)
	payload(t *tunnel, p []byte) // a piece of a message or of an answer's content
	message(t *tunnel)           // a whole message has come
	ended(t *tunnel, err error)  // nil: in order; called once, opened or not
}

// stage is where a tunnel is in its life.
type stage uint8

const (
	asked  stage = iota // no answer yet
	opened              // 101 or 200
	over
)

// errRefused: the handshake was answered, but with no tunnel.
var errRefused = errors.New("refused")

// tunnel is one WebSocket, or one request of a get.
type tunnel struct {
	s     session
	play  scenario
	id    uint32 // of its stream; 0 on HTTP/1.1
	stage stage
	plain bool // an ordinary request
	said  bool // a Close frame of the peer's has come
	in    frames

	// Of HTTP/2.
	window int    // for sending
	credit int    // received, not yet given back
	rest   []byte // waits for windows

	// Of the scenarios.
	number int    // in the fleet
	since  int64  // when it was asked for
	times  queue  // when what is under way was sent, or should have been
	flying int    // how many of them were sent
	next   uint32 // number of the next message to send
	want   uint32 // number of the next message to come
	at     int    // octets of it that have come
	wrong  bool   // some of them are not those that were sent
	lived  bool   // it was opened and ended as it should
}

func (t *tunnel) String() string {
	if t.id == 0 {
		return fmt.Sprintf("connection %d", t.s.state().number)
	}
	return fmt.Sprintf("connection %d stream %d", t.s.state().number, t.id)
}

// answered opens the tunnel.
func (t *tunnel) answered() {
	t.stage = opened
	t.play.opened(t)
}

// ended is the end of the tunnel, once.
func (t *tunnel) ended(err error) {
	if t.stage == over {
		return
	}
	t.play.ended(t, err)
	t.stage = over
	t.rest = nil
}

// octets are what came in the tunnel.
func (t *tunnel) octets(p []byte) error {
	if t.plain {
		t.play.payload(t, p)
		return nil
	}
	return t.in.feed(p, t)
}

func (t *tunnel) payload(p []byte) { t.play.payload(t, p) }

// frame is the end of a frame; first is its first octet.
func (t *tunnel) frame(first byte, payload []byte) {
	switch op := first & 0xf; op {
	case opPing: // RFC 6455 section 5.5.2
		t.s.send(t, appendFrame(nil, opPong, [4]byte{}, payload))
	case opClose:
		t.said = true
	case opPong:
	default:
		if first&0x80 != 0 {
			t.play.message(t)
		}
	}
}

// wire is an HTTP version on an octet stream: it turns calls into octets of out
// and input into calls on tunnels, without I/O.
type wire interface {
	feed(p []byte) ([]byte, error) // returns what is still incomplete
	lost(err error)                // the connection has ended: so have its tunnels
}

// link is the half of a session that HTTP/1.1 and HTTP/2 have in common: a
// connection, its reader, and the output.
type link struct {
	nc     net.Conn
	number int
	wire   wire
	clock  func() int64

	mu       sync.Mutex
	now      int64 // of the present turn
	out      []byte
	messages atomic.Int64
	asked    int // tunnels that were asked for
	closed   atomic.Bool
	err      error  // of writing
	pending  []byte // input that came before run

	// With a writer of its own a session never waits in a write while it could
	// read: with much under way in both directions that would be for ever.
	async bool
	wake  *sync.Cond
	spare []byte
}

func (l *link) state() *link { return l }

func (l *link) begin() {
	l.mu.Lock()
	l.now = l.clock()
}

func (l *link) end() error {
	defer l.mu.Unlock()
	return l.flush()
}

// flush writes what has gathered, or lets the writer do it.
func (l *link) flush() error {
	switch {
	case l.err != nil:
		return l.err
	case len(l.out) == 0:
		return nil
	case l.async:
		l.wake.Signal()
		return nil
	}
	_, l.err = l.nc.Write(l.out)
	l.out = l.out[:0]
	return l.err
}

// writer writes what gathers, until close or a failure.
func (l *link) writer() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for len(l.out) == 0 && !l.closed.Load() && l.err == nil {
			l.wake.Wait()
		}
		if l.closed.Load() || l.err != nil {
			return
		}
		p := l.out
		l.out = l.spare[:0]
		l.mu.Unlock()
		_, err := l.nc.Write(p)
		l.mu.Lock()
		l.spare = p
		if err != nil {
			l.err = err
			l.nc.Close() // the reader tells
		}
	}
}

// run reads and acts until the connection ends.
func (l *link) run() error {
	if l.async {
		go l.writer()
	}
	buf := make([]byte, 4<<10)
	rest := l.pending
	for {
		n, err := l.nc.Read(buf)
		l.begin()
		if n > 0 && !l.closed.Load() {
			in := buf[:n]
			if len(rest) > 0 {
				rest = append(rest, in...)
				in = rest
			}
			left, e := l.wire.feed(in)
			rest = append(rest[:0], left...)
			if err = errors.Join(err, e); err == nil {
				err = l.flush()
			}
		}
		if err != nil || l.closed.Load() {
			err = l.over(err)
			l.mu.Unlock()
			return err
		}
		l.mu.Unlock()
		if n == len(buf) && n < 64<<10 {
			buf = make([]byte, 4*n) // busy connections want large reads, idle ones small buffers
		}
	}
}

// over ends the tunnels of a connection that has ended.
func (l *link) over(err error) error {
	if l.closed.Load() {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the peer closed the connection")
	}
	l.wire.lost(err)
	return err
}

// close drops the connection. A write or a read of it returns at once, whoever
// holds the session.
func (l *link) close() {
	l.closed.Store(true)
	l.nc.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake.Broadcast()
}

// handshakeFields are those of an opening handshake that HTTP/1.1 and HTTP/2
// share.
func handshakeFields(t *Target) [][2]string {
	return [][2]string{{"sec-websocket-version", "13"}, {"origin", t.scheme() + "://" + t.authority()}}
}

// connect dials connection number n and makes a session of it.
func (t *Target) connect(d dialer, n int) (session, error) {
	if t.HTTP == 3 {
		return newH3(d, t, n)
	}
	nc, err := t.dial(d.ctx, n)
	if err != nil {
		return nil, err
	}
	l := &link{nc: nc, number: n, clock: d.clock, async: d.async}
	l.wake = sync.NewCond(&l.mu)
	if t.HTTP == 1 {
		return newH1(l, t), nil
	}
	nc.SetReadDeadline(time.Now().Add(dialTime))
	s, err := newH2(l, t)
	if err != nil {
		nc.Close()
		return nil, err
	}
	nc.SetReadDeadline(time.Time{})
	return s, nil
}
