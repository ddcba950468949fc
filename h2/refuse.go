package h2

import (
	"strconv"

	"wsgate/bridge"
)

// refusal carries the content of an ordinary answer in the place of a tunnel
// from memory or from a backend to a stream. It is the Far of the stream; body
// is its face to the backend.
type refusal struct {
	s    *stream
	rest []byte        // of Refusal.Body
	from bridge.Stream // nil: rest is all
	left int64         // of from, -1 if unknown
	end  bool          // from is at its end
}

// Refuse implements bridge.Offer.
func (o *offer) Refuse(r *bridge.Refusal) {
	s := o.s
	if !o.settleOffer() {
		if r.Stream != nil {
			r.Stream.Reset(bridge.ReasonGone)
		}
		return
	}
	status, body, from, length := r.Status, r.Body, r.Stream, int64(len(r.Body))
	foreign := r.Foreign
	fields := r.Fields
	if status < 300 || status > 999 {
		// A 2xx to CONNECT would mean an open tunnel (RFC 9110 section 9.3.6),
		// 101 does not exist (RFC 9113 section 8.6).
		status, body, length, foreign, fields = 502, nil, 0, false, nil
		if from != nil {
			from.Reset(bridge.ReasonProtocol)
			from = nil
		}
	}
	if from != nil {
		length, body = r.Length, nil
	}
	c := s.c
	b := c.appendFields(c.beginBlock(status), fields)
	if !foreign && len(body) > 0 && fields.Count("content-type") == 0 {
		b = appendField(b, "content-type", "text/plain; charset=utf-8")
	}
	if status == 304 { // RFC 9110 section 15.4.5: no content
		if from != nil {
			from.Reset(bridge.ReasonUnknown)
		}
		body, from, length = nil, nil, 0
	} else if length >= 0 {
		b = appendField(b, "content-length", strconv.FormatInt(length, 10))
	}
	f := &refusal{s: s, rest: body, from: from, left: length}
	empty := from == nil && len(body) == 0
	c.sendBlock(s.id, b, empty)
	s.far = f
	s.dropQueue() // early data is for no one
	switch {
	case empty:
		s.flags |= sentEnded
		f.over()
	case from != nil:
		from.Bind((*refusalBody)(f))
	default:
		f.pump()
	}
}

// pump writes the content that lies in memory.
func (f *refusal) pump() {
	f.rest = f.rest[f.s.Write(f.rest):]
	if len(f.rest) == 0 {
		f.s.CloseWrite()
		f.over()
	}
}

// over ends the stream after the whole answer (RFC 9113 section 8.1).
func (f *refusal) over() {
	s := f.s
	if !s.has(recvEnded) {
		s.abort(errNone)
		return
	}
	s.flags |= endGiven // early END_STREAM is for no one either
	s.settle()
}

// Want implements bridge.Far.
func (f *refusal) Want() int { return 64 << 10 }

// Data implements bridge.Far: what a refused client still sends is dropped.
func (f *refusal) Data(p []byte) int { return len(p) }

// End implements bridge.Far.
func (f *refusal) End() {}

// Broken implements bridge.Far.
func (f *refusal) Broken(*bridge.ResetError) {
	if f.from != nil && !f.end {
		f.from.Reset(bridge.ReasonFarSide)
	}
}

// Writable implements bridge.Far.
func (f *refusal) Writable() {
	if f.from != nil {
		f.from.Resume()
	} else if !f.s.has(sentEnded) {
		f.pump()
	}
}

// refusalBody is the Far of a backend's answer.
type refusalBody refusal

// Want implements bridge.Far.
func (f *refusalBody) Want() int { return f.s.Room() }

// Data implements bridge.Far.
func (f *refusalBody) Data(p []byte) int {
	if f.left >= 0 && int64(len(p)) > f.left {
		f.cut()
		return len(p)
	}
	n := f.s.Write(p)
	if f.left >= 0 {
		f.left -= int64(n)
	}
	return n
}

// End implements bridge.Far.
func (f *refusalBody) End() {
	f.end = true
	if f.left > 0 {
		f.cut()
		return
	}
	f.s.CloseWrite()
	(*refusal)(f).over()
}

// Broken implements bridge.Far: an answer cut short never looks complete.
func (f *refusalBody) Broken(*bridge.ResetError) {
	f.end = true
	f.s.abort(errInternal)
}

// Writable implements bridge.Far.
func (f *refusalBody) Writable() {}

// cut ends an answer whose length is not what was announced.
func (f *refusalBody) cut() {
	if !f.end {
		f.end = true
		f.from.Reset(bridge.ReasonProtocol)
	}
	f.s.abort(errInternal)
}
