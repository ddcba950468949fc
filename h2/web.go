package h2

import (
	"context"
	"net"
	"net/http"
	"strconv"

	"wsgate/internal/exchange"
	"wsgate/internal/field"
	"wsgate/internal/head"
)

// webStream is the ordinary request on a stream. It implements
// exchange.Responder.
type webStream struct {
	s       *stream
	x       *exchange.Exchange
	left    int64 // of Content-Length, -1 if there is none
	trailer http.Header
}

// serve starts the handler of an ordinary request.
func (c *conn) serve(id uint32, q *head.Request, end bool) {
	x := c.sh.srv.Exchange
	if x == nil || x.Handler == nil {
		c.answer(id, 404, codeNoHandler, end)
		return
	}
	r := c.httpRequest(q, end)
	s := c.open(id, end)
	s.flags |= held // until Done
	s.web = &webStream{s: s, left: q.Length}
	s.web.x = exchange.New(c.sh.loop, x, r, !end, s.web)
}

// httpRequest makes the http.Request. Its URL has the scheme that the client used.
func (c *conn) httpRequest(q *head.Request, end bool) *http.Request {
	if c.ctx == nil {
		c.ctx = context.Background()
		c.remote = c.client.Remote.String()
		if c.client.Local.IsValid() {
			var local net.Addr = net.TCPAddrFromAddrPort(c.client.Local)
			c.ctx = context.WithValue(c.ctx, http.LocalAddrContextKey, local)
		}
	}
	return q.HTTP(c.ctx, 2, q.TransportScheme(c.front()), c.remote, c.client, end)
}

// content hands a piece of the request's content to the handler.
func (w *webStream) content(p []byte) error {
	if w.left >= 0 {
		if int64(len(p)) > w.left {
			return w.wrongLength()
		}
		w.left -= int64(len(p))
	}
	w.x.Data(p)
	return nil
}

// wrongLength is RFC 9113 section 8.1.1.
func (w *webStream) wrongLength() error {
	return streamErr(w.s.id, errProtocol, "content is not as long as Content-Length says")
}

// remoteEnd is the end of the request's content.
func (w *webStream) remoteEnd() error {
	if w.left > 0 {
		return w.wrongLength()
	}
	w.x.End(w.trailer)
	w.s.settle()
	return nil
}

// Interim implements exchange.Responder.
func (w *webStream) Interim(status int, h http.Header) {
	s := w.s
	if status == 101 || s.has(isCut|isOver|sentEnded|answered) {
		return // RFC 9113 section 8.6
	}
	s.c.sendBlock(s.id, appendHeader(s.c.beginBlock(status), h), false)
}

// Head implements exchange.Responder.
func (w *webStream) Head(status int, h http.Header, length int64, end bool) {
	s := w.s
	if s.has(isCut | isOver | sentEnded) {
		return
	}
	s.flags |= answered
	b := appendHeader(s.c.beginBlock(status), h)
	if length >= 0 && len(h["Content-Length"]) == 0 {
		b = appendField(b, "content-length", strconv.FormatInt(length, 10))
	}
	if len(h["Date"]) == 0 {
		b = s.c.sh.appendDate(b)
	}
	s.c.sendBlock(s.id, b, end)
	if end {
		s.flags |= sentEnded
		s.settle()
	}
}

func appendHeader(b []byte, h http.Header) []byte {
	for name, values := range h {
		if field.HopByHop(name) {
			continue
		}
		for _, v := range values {
			b = appendField(b, name, v)
		}
	}
	return b
}

// Room implements exchange.Responder.
func (w *webStream) Room() int { return w.s.Room() }

// Write implements exchange.Responder.
func (w *webStream) Write(p []byte) int { return w.s.Write(p) }

// End implements exchange.Responder.
func (w *webStream) End(trailer http.Header) {
	s := w.s
	if len(trailer) == 0 || s.has(isCut|isOver|sentEnded) {
		s.CloseWrite()
		return
	}
	b := s.c.sh.block[:0]
	if s.c.tableNote {
		s.c.tableNote = false
		b = append(b, 0x20)
	}
	s.flags |= sentEnded
	s.c.sendBlock(s.id, appendHeader(b, trailer), true)
	s.settle()
}

// Abort implements exchange.Responder.
func (w *webStream) Abort() { w.s.abort(errInternal) }

// Credit implements exchange.Responder.
func (w *webStream) Credit(n int) {
	if !w.s.has(isCut | isOver) {
		w.s.credit(n)
	}
}

// Done implements exchange.Responder: the handler has returned.
func (w *webStream) Done() {
	s := w.s
	if !s.has(isOver) && !s.has(recvEnded) {
		// RFC 9113 section 8.1: the rest of the content is not wanted.
		s.abort(errNone)
	}
	if s.has(held) {
		if s.has(isOver) {
			s.c.release(s)
		} else {
			s.flags &^= held
		}
	}
}
