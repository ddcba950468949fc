package h3

import (
	"context"
	"time"

	"wsgate/bridge"
)

const (
	settingMaxSection = 0x06           // SETTINGS_MAX_FIELD_SECTION_SIZE (RFC 9114 section 7.2.4.1)
	settingConnect    = 0x08           // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 9220 section 5)
	settingReserved   = 0x1f*11 + 0x21 // without a meaning (section 7.2.4.1)
)

// farID is the GOAWAY that says nothing yet of the last request (RFC 9114 section
// 5.2).
const farID = maxVarint &^ 3

// drainTime is how long a client has between the two GOAWAY at least.
const drainTime = time.Second

// conn is a connection. It belongs to its loop.
type conn struct {
	// Immutable.
	sh      *shard
	q       quicConn
	born    time.Time
	context context.Context // of ordinary requests
	remote  string          // the same

	client  *bridge.Client // another one after the client's address changed
	control sender

	streams map[uint64]*stream
	slots   int // streams whose work is not over yet
	tunnels int // of them tunnels and offers
	nextID  uint64

	hasControl, hasEncoder, hasDecoder bool // the client's streams
	settled                            bool // its SETTINGS came
	hasMaxPush, hasGoaway              bool
	maxPush, peerGoaway                uint64

	websocket bool   // extended CONNECT was announced
	draining  bool   // GOAWAY is out
	final     bool   // with the real id
	late      bool   // drains with the end of the last tunnel
	parting   bool   // the last stream is over; its octets may be under way
	over      bool   // lost or closed
	goaway    uint64 // streams from here on are rejected

	budget    budget
	timer     bridge.Timer
	timerAt   time.Time
	idleSince time.Time
	looked    time.Time // when the client's address was last asked for
	drainAt   time.Time // when the final GOAWAY is due
	heads     int       // streams whose head is not complete
	leaving   int       // streams that are over but for octets that wait
	blocks    int       // octets of field sections that are not complete

	partAt   time.Time // when a connection without streams is closed
	partEnd  time.Time // the same, whatever still goes out
	partSent uint64    // octets sent when partAt was set
}

func newConn(sh *shard, q quicConn, client *bridge.Client) *conn {
	now := sh.loop.Now()
	c := &conn{
		sh: sh, q: q, born: now, client: client, streams: make(map[uint64]*stream), goaway: farID, idleSince: now,
		budget: budget{refilled: now},
	}
	c.timer.Fire = c.tick
	return c
}

// start opens the control stream with SETTINGS (RFC 9114 sections 6.2.1 and 7.2.4).
// QPACK streams are not needed without a dynamic table (RFC 9204 section 4.2).
func (c *conn) start() {
	sh := c.sh
	sh.conns[c] = struct{}{}
	sh.srv.conns.Add(1)
	sh.count.Connections.Add(1)
	if c.control = c.q.openUni(own{c}); c.control == nil {
		c.fail(connErr(errGeneral, "the client allows no control stream")) // RFC 9114 section 6.2
		return
	}
	var p []byte
	c.websocket = sh.srv.Offer != nil && (sh.srv.Announce == nil || sh.srv.Announce())
	if c.websocket {
		p = append(appendVarint(p, settingConnect), 1)
	}
	p = appendVarint(appendVarint(p, settingMaxSection), uint64(sh.lim.header))
	p = append(appendVarint(p, settingReserved), 0) // RFC 9114 section 7.2.4.1: SHOULD
	c.control.write(append(appendFrame([]byte{streamControl}, frameSettings, len(p)), p...))
	c.wake(c.born.Add(sh.lim.alive))
	if sh.srv.draining.Load() {
		c.drain()
	}
}

// uni takes a unidirectional stream of the client.
func (c *conn) uni(q quicStream) receiver { return &uni{c: c, q: q} }

// bidi takes a request stream.
func (c *conn) bidi(id uint64, q quicStream) receiver {
	s := &stream{c: c, q: q, id: id, born: c.sh.loop.Now()}
	c.nextID = max(c.nextID, id+4)
	c.streams[id] = s
	c.slots++
	c.heads++
	c.sh.count.Streams.Add(1)
	c.wake(s.born.Add(c.sh.lim.headerTime))
	if id >= c.goaway || c.over {
		// RFC 9114 section 5.2: nothing of it was or will be processed.
		s.abort(errRequestRejected)
		if err := c.calm(rejected); err != nil {
			c.fail(err)
		}
	}
	return s
}

// fail ends the connection by an error of it.
func (c *conn) fail(err error) {
	if c.over {
		return
	}
	code, why := errInternal, ""
	if e, ok := err.(*ConnectionError); ok {
		code, why = e.Code, e.Why
	}
	c.q.closeWith(code, why)
	reason := bridge.ReasonProtocol
	if code == errNone {
		reason = bridge.ReasonShutdown
	}
	c.lost(&bridge.ResetError{Reason: reason, Cause: err})
}

// lost is the end of the connection, by whomever. Its streams hear of it.
func (c *conn) lost(err *bridge.ResetError) {
	if c.over {
		return
	}
	c.over = true
	c.timer.Stop()
	delete(c.sh.conns, c)
	c.sh.srv.conns.Add(-1)
	for _, s := range c.streams {
		if s.has(isLeaving) {
			c.left(s)
		} else {
			s.lose(err)
		}
	}
}

// drain begins the orderly end: the client learns that no new request is wanted
// before any is rejected (RFC 9114 section 5.2).
func (c *conn) drain() {
	if c.draining || c.over {
		return
	}
	c.draining, c.late = true, false
	c.sendGoaway(farID)
	c.drainAt = c.sh.loop.Now().Add(max(2*c.q.roundTrip(), 10*time.Millisecond))
	if c.slots > 0 {
		c.drainAt = c.sh.loop.Now().Add(max(2*c.q.roundTrip(), drainTime))
	}
	c.wake(c.drainAt)
}

func (c *conn) sendGoaway(id uint64) {
	p := appendVarint(nil, id)
	c.control.write(append(appendFrame(nil, frameGoaway, len(p)), p...))
}

// partTime bounds how long a drained connection waits for its last octets to arrive.
const partTime = 10 * time.Second

// part closes a drained connection after its last stream, once what was written
// has arrived: then nothing goes out any more, nor is anything repeated.
func (c *conn) part() {
	if !c.final || c.slots > 0 || c.parting || c.over {
		return
	}
	c.parting = true
	c.partEnd = c.sh.loop.Now().Add(partTime)
	c.watchSent()
}

// watchSent looks again later whether something still goes out.
func (c *conn) watchSent() {
	c.partSent = c.q.sent()
	c.partAt = c.sh.loop.Now().Add(max(6*c.q.roundTrip(), 250*time.Millisecond))
	c.wake(c.partAt)
}

// wake sees to it that tick runs at when or before.
func (c *conn) wake(when time.Time) {
	if c.over || !c.timerAt.IsZero() && !when.Before(c.timerAt) {
		return
	}
	c.timerAt = when
	c.sh.loop.After(max(0, when.Sub(c.sh.loop.Now())), &c.timer)
}

// tick is the connection's timer.
func (c *conn) tick() {
	now := c.sh.loop.Now()
	c.timerAt = time.Time{}
	if c.over {
		return
	}
	c.follow()
	if c.draining && !c.final && !now.Before(c.drainAt) {
		c.final, c.goaway = true, c.nextID
		c.sendGoaway(c.goaway)
		c.part()
	}
	next := now.Add(c.sh.lim.alive)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	switch {
	case c.parting:
		if !now.Before(c.partAt) {
			if c.q.sent() == c.partSent || !now.Before(c.partEnd) {
				c.fail(connErr(errNone, ""))
				return
			}
			c.watchSent()
		}
		sooner(c.partAt)
	case c.slots > 0 || c.draining:
	case now.Sub(c.idleSince) >= c.sh.lim.idle:
		c.sh.count.IdleTimeout.Add(1)
		c.drain() // a request may be under way
	default:
		sooner(c.idleSince.Add(c.sh.lim.idle))
	}
	if c.draining && !c.final {
		sooner(c.drainAt)
	}
	if c.heads > 0 {
		sooner(c.slowHeads(now))
	}
	if c.leaving > 0 {
		sooner(c.slowLeavers(now))
	}
	c.wake(next)
}

// slowHeads ends streams whose head takes too long and returns when the next one
// will have.
func (c *conn) slowHeads(now time.Time) time.Time {
	next := now.Add(c.sh.lim.headerTime)
	for _, s := range c.streams {
		switch due := s.born.Add(c.sh.lim.headerTime); {
		case s.has(headDone | isCut):
		case !now.Before(due):
			c.sh.count.HeaderTimeout.Add(1)
			s.abort(errRequestRejected) // RFC 9114 section 4.1.1: nothing was done
		case due.Before(next):
			next = due
		}
	}
	return next
}

// slowLeavers cuts streams whose last octets the client does not take, and those
// that have lingered, and returns when the next one is due.
func (c *conn) slowLeavers(now time.Time) time.Time {
	next := now.Add(c.sh.lim.stall)
	for _, s := range c.streams {
		due := s.born.Add(c.sh.lim.stall)
		if s.has(isLingering) {
			due = s.born.Add(lingerTime)
		}
		switch {
		case !s.has(isLeaving):
		case !now.Before(due):
			if !s.has(isLingering) {
				c.sh.count.OutputStall.Add(1)
			}
			s.q.reset(errRequestCancelled)
			c.left(s)
		case due.Before(next):
			next = due
		}
	}
	return next
}

// followed is how long a change of the client's address may go unnoticed beside
// the octets of tunnels. A request is always told where it comes from.
const followed = 100 * time.Millisecond

// follow notices that the client's address has changed (RFC 9000 section 9).
func (c *conn) follow() {
	c.looked = c.sh.loop.Now()
	at := c.q.remote()
	if at == c.client.Remote || !at.IsValid() {
		return
	}
	moved := *c.client
	moved.Remote = at
	from := c.client.Remote
	c.client = &moved
	c.context = nil
	c.sh.count.Moved.Add(1)
	if f := c.sh.srv.Moved; f != nil {
		f(&moved, from, at)
	}
}
