// Package refusal sends an ordinary answer in the place of a tunnel on a stream of
// HTTP/2 or HTTP/3: the gateway's own from memory, a backend's as it comes.
package refusal

import (
	"strconv"

	"wsgate/bridge"
)

// Wire is a stream that an answer goes out on. Its methods are called on its loop.
type Wire interface {
	// Head sends the final head: the end-to-end fields, then more, whose names
	// are in lower case. With end the answer is over with it.
	Head(status int, fields, more bridge.Fields, end bool)
	// Room and Write are as those of bridge.Side.
	Room() int
	Write(p []byte) int
	// End ends our direction in order.
	End()
	// Sent reports whether it has ended.
	Sent() bool
	// Over ends the stream after a whole answer, whatever the client still sends.
	Over()
	// Cut ends an answer that cannot be completed, so that it never looks whole.
	Cut()
}

// Drop lets go of a refusal that nobody is there to hear.
func Drop(r *bridge.Refusal, why bridge.Reason) {
	if r.Stream != nil {
		r.Stream.Reset(why)
	}
}

// content carries the content of the answer. It is the Far of the stream; body is
// its face to the backend.
type content struct {
	w    Wire
	rest []byte        // of Refusal.Body
	from bridge.Stream // nil: rest is all
	left int64         // of from, -1 if unknown
	end  bool          // from is at its end
}

// Send sends the answer and returns the Far that the stream is bound to from now
// on; nothing of the client's is for anyone any more.
func Send(r *bridge.Refusal, w Wire) bridge.Far {
	status, body, from, length := r.Status, r.Body, r.Stream, int64(len(r.Body))
	foreign := r.Foreign
	fields := r.Fields
	if status < 300 || status > 999 {
		// A 2xx to CONNECT would mean an open tunnel (RFC 9110 section 9.3.6),
		// 101 does not exist (RFC 9113 section 8.6, RFC 9114 section 4.5).
		status, body, length, foreign, fields = 502, nil, 0, false, nil
		if from != nil {
			from.Reset(bridge.ReasonProtocol)
			from = nil
		}
	}
	if from != nil {
		length, body = r.Length, nil
	}
	var more bridge.Fields
	if !foreign && len(body) > 0 && fields.Count("content-type") == 0 {
		more = append(more, bridge.Field{Name: "content-type", Value: "text/plain; charset=utf-8"})
	}
	if status == 304 { // RFC 9110 section 15.4.5: no content
		if from != nil {
			from.Reset(bridge.ReasonUnknown)
		}
		body, from, length = nil, nil, 0
	} else if length >= 0 {
		more = append(more, bridge.Field{Name: "content-length", Value: strconv.FormatInt(length, 10)})
	}
	f := &content{w: w, rest: body, from: from, left: length}
	empty := from == nil && len(body) == 0
	w.Head(status, fields, more, empty)
	switch {
	case empty:
		w.Over()
	case from != nil:
		from.Bind((*backend)(f))
	default:
		f.pump()
	}
	return f
}

// pump writes the content that lies in memory.
func (f *content) pump() {
	f.rest = f.rest[f.w.Write(f.rest):]
	if len(f.rest) == 0 {
		f.w.End()
		f.w.Over()
	}
}

// Want implements bridge.Far.
func (f *content) Want() int { return 64 << 10 }

// Data implements bridge.Far: what a refused client still sends is dropped.
func (f *content) Data(p []byte) int { return len(p) }

// End implements bridge.Far.
func (f *content) End() {}

// Broken implements bridge.Far.
func (f *content) Broken(*bridge.ResetError) {
	if f.from != nil && !f.end {
		f.from.Reset(bridge.ReasonFarSide)
	}
}

// Writable implements bridge.Far.
func (f *content) Writable() {
	if f.from != nil {
		f.from.Resume()
	} else if !f.w.Sent() {
		f.pump()
	}
}

// backend is the Far of a backend's answer.
type backend content

// Want implements bridge.Far.
func (f *backend) Want() int { return f.w.Room() }

// Data implements bridge.Far.
func (f *backend) Data(p []byte) int {
	if f.left >= 0 && int64(len(p)) > f.left {
		f.cut()
		return len(p)
	}
	n := f.w.Write(p)
	if f.left >= 0 {
		f.left -= int64(n)
	}
	return n
}

// End implements bridge.Far.
func (f *backend) End() {
	f.end = true
	if f.left > 0 {
		f.cut()
		return
	}
	f.w.End()
	f.w.Over()
}

// Broken implements bridge.Far: an answer cut short never looks complete.
func (f *backend) Broken(*bridge.ResetError) {
	f.end = true
	f.w.Cut()
}

// Writable implements bridge.Far.
func (f *backend) Writable() {}

// cut ends an answer whose length is not what was announced.
func (f *backend) cut() {
	if !f.end {
		f.end = true
		f.from.Reset(bridge.ReasonProtocol)
	}
	f.w.Cut()
}
