package h1

import (
	"strconv"
	"time"

	"wsgate/bridge"
)

// output returns the pending output to append to, with room for n octets more;
// write takes it back.
func (c *conn) output(n int) []byte {
	if c.out == nil {
		return c.l.Buffer(n)
	}
	return grow(c.l, c.out, n)
}

// write makes b, which came from output, the pending output. It leaves at the
// end of the turn, or at once when there is much of it.
func (c *conn) write(b []byte) {
	c.out = b
	if len(b) >= outEager {
		c.send()
		return
	}
	c.askFlush()
}

func (c *conn) askFlush() {
	if !c.flushing {
		c.flushing = true
		c.l.TurnEnd(c)
	}
}

// Flush implements bridge.Flusher.
func (c *conn) Flush() {
	c.flushing = false
	if c.state == stGone {
		return
	}
	c.send()
	if c.state == stClosing && c.out == nil {
		c.finish()
	}
}

// send gives the transport what it takes of the pending output.
func (c *conn) send() {
	if c.out == nil || c.blocked {
		return
	}
	n := c.t.Write(c.out)
	if n == len(c.out) {
		c.l.Free(c.out)
		c.out = nil
		return
	}
	c.out = c.out[:copy(c.out, c.out[n:])]
	c.block()
}

// block notes that the transport takes nothing until Writable.
func (c *conn) block() {
	c.blocked = true
	if c.stall.Fire == nil {
		c.stall.Fire = c.stalled
	}
	c.l.After(orDefault(c.s.StallTimeout, defaultStallTimeout), &c.stall)
}

func (c *conn) stalled() {
	if c.blocked {
		c.abort(bridge.ReasonTimeout, errStalled)
	}
}

// Writable implements bridge.Far.
func (c *conn) Writable() {
	if c.state == stGone {
		return
	}
	c.blocked = false
	c.send()
	if c.blocked {
		return
	}
	c.stall.Stop()
	switch c.state {
	case stHead:
		c.resume()
	case stOrdinary:
		c.work.x.Writable()
	case stRefusal:
		c.pump.resume()
	case stClosing:
		c.finish()
	}
}

// finish ends the connection in order, after all output: FIN, then what still
// comes is discarded until the client's FIN, for without that the last answer
// could be lost to a reset (RFC 9112 section 9.6).
func (c *conn) finish() {
	t := c.t
	linger := orDefault(c.s.Linger, defaultLinger)
	c.leave()
	if f, ok := t.(interface{ Finish(time.Duration) }); ok {
		f.Finish(linger)
		return
	}
	t.CloseWrite()
	d := &discard{t: t}
	d.timer.Fire = func() { t.Reset(bridge.ReasonTimeout) }
	c.l.After(linger, &d.timer)
	t.Bind(d)
}

// discard is the last owner of a transport that cannot end itself.
type discard struct {
	t     bridge.Side
	timer bridge.Timer
}

func (d *discard) Want() int                 { return outEager }
func (d *discard) Data(p []byte) int         { return len(p) }
func (d *discard) End()                      { d.timer.Stop(); d.t.Reset(bridge.ReasonUnknown) }
func (d *discard) Broken(*bridge.ResetError) { d.timer.Stop() }
func (d *discard) Writable()                 {}

// contentOut writes the content of one answer in its framing.
type contentOut struct {
	c    *conn
	plan plan
	left int64 // of Content-Length
}

func (o *contentOut) begin(c *conn, p plan) {
	o.c, o.plan = c, p
	if p.kind == frameLength {
		o.left = p.length
	}
}

// room is how much write takes.
func (o *contentOut) room() int {
	if o.c.blocked {
		return 0
	}
	return 2 * outEager
}

// write takes a prefix of p.
func (o *contentOut) write(p []byte) int {
	c := o.c
	if len(p) == 0 || c.blocked {
		return 0
	}
	switch o.plan.kind {
	case frameNone: // RFC 9110 section 9.3.2 and others: there is none
		return len(p)
	case frameChunked: // RFC 9112 section 7.1
		p = p[:min(len(p), 2*outEager)]
		b := c.output(len(p) + 20)
		b = strconv.AppendInt(b, int64(len(p)), 16)
		b = append(b, "\r\n"...)
		b = append(b, p...)
		c.write(append(b, "\r\n"...))
		return len(p)
	case frameLength:
		// RFC 9110 section 8.6: never more than was announced.
		if o.left < int64(len(p)) {
			p = p[:o.left]
		}
		n := o.plain(p)
		o.left -= int64(n)
		return n
	}
	return o.plain(p)
}

// plain writes p as it is, large pieces without a copy.
func (o *contentOut) plain(p []byte) int {
	c := o.c
	if len(p) < outEager/2 {
		c.write(append(c.output(len(p)), p...))
		return len(p)
	}
	if c.send(); c.blocked {
		return 0
	}
	n := c.t.Write(p)
	if n < len(p) {
		c.block()
	}
	return n
}
