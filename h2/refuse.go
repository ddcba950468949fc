package h2

import (
	"wsgate/bridge"
	"wsgate/internal/refusal"
)

// Refuse implements bridge.Offer.
func (o *offer) Refuse(r *bridge.Refusal) {
	s := o.s
	if !o.settleOffer() {
		refusal.Drop(r, bridge.ReasonGone)
		return
	}
	s.dropQueue() // early data is for no one
	s.far = refusal.Send(r, (*refusalWire)(s))
}

// refusalWire is how a refusal goes out. It implements refusal.Wire.
type refusalWire stream

// Head implements refusal.Wire.
func (w *refusalWire) Head(status int, fields, more bridge.Fields, end bool) {
	s := (*stream)(w)
	b := s.c.appendFields(s.c.beginBlock(status), fields)
	for _, f := range more {
		b = appendField(b, f.Name, f.Value)
	}
	s.c.sendBlock(s.id, b, end)
	if end {
		s.flags |= sentEnded
	}
}

// Room implements refusal.Wire.
func (w *refusalWire) Room() int { return (*stream)(w).Room() }

// Write implements refusal.Wire.
func (w *refusalWire) Write(p []byte) int { return (*stream)(w).Write(p) }

// End implements refusal.Wire.
func (w *refusalWire) End() { (*stream)(w).CloseWrite() }

// Sent implements refusal.Wire.
func (w *refusalWire) Sent() bool { return (*stream)(w).has(sentEnded) }

// Over implements refusal.Wire: the end of the stream after the whole answer (RFC
// 9113 section 8.1).
func (w *refusalWire) Over() {
	s := (*stream)(w)
	if !s.has(recvEnded) {
		s.abort(errNone)
		return
	}
	s.flags |= endGiven // early END_STREAM is for no one either
	s.settle()
}

// Cut implements refusal.Wire.
func (w *refusalWire) Cut() { (*stream)(w).abort(errInternal) }
