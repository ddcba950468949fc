package h2

import (
	"context"
	"time"

	"golang.org/x/net/http2/hpack"

	"wsgate/bridge"
)

const (
	maxFrame     = 16384    // our SETTINGS_MAX_FRAME_SIZE, and what we send at most: every peer takes it
	firstWindow  = 65535    // windows before any SETTINGS (RFC 9113 section 6.9.2)
	smallWindow  = 16 << 10 // of streams of connections born while memory is tight
	grownWindow  = 256 << 10
	grownPerConn = 4 << 20
	connWindow   = 1 << 30 // returned at receipt: never binds before the streams' windows
	maxWindow    = 1<<31 - 1
	maxStreamID  = 1<<31 - 1

	outDataMax = 128 << 10 // queued DATA of a connection
	outCtlMax  = 64 << 10  // queued control frames; above it nothing is read
	flushSize  = 48 << 10  // output of this size goes out at once: with one more frame some 64 KiB, what TLS takes at a time

	stuckTime = 10 * time.Second // control output over its bound for so long ends the connection
	closeTime = 2 * time.Second  // for the peer to close after our GOAWAY
	drainTime = time.Second      // for the PING of a drain
)

// phase is where a connection is in its life.
type phase uint8

const (
	phasePreface  phase = iota // the client's preface is not complete
	phaseSettings              // its first SETTINGS has not come
	phaseOpen
	phaseClosing // GOAWAY is out, input is dropped until the peer closes
	phaseClosed
)

// conn is one HTTP/2 connection: a state machine that is fed by its transport
// and by the owners of its streams, all on one loop. It implements bridge.Far
// for the transport and bridge.Flusher for the loop.
type conn struct {
	// Immutable.
	sh     *shard
	t      bridge.Side
	client *bridge.Client

	// Where reading stands; see read.go.
	in    reader
	phase phase

	// Our side of the flow control, and the peer's.
	recvLeft   int32 // what the client may still send on the connection
	sendWin    int32 // what we may still send on it
	window     int32 // what a new stream's receive window is
	ownWindow  int32 // our SETTINGS_INITIAL_WINDOW_SIZE; window once it is acknowledged
	peerWindow int32 // the peer's SETTINGS_INITIAL_WINDOW_SIZE
	grown      int32 // octets of grown stream windows

	// Streams.
	streams map[uint32]*stream
	slots   int32  // streams whose work is not over yet
	lastID  uint32 // highest stream id seen
	goaway  uint32 // last id we promised; maxStreamID until the final GOAWAY
	skipped bool   // the client left stream ids out
	closed  *closedIDs

	// HPACK.
	dec       *hpack.Decoder
	peerTable uint32 // the peer's SETTINGS_HEADER_TABLE_SIZE
	tableNote bool   // it went down: our next block says that our table is empty

	// Output; see output.go.
	out       []byte
	sent      int  // of out
	outData   int  // DATA in out[sent:], about
	tail      int  // where the last frame of out begins if it is DATA, else -1
	blocked   bool // the transport took less than all
	ended     bool // our direction of the transport is closed
	asked     bool // TurnEnd is under way
	listed    bool // on the shard's list
	todoShare bool // waiting streams are to be told of room
	nextTodo  *conn
	waiting   ring    // streams that wait for the connection's window or output
	todo      *stream // streams with work for the next turn
	todoLast  *stream

	budget    budget
	wuCredit  int32 // WINDOW_UPDATE frames that our DATA explains
	stray     int64 // octets of DATA that may be under way to streams we reset
	settled   bool  // our SETTINGS was acknowledged
	websocket bool  // extended CONNECT was announced
	draining  bool
	late      bool // drains with the end of the last tunnel
	drainPing bool // a PING of ours stands between the two GOAWAY

	// Time, ns on the shard's clock; 0 for "not".
	timer     bridge.Timer
	timerAt   int64
	birth     int64
	lastRead  int64
	partial   int64 // since when a frame or header block is incomplete
	idleSince int64
	pinged    int64 // a keep-alive PING is unanswered
	stuck     int64 // control output is over its bound
	outStall  int64 // the transport takes nothing
	closeAt   int64
	drainAt   int64

	// Made for the first ordinary request.
	ctx    context.Context
	remote string
}

func newConn(sh *shard, t bridge.Side, client *bridge.Client) *conn {
	c := &conn{
		sh: sh, t: t, client: client, streams: make(map[uint32]*stream),
		recvLeft: firstWindow, sendWin: firstWindow, window: firstWindow,
		ownWindow: firstWindow, peerWindow: firstWindow,
		goaway: maxStreamID, peerTable: 4096, tail: -1,
	}
	if sh.mem.tight() {
		sh.count.SmallWindow.Add(1)
		c.ownWindow = smallWindow
	}
	c.dec = hpack.NewDecoder(4096, sh.emit)
	c.dec.SetMaxStringLength(2 * sh.lim.header)
	now := sh.now()
	c.birth, c.lastRead, c.idleSince, c.budget.refilled = now, now, now, now
	c.timer.Fire = c.tick
	return c
}

// start sends the server's preface (RFC 9113 section 3.4) and begins to read.
func (c *conn) start() {
	sh := c.sh
	sh.conns[c] = struct{}{}
	sh.srv.conns.Add(1)
	sh.count.Connections.Add(1)
	var p []byte
	add := func(id uint16, v uint32) {
		p = append(p, byte(id>>8), byte(id), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	c.websocket = sh.srv.Offer != nil && (sh.srv.Announce == nil || sh.srv.Announce())
	if c.websocket {
		add(settingConnect, 1) // RFC 8441 section 3
	}
	add(settingMaxStreams, uint32(sh.lim.streams))
	add(settingWindow, uint32(c.ownWindow))
	add(settingHeaderList, uint32(sh.lim.header))
	add(settingNoPriorities, 1) // RFC 9218 section 2.1
	c.frame(frameSettings, 0, 0, len(p))
	c.out = append(c.out, p...)
	c.sendWindowUpdate(0, connWindow-firstWindow)
	c.recvLeft = connWindow
	c.wake(c.birth + int64(min(sh.lim.headerTime, sh.lim.idle, sh.lim.alive)))
	if sh.srv.draining.Load() {
		c.drain()
	}
	c.t.Bind(c)
}

// Want implements bridge.Far for the transport.
func (c *conn) Want() int {
	if c.ctlQueued() > outCtlMax {
		c.stop()
		return 0
	}
	return 64 << 10
}

// Data implements bridge.Far for the transport.
func (c *conn) Data(p []byte) int {
	if c.phase >= phaseClosing {
		return len(p)
	}
	c.lastRead = c.sh.now()
	n, err := c.feed(p)
	if err != nil {
		c.fail(err)
		return len(p)
	}
	if c.phase >= phaseClosing {
		return len(p)
	}
	c.watchPartial()
	if n < len(p) {
		c.stop()
	}
	return n
}

// stop notes that nothing is read because control output is over its bound.
func (c *conn) stop() {
	if c.stuck == 0 {
		c.stuck = c.sh.now()
		c.wake(c.stuck + int64(stuckTime))
	}
}

// watchPartial starts and stops the clock of incomplete frames.
func (c *conn) watchPartial() {
	if !c.in.partial() {
		c.partial = 0
	} else if c.partial == 0 {
		c.partial = c.lastRead
		c.wake(c.partial + int64(c.sh.lim.headerTime))
	}
}

// End implements bridge.Far for the transport: the client closed the connection.
func (c *conn) End() {
	if c.phase == phaseClosed {
		return
	}
	if c.phase < phaseClosing {
		c.breakAll(&bridge.ResetError{Reason: bridge.ReasonGone, Remote: true})
	}
	c.flush()
	c.finish(c.blocked)
}

// Broken implements bridge.Far for the transport.
func (c *conn) Broken(err *bridge.ResetError) {
	if c.phase == phaseClosed {
		return
	}
	c.breakAll(&bridge.ResetError{Reason: bridge.ReasonGone, Remote: err == nil || err.Remote, Cause: err})
	c.finish(false)
}

// Writable implements bridge.Far for the transport.
func (c *conn) Writable() {
	if c.phase == phaseClosed {
		return
	}
	c.unblock()
	c.flush()
	if c.phase == phaseClosing {
		if !c.blocked && !c.ended {
			c.linger()
		}
		return
	}
	if c.stuck != 0 && c.ctlQueued() <= outCtlMax/2 {
		c.stuck = 0
		c.t.Resume()
	}
	c.share()
}

// fail ends the connection for a fault of the client.
func (c *conn) fail(e *ConnectionError) {
	c.closeWith(e.Code, &bridge.ResetError{Reason: bridge.ReasonProtocol, Remote: true, Cause: e})
}

// closeWith breaks all streams, says GOAWAY and waits a little for the peer to
// close, so that the GOAWAY is not lost to a TCP reset.
func (c *conn) closeWith(code ErrCode, why *bridge.ResetError) {
	if c.phase >= phaseClosing {
		return
	}
	c.breakAll(why)
	c.sendGoaway(min(c.lastID, c.goaway), code)
	c.phase = phaseClosing
	c.in.drop(c.sh)
	c.lastWords()
}

// lastWords sends what there is and ends our direction. The peer has closeTime
// to take it and to end its own.
func (c *conn) lastWords() {
	c.closeAt = c.sh.now() + int64(closeTime)
	c.wake(c.closeAt)
	c.flush()
	if !c.blocked {
		c.linger()
	}
}

func (c *conn) linger() {
	c.ended = true
	c.t.CloseWrite()
	c.closeAt = c.sh.now() + int64(closeTime)
}

// shut is Server.Close on the loop.
func (c *conn) shut() {
	if c.phase == phaseClosed {
		return
	}
	said := c.phase == phaseClosing
	c.breakAll(&bridge.ResetError{Reason: bridge.ReasonShutdown})
	if !said {
		c.sendGoaway(min(c.lastID, c.goaway), errNone)
	}
	c.flush()
	c.finish(true)
}

// finish lets go of the transport. cut: without an orderly end.
func (c *conn) finish(cut bool) {
	if c.phase == phaseClosed {
		return
	}
	c.phase = phaseClosed
	c.timer.Stop()
	c.in.drop(c.sh)
	if c.out != nil {
		c.freeOut()
	}
	if cut {
		c.t.Reset(bridge.ReasonShutdown)
	} else {
		c.t.CloseWrite()
	}
	delete(c.sh.conns, c)
	c.sh.srv.conns.Add(-1)
}

// breakAll ends every stream: the connection is lost to it.
func (c *conn) breakAll(why *bridge.ResetError) {
	if c.phase < phaseClosing {
		c.phase = phaseClosing // owners that write or reset in return change nothing
	}
	for _, s := range c.streams {
		c.lose(s, why)
	}
	c.waiting = ring{}
}
