package h1

import (
	"errors"
	"sync/atomic"
	"time"

	"wsgate/bridge"
)

var (
	errStopped  = errors.New("front is closed")
	errCutShort = errors.New("request content is cut short")
	errSlow     = errors.New("request content comes too slowly")
	errStalled  = errors.New("client takes nothing of the answer")
)

// preface begins every HTTP/2 connection (RFC 9113 section 3.4). No HTTP/1.x
// request can begin so: the version is not 1.
const preface = "PRI * HTTP/2.0"

type connState uint8

const (
	stHead     connState = iota // between requests, or in a head
	stOrdinary                  // a handler runs
	stOffer                     // a handshake waits for its answer
	stRefusal                   // a refusal's content is passed on
	stDrain                     // answered; the rest of the request's content is dropped
	stClosing                   // the last answer is on its way out
	stGone                      // given up, or handed on
)

type clock uint8

const (
	clockNone clock = iota
	clockIdle
	clockHead
	clockBody
	clockDrain
)

// Bounds of a connection.
const (
	headWant  = 8 << 10  // read at once while a head is expected
	waitWant  = 1 << 10  // read while an answer is awaited, only to see the client leave
	outEager  = 16 << 10 // output that is sent before the turn ends
	maxUnread = 64 << 10 // unread content that is dropped to keep a connection
)

// conn is one HTTP/1.1 connection of the front: the adapter between the
// parsers, the transport, and who answers. It serves one request at a time; the
// octets of the next wait in the transport.
type conn struct {
	// Immutable.
	s      *Server
	l      bridge.Loop
	t      bridge.Side
	client *bridge.Client
	shard  *shard

	next, prev *conn

	scan     scanner
	state    connState
	role     clock
	sniffing bool // the preface of HTTP/2 is possible
	matched  int  // octets of it so far
	muted    bool // the transport waits for Resume
	fin      bool // the client ended its direction
	closing  bool // the connection ends with the present answer
	blocked  bool // the transport takes no output
	flushing bool // Flush comes at the end of the turn
	hurried  bool // the ACK of a request that came in parts was asked for

	out   []byte // pending output, lent by the loop; nil if there is none
	timer bridge.Timer
	stall bridge.Timer

	req   *request  // nil between two
	held  request   // what req points to
	body  body      // of the present request
	work  *ordinary // stOrdinary
	offer *offer    // stOffer
	pump  *pump     // stRefusal
	drop  int       // stDrain: octets that may still be dropped
}

func (c *conn) setClock(role clock, d time.Duration) {
	c.role = role
	if role != clockNone {
		c.l.After(d, &c.timer)
	}
}

// Want implements bridge.Far.
func (c *conn) Want() int {
	n := waitWant
	switch c.state {
	case stHead:
		n = headWant
		if c.blocked { // one answer at a time waits for a slow reader
			n = 0
		}
	case stOrdinary:
		n = c.work.want()
	case stDrain:
		n = outEager
	case stClosing, stGone:
		n = 0
	}
	c.muted = n == 0
	return n
}

// Data implements bridge.Far.
func (c *conn) Data(p []byte) int {
	n := 0
	for n < len(p) {
		before := c.state
		k := c.step(p[n:])
		n += k
		if k == 0 && c.state == before {
			break
		}
	}
	c.muted = n < len(p)
	if !c.hurried && c.incomplete() {
		c.hurried = true
		if t, ok := c.t.(interface{ Acknowledge() }); ok {
			t.Acknowledge() // see loop.Accept
		}
	}
	return n
}

// incomplete reports whether the client has begun a request and owes the rest.
func (c *conn) incomplete() bool {
	return c.state == stHead && (c.scan.partial() || c.matched > 0) || c.state == stOrdinary && !c.body.ended
}

// step takes octets by what the connection is about.
func (c *conn) step(p []byte) int {
	switch c.state {
	case stHead:
		if c.blocked {
			return 0
		}
		if c.sniffing {
			return c.sniff(p)
		}
		return c.head(p)
	case stOrdinary:
		return c.work.data(p)
	case stDrain:
		return c.dropContent(p)
	}
	return 0
}

// sniff looks for the preface of HTTP/2. Its octets are known, so those that
// came alone are only counted.
func (c *conn) sniff(p []byte) int {
	k := min(len(p), len(preface)-c.matched)
	if string(p[:k]) != preface[c.matched:c.matched+k] {
		c.sniffing = false
		if c.matched > 0 {
			c.head([]byte(preface[:c.matched]))
		}
		return c.head(p)
	}
	if c.matched+k < len(preface) {
		if c.matched += k; c.role == clockIdle {
			c.setClock(clockHead, orDefault(c.s.HeaderTimeout, defaultHeaderTimeout))
		}
		return k
	}
	t := c.t
	if c.matched > 0 {
		t = &carry{l: c.l, t: c.t, in: []byte(preface[:c.matched])}
	}
	c.leave()
	c.s.H2(c.l, t, c.client)
	return 0
}

// head takes octets of a request head.
func (c *conn) head(p []byte) int {
	head, n, err := c.scan.feed(c.l, p)
	switch {
	case err != nil:
		c.scan.release(c.l)
		c.reject(headError(err))
	case head != nil:
		s := string(head)
		c.scan.release(c.l)
		c.request(s)
	case c.scan.partial() && c.role != clockHead:
		c.setClock(clockHead, orDefault(c.s.HeaderTimeout, defaultHeaderTimeout))
	}
	return n
}

// request begins a request whose head is complete.
func (c *conn) request(head string) {
	c.setClock(clockNone, 0)
	c.sniffing = false
	c.s.count(func(n *Counters) *atomic.Uint64 { return &n.Requests })
	rules := c.s.rules()
	var w *wrong
	c.held, w = parseRequest(head, &rules)
	c.req = &c.held
	if w != nil {
		c.reject(w)
		return
	}
	c.body = newBody(c.req.kind, c.req.length)
	c.closing = c.req.close
	if c.req.upgrade {
		c.startOffer()
	} else {
		c.startOrdinary()
	}
}

// reject answers a request that nobody else sees.
func (c *conn) reject(w *wrong) {
	c.s.count(func(n *Counters) *atomic.Uint64 { return &n.Rejected })
	if c.s.Rejected != nil {
		c.s.Rejected(c.client, w.status, w.code)
	}
	c.body = newBody(frameNone, 0)
	c.closing = w.close
	c.endsHere()
	w.close = c.closing
	c.write(appendOwn(c.output(512), c.l.Now(), w, c.req != nil && c.req.method == "HEAD"))
	c.answered()
}

// endsHere settles whether the connection ends with the answer about to be written.
func (c *conn) endsHere() {
	c.closing = c.closing || c.fin || c.s.draining.Load()
}

// answered is called once an answer is complete and nobody works on its
// request any more.
func (c *conn) answered() {
	c.work, c.offer, c.pump = nil, nil, nil
	left := c.body
	switch {
	case c.state == stGone:
		return
	case c.closing:
	case left.ended:
		c.nextRequest()
		return
	case c.req.expect || left.kind == frameLength && left.left > maxUnread:
		// RFC 9110 section 10.1.1: whether content comes after a refused
		// expectation is not known. RFC 9112 section 9.3: too much to read.
		c.closing = true
	default:
		c.state, c.drop = stDrain, maxUnread
		c.setClock(clockDrain, orDefault(c.s.Linger, defaultLinger))
		c.resume()
		return
	}
	c.state = stClosing
	c.askFlush()
}

// dropContent reads over content that nobody wanted, to reach the next request.
func (c *conn) dropContent(p []byte) int {
	n, content, err := c.body.next(p, len(p))
	c.drop -= len(content)
	switch {
	case err != nil || c.drop < 0:
		c.closing = true
		c.answered()
	case c.body.ended:
		c.nextRequest()
	}
	return n
}

// nextRequest makes the connection ready for another request (RFC 9112 section 9.3).
func (c *conn) nextRequest() {
	c.req, c.held = nil, request{}
	c.body = body{}
	c.state = stHead
	if c.fin || c.s.draining.Load() {
		c.state = stClosing
		c.askFlush()
		return
	}
	c.setClock(clockIdle, orDefault(c.s.IdleTimeout, defaultIdleTimeout))
	c.resume()
}

// resume lets the transport deliver again.
func (c *conn) resume() {
	if c.muted {
		c.muted = false
		c.t.Resume()
	}
}

// End implements bridge.Far: the client ended its direction. A request that is
// complete is still answered (RFC 9112 section 9.6), a tunnel still opened.
func (c *conn) End() {
	c.fin = true
	switch c.state {
	case stHead, stDrain:
		c.state, c.closing = stClosing, true
		c.askFlush()
	case stOrdinary:
		if !c.body.ended { // RFC 9112 section 8: an incomplete request
			c.abort(bridge.ReasonTruncated, errCutShort)
		}
	}
}

// Broken implements bridge.Far.
func (c *conn) Broken(e *bridge.ResetError) {
	if c.state != stGone {
		c.lost(e)
	}
}

// abort cuts the connection: an answer that was begun cannot be completed.
func (c *conn) abort(r bridge.Reason, cause error) {
	if c.state == stGone {
		return
	}
	c.s.count(func(n *Counters) *atomic.Uint64 { return &n.Aborted })
	t := c.t
	c.lost(&bridge.ResetError{Reason: r, Cause: cause})
	t.Reset(r)
}

// lost tells whoever works for the connection that it is no more.
func (c *conn) lost(e *bridge.ResetError) {
	work, offer, pump := c.work, c.offer, c.pump
	c.leave()
	switch {
	case work != nil:
		work.lost(e)
	case offer != nil:
		offer.lost(e)
	case pump != nil:
		pump.stream.Reset(bridge.ReasonFarSide)
	}
}

// leave gives back all that the connection holds, but not its transport.
func (c *conn) leave() {
	c.state = stGone
	c.role = clockNone
	c.work, c.offer, c.pump, c.req = nil, nil, nil, nil
	c.timer.Stop()
	c.stall.Stop()
	c.scan.release(c.l)
	if c.out != nil {
		c.l.Free(c.out)
		c.out = nil
	}
	c.shard.remove(c)
	c.s.conns.Add(-1)
}

// expired is the reading side's clock.
func (c *conn) expired() {
	role := c.role
	c.role = clockNone
	switch role {
	case clockIdle:
		c.state, c.closing = stClosing, true
		c.askFlush()
	case clockHead: // RFC 9110 section 15.5.9
		c.s.count(func(n *Counters) *atomic.Uint64 { return &n.TimedOut })
		c.scan.release(c.l)
		c.reject(&wrong{408, codeHeaderTimeout, true})
	case clockBody:
		c.s.count(func(n *Counters) *atomic.Uint64 { return &n.TimedOut })
		if c.work != nil {
			c.work.fail(&wrong{408, codeBodyTimeout, true}, bridge.ReasonTimeout, errSlow)
		}
	case clockDrain:
		c.state, c.closing = stClosing, true
		c.askFlush()
	}
}

// drain is Server.Drain for one connection. One whose head is still coming is
// served; its answer closes.
func (c *conn) drain() {
	if c.state == stHead && !c.incomplete() {
		c.state, c.closing = stClosing, true
		c.askFlush()
	}
}

// shut is Server.Close for one connection.
func (c *conn) shut() { c.abort(bridge.ReasonShutdown, errStopped) }
