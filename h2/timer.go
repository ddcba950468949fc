package h2

import (
	"math"
	"time"

	"wsgate/bridge"
)

const (
	drainPayload = "wsgdrain"
	alivePayload = "wsgalive"
)

// wake sees to it that tick runs at the given time or before. Deadlines are
// looked at lazily: what pushes one back touches no timer.
func (c *conn) wake(at int64) {
	if c.phase == phaseClosed || c.timerAt != 0 && c.timerAt <= at {
		return
	}
	c.timerAt = at
	c.sh.loop.After(time.Duration(max(at-c.sh.now(), 0)), &c.timer)
}

// watchStall returns the present time for a stream's stall clock, ms modulo
// 2^32 and never 0, and sees to it that somebody looks at it.
func (c *conn) watchStall() uint32 {
	now := c.sh.now()
	c.wake(now + int64(c.sh.lim.stall))
	return stallClock(now)
}

func stallClock(now int64) uint32 { return uint32(now/int64(time.Millisecond)) | 1 }

// deadlines collects the earliest time at which something is due.
type deadlines struct{ now, next int64 }

// due reports whether since+d has come; since 0 is never.
func (t *deadlines) due(since int64, d time.Duration) bool {
	if since == 0 {
		return false
	}
	at := since + int64(d)
	if at <= t.now {
		return true
	}
	t.next = min(t.next, at)
	return false
}

// tick looks at all clocks of the connection.
func (c *conn) tick() {
	c.timerAt = 0
	if c.phase == phaseClosed {
		return
	}
	t := deadlines{c.sh.now(), math.MaxInt64}
	n := c.sh.count
	switch {
	case t.due(c.closeAt, 0):
		c.finish(true)
	case c.phase == phaseClosing:
	case c.phase < phaseOpen && t.due(c.birth, c.sh.lim.headerTime):
		n.PrefaceTimeout.Add(1)
		c.timeout(errProtocol, "no preface and SETTINGS in time")
	case t.due(c.partial, c.sh.lim.headerTime):
		n.HeaderTimeout.Add(1)
		c.timeout(errCalm, "incomplete frame or header block")
	case t.due(c.stuck, stuckTime):
		n.NeverReads.Add(1)
		c.timeout(errCalm, "client does not read its control frames")
	case t.due(c.outStall, c.sh.lim.stall):
		n.OutputStall.Add(1)
		c.dead(bridge.ReasonTimeout)
	default:
		c.tickStreams(&t)
	}
	if c.phase != phaseClosed && t.next != math.MaxInt64 {
		c.wake(t.next)
	}
}

// tickStreams looks at the clocks of streams, idleness and silence.
func (c *conn) tickStreams(t *deadlines) {
	if c.drainPing && t.due(c.drainAt, drainTime) {
		c.drainFinal()
	}
	if c.slots == 0 && t.due(c.idleSince, c.sh.lim.idle) {
		c.sh.count.IdleTimeout.Add(1)
		c.closeWith(errNone, &bridge.ResetError{Reason: bridge.ReasonTimeout})
		return
	}
	for _, s := range c.streams {
		c.tickStall(s, t)
	}
	if c.pinged != 0 && c.lastRead > c.pinged {
		c.pinged = 0
	}
	switch {
	case c.phase < phaseOpen: // has a clock of its own
	case c.pinged != 0:
		if t.due(c.pinged, c.sh.lim.alive) {
			c.sh.count.KeepAlive.Add(1)
			c.dead(bridge.ReasonGone)
		}
	case t.due(c.lastRead, c.sh.lim.alive):
		c.pinged = t.now
		c.sendPing(alivePayload)
		t.due(t.now, c.sh.lim.alive)
	}
}

// tickStall resets a tunnel whose waiting octets do not move.
func (c *conn) tickStall(s *stream, t *deadlines) {
	if s.web != nil || s.off != nil { // the exchange and the bridge have clocks of their own
		return
	}
	for _, since := range [2]uint32{s.stallIn, s.stallOut} {
		if since == 0 {
			continue
		}
		for_ := time.Duration(stallClock(t.now)-since) * time.Millisecond
		if for_ >= c.sh.lim.stall {
			c.sh.count.StallTimeout.Add(1)
			c.rst(s.id, errCancel)
			c.lose(s, &bridge.ResetError{Reason: bridge.ReasonTimeout})
			return
		}
		t.next = min(t.next, t.now+int64(c.sh.lim.stall-for_)+int64(time.Millisecond))
	}
}

// timeout ends the connection for a bound of time.
func (c *conn) timeout(code ErrCode, reason string) {
	c.closeWith(code, &bridge.ResetError{Reason: bridge.ReasonTimeout, Cause: &ConnectionError{code, reason}})
}

// dead gives a connection up that answers nothing.
func (c *conn) dead(why bridge.Reason) {
	c.breakAll(&bridge.ResetError{Reason: why, Remote: why == bridge.ReasonGone})
	c.finish(true)
}

// drain begins the orderly end: the client learns that no new stream is wanted
// before any is refused (RFC 9113 section 6.8).
func (c *conn) drain() {
	if c.draining || c.phase >= phaseClosing {
		return
	}
	c.draining, c.drainPing = true, true
	c.sendGoaway(maxStreamID, errNone)
	c.sendPing(drainPayload)
	c.drainAt = c.sh.now()
	c.wake(c.drainAt + int64(drainTime))
}

// drainFinal is the second GOAWAY: after a round trip the client's last
// streams are known.
func (c *conn) drainFinal() {
	c.drainPing = false
	c.goaway = c.lastID
	c.sendGoaway(c.lastID, errNone)
	c.sh.later(c)
}

// endIfDrained closes a drained connection after its last stream.
func (c *conn) endIfDrained() {
	if c.draining && !c.drainPing && c.slots == 0 && c.phase < phaseClosing {
		c.phase = phaseClosing
		c.lastWords()
	}
}
