package h2

import (
	"wsgate/bridge"
	"wsgate/internal/field"
	"wsgate/internal/head"
)

// offer is an extended CONNECT that waits for its answer. It implements
// bridge.Offer and is let go of with the answer.
type offer struct {
	s    *stream
	hs   bridge.Handshake
	gone func(*bridge.ResetError)
	lost *bridge.ResetError // the client left before OnGone was set
	done bool
}

// offer makes a bridge.Offer of a judged request.
func (c *conn) offer(id uint32, q *head.Request) {
	if c.client.Tunnels >= c.sh.lim.tunnels {
		c.sh.count.TunnelLimit.Add(1)
		c.answer(id, 503, codeTunnelLimit, false)
		return
	}
	c.sh.count.Tunnels.Add(1)
	s := c.open(id, false)
	s.flags |= isTunnel
	c.client.Tunnels++
	o := &offer{s: s}
	o.hs = bridge.Handshake{
		Major: 2, Scheme: q.TransportScheme(c.front()), Authority: q.Authority, Path: q.Path,
		Fields: q.EndToEnd(), Client: c.client,
		Key: q.Key(),
	}
	s.off = o
	c.sh.srv.Offer(o)
}

// trusted reports whether the peer's word on the scheme counts.
func (c *conn) trusted() bool {
	f := c.sh.srv.TrustScheme
	return f != nil && f(c.client)
}

// Loop implements bridge.Offer.
func (o *offer) Loop() bridge.Loop { return o.s.c.sh.loop }

// Handshake implements bridge.Offer.
func (o *offer) Handshake() *bridge.Handshake { return &o.hs }

// OnGone implements bridge.Offer.
func (o *offer) OnGone(f func(*bridge.ResetError)) {
	o.gone = f
	if o.lost != nil && !o.done {
		o.done = true
		o.Loop().Post(func() {
			f(o.lost)
			o.s.c.release(o.s)
		})
	}
}

// settleOffer marks the offer as answered. It reports whether the client is
// still there.
func (o *offer) settleOffer() bool {
	if o.done {
		return false
	}
	o.done = true
	s := o.s
	if o.lost != nil {
		s.c.release(s)
	}
	if s.has(isCut) {
		return false
	}
	s.off = nil
	s.flags |= answered
	return true
}

// Accept implements bridge.Offer: 200, and the stream is a tunnel (RFC 8441
// section 5).
func (o *offer) Accept(fields bridge.Fields) bridge.Side {
	s := o.s
	if o.settleOffer() {
		c := s.c
		b := c.beginBlock(200)
		b = c.appendFields(b, fields)
		c.sendBlock(s.id, b, false)
	} else {
		s.flags |= lateBreak
	}
	return s
}

// appendFields encodes the end-to-end fields of an answer; framing belongs to
// this connection (RFC 9113 section 8.2.2, RFC 9110 section 9.3.6).
func (c *conn) appendFields(b []byte, fields bridge.Fields) []byte {
	dated := false
	for i := range fields {
		name := fields[i].Name
		if field.HopByHop(name) || field.Same(name, "content-length") {
			continue
		}
		dated = dated || field.Same(name, "date")
		b = appendField(b, name, fields[i].Value)
	}
	if !dated {
		b = c.sh.appendDate(b)
	}
	return b
}
