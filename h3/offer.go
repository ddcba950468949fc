package h3

import (
	"wsgate/bridge"
	"wsgate/internal/head"
	"wsgate/internal/refusal"
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

// makeOffer makes a bridge.Offer of a judged request.
func (s *stream) makeOffer(q *head.Request) {
	c := s.c
	if c.tunnels >= c.sh.lim.tunnels {
		c.sh.count.TunnelLimit.Add(1)
		s.answer(503, codeTunnelLimit)
		return
	}
	c.sh.count.Tunnels.Add(1)
	s.flags |= isTunnel
	c.tunnels++
	o := &offer{s: s}
	o.hs = bridge.Handshake{
		Major: 3, Scheme: "https", Authority: q.Authority, Path: q.Path,
		Fields: q.EndToEnd(), Client: c.client, Key: q.Key(),
	}
	s.off = o
	c.sh.srv.Offer(o)
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

// left tells the owner that the client has left before the answer. The slot is
// free once the owner has heard of it.
func (o *offer) left(err *bridge.ResetError) {
	if o.done {
		o.s.flags &^= held
		return
	}
	if o.gone == nil {
		o.lost = err
		return
	}
	o.done = true
	s := o.s
	s.flags &^= held
	o.gone(err)
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

// Accept implements bridge.Offer: 200, and the stream is a tunnel (RFC 9220 section
// 3).
func (o *offer) Accept(fields bridge.Fields) bridge.Side {
	s := o.s
	if o.settleOffer() {
		sh := s.c.sh
		sh.begin(200)
		sh.addFields(fields)
		s.sendHead(false)
	} else {
		s.broke = &bridge.ResetError{Reason: bridge.ReasonGone, Remote: true}
	}
	return s
}

// Refuse implements bridge.Offer.
func (o *offer) Refuse(r *bridge.Refusal) {
	s := o.s
	if !o.settleOffer() {
		refusal.Drop(r, bridge.ReasonGone)
		return
	}
	s.far = refusal.Send(r, (*refusalWire)(s))
	if !s.has(isCut | isOver) {
		s.q.resume() // early data is for no one
	}
}

// refusalWire is how a refusal goes out.
type refusalWire stream

// Head implements refusal.Wire.
func (w *refusalWire) Head(status int, fields bridge.Fields, more bridge.Fields, end bool) {
	s := (*stream)(w)
	sh := s.c.sh
	sh.begin(status)
	sh.addFields(fields)
	for _, f := range more {
		sh.enc.put(f.Name, f.Value)
	}
	s.sendHead(end)
}

// Room implements refusal.Wire.
func (w *refusalWire) Room() int { return (*stream)(w).Room() }

// Write implements refusal.Wire.
func (w *refusalWire) Write(p []byte) int { return (*stream)(w).Write(p) }

// End implements refusal.Wire.
func (w *refusalWire) End() { (*stream)(w).CloseWrite() }

// Over implements refusal.Wire.
func (w *refusalWire) Over() { (*stream)(w).enough() }

// Cut implements refusal.Wire.
func (w *refusalWire) Cut() { (*stream)(w).abort(errInternal) }

// Sent implements refusal.Wire.
func (w *refusalWire) Sent() bool { return (*stream)(w).has(sentEnded) }
