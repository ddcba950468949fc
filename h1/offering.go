package h1

import (
	"sync/atomic"

	"wsgate/bridge"
)

// offer is one opening handshake of a client: a bridge.Offer.
type offer struct {
	c    *conn // nil once answered or lost
	l    bridge.Loop
	h    bridge.Handshake
	gone func(*bridge.ResetError)
}

var _ bridge.Offer = (*offer)(nil)

// startOffer asks whether there shall be a tunnel.
func (c *conn) startOffer() {
	r := c.req
	o := &offer{c: c, l: c.l}
	o.h = bridge.Handshake{
		Major: 1, Scheme: "http", Authority: r.authority, Path: r.path,
		Key: r.key, Client: c.client,
	}
	if c.client.TLS != nil {
		o.h.Scheme = "https"
	}
	o.h.Fields = r.fields()
	c.state, c.offer = stOffer, o
	c.s.count(func(n *Counters) *atomic.Uint64 { return &n.Handshakes })
	c.s.Offer(o)
}

// Loop implements bridge.Offer.
func (o *offer) Loop() bridge.Loop { return o.l }

// Handshake implements bridge.Offer.
func (o *offer) Handshake() *bridge.Handshake { return &o.h }

// OnGone implements bridge.Offer.
func (o *offer) OnGone(f func(*bridge.ResetError)) { o.gone = f }

func (o *offer) lost(e *bridge.ResetError) {
	o.c = nil
	if o.gone != nil {
		o.gone(e)
	}
}

// Accept implements bridge.Offer: 101, and the transport is the tunnel's with
// all that waits in it (RFC 6455 section 4.2.2).
func (o *offer) Accept(f bridge.Fields) bridge.Side {
	c := o.c
	o.c = nil
	c.s.count(func(n *Counters) *atomic.Uint64 { return &n.Accepted })
	b := c.output(512)
	if c.req.expect { // RFC 9110 section 7.8: 100 before 101
		b = append(b, "HTTP/1.1 100 Continue\r\n\r\n"...)
	}
	c.out = appendSwitch(b, f)
	c.send()
	side := c.t
	if c.out != nil || c.fin {
		side = &carry{l: c.l, t: c.t, out: append([]byte(nil), c.out...), fin: c.fin}
	}
	c.leave()
	return side
}

// Refuse implements bridge.Offer.
func (o *offer) Refuse(r *bridge.Refusal) {
	c := o.c
	o.c = nil
	c.s.count(func(n *Counters) *atomic.Uint64 { return &n.Refused })
	c.offer = nil
	c.endsHere()
	body, length := r.Body, r.Length
	own := body == nil && r.Stream == nil && !r.Foreign && r.Code != ""
	if own {
		body = []byte(ownLine(r.Status, r.Code))
	}
	if r.Stream == nil {
		length = int64(len(body))
	}
	p := planContent(r.Status, false, c.req.minor, length)
	b := appendStatus(c.output(512), r.Status)
	b = appendFields(b, r.Fields)
	if r.Fields.Count("Date") == 0 {
		b = appendDate(b, c.l.Now())
	}
	if own {
		b = append(b, ownFields...)
	}
	b = appendFraming(b, p)
	b = appendConnection(b, r.Status, c.closing)
	b = append(b, "\r\n"...)
	switch {
	case r.Stream != nil && p.kind != frameNone:
		c.write(b)
		c.startPump(r.Stream, p)
		return
	case r.Stream != nil:
		r.Stream.Reset(bridge.ReasonFarSide)
	case p.kind == frameNone:
	default:
		b = append(grow(c.l, b, len(body)), body...)
	}
	c.write(b)
	c.answered()
}

// pump passes the content of a backend's answer on: the Far of a Refusal's
// Stream. What the client does not take waits in the backend's socket.
type pump struct {
	out    contentOut
	stream bridge.Stream
	muted  bool
}

func (c *conn) startPump(s bridge.Stream, p plan) {
	q := &pump{stream: s}
	q.out.begin(c, p)
	c.state, c.pump = stRefusal, q
	s.Bind(q)
}

func (q *pump) resume() {
	if q.muted {
		q.muted = false
		q.stream.Resume()
	}
}

// live reports whether the connection still waits for this content.
func (q *pump) live() bool { return q.out.c.pump == q }

// Want implements bridge.Far.
func (q *pump) Want() int {
	n := 0
	if q.live() {
		n = q.out.room()
	}
	q.muted = n == 0
	return n
}

// Data implements bridge.Far.
func (q *pump) Data(p []byte) int {
	n := 0
	for q.live() && n < len(p) {
		k := q.out.write(p[n:])
		if n += k; k == 0 {
			break
		}
	}
	q.muted = n < len(p)
	return n
}

// End implements bridge.Far.
func (q *pump) End() {
	if !q.live() {
		return
	}
	c := q.out.c
	switch {
	case q.out.plan.kind == frameLength && q.out.left > 0:
		c.pump = nil
		c.abort(bridge.ReasonTruncated, errTruncated)
		return
	case q.out.plan.kind == frameChunked:
		c.write(append(c.output(8), "0\r\n\r\n"...))
	}
	c.answered()
}

// Broken implements bridge.Far: an answer cut short is never ended in order
// (RFC 9112 section 8).
func (q *pump) Broken(e *bridge.ResetError) {
	if q.live() {
		c := q.out.c
		c.pump = nil
		c.abort(bridge.ReasonFarSide, e)
	}
}

// Writable implements bridge.Far; nothing is written to the stream.
func (q *pump) Writable() {}
