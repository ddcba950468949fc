package h3

import (
	"net/http"
	"strconv"

	"wsgate/bridge"
	"wsgate/internal/exchange"
	"wsgate/internal/head"
)

// webStream is the ordinary request on a stream. It implements
// exchange.Responder.
type webStream struct {
	s       *stream
	x       *exchange.Exchange // nil until it is started
	request *http.Request      // until then
	wait    bridge.Timer
	left    int64 // of Content-Length, -1 if there is none
	owed    int   // octets given to the handler and not yet credited
	trailer http.Header
}

// start starts the handler, once.
func (w *webStream) start(content bool) {
	if w.x != nil || w.s.has(isCut) {
		return
	}
	w.wait.Stop()
	r := w.request
	w.request = nil
	if !content {
		r.ContentLength = 0
	}
	w.x = exchange.New(w.s.c.sh.loop, w.s.c.sh.srv.Exchange, r, content, w)
}

// gone tells the handler that the client is lost.
func (w *webStream) gone(err error) {
	if w.x == nil { // nobody has begun
		w.wait.Stop()
		w.s.flags &^= held
		return
	}
	w.x.Gone(err)
}

// content hands a piece of the request's content to the handler, as much as may
// be owed.
func (w *webStream) content(p []byte) (int, error) {
	w.start(true)
	if w.left >= 0 && int64(len(p)) > w.left {
		return 0, w.wrongLength()
	}
	n := min(len(p), exchange.BodyWindow-w.owed)
	if n <= 0 {
		return 0, nil
	}
	if w.left >= 0 {
		w.left -= int64(n)
	}
	w.owed += n
	w.x.Data(p[:n])
	return n, nil
}

// wrongLength is RFC 9114 section 4.1.2.
func (w *webStream) wrongLength() error {
	return streamErr(errMessage, "content is not as long as Content-Length says")
}

// trailers takes the trailer section (RFC 9114 section 4.1).
func (w *webStream) trailers(fields bridge.Fields) error {
	w.start(true)
	trailer, why := head.Trailers(fields)
	if why != "" {
		return streamErr(errMessage, why)
	}
	w.trailer = trailer
	return nil
}

// remoteEnd is the end of the request's content.
func (w *webStream) remoteEnd() error {
	if w.left > 0 {
		return w.wrongLength()
	}
	if w.x == nil {
		w.start(false)
	} else {
		w.x.End(w.trailer)
	}
	w.s.settle()
	return nil
}

// Interim implements exchange.Responder.
func (w *webStream) Interim(status int, h http.Header) {
	s := w.s
	if status == http.StatusSwitchingProtocols || s.has(isCut|isOver|sentEnded|answered) {
		return // RFC 9114 section 4.5
	}
	s.c.sh.begin(status)
	s.c.sh.addHeader(h)
	s.sendHead(false)
}

// Head implements exchange.Responder.
func (w *webStream) Head(status int, h http.Header, length int64, end bool) {
	s := w.s
	if s.has(isCut | isOver | sentEnded) {
		return
	}
	s.flags |= answered
	sh := s.c.sh
	sh.begin(status)
	sh.addHeader(h)
	if length >= 0 && len(h["Content-Length"]) == 0 {
		sh.enc.put("content-length", strconv.FormatInt(length, 10))
	}
	if len(h["Date"]) == 0 {
		sh.addDate()
	}
	s.sendHead(end)
	if end {
		s.settle()
	}
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
	s.c.sh.fresh()
	s.c.sh.addHeader(trailer)
	s.sendHead(true)
	s.settle()
}

// Abort implements exchange.Responder.
func (w *webStream) Abort() { w.s.abort(errInternal) }

// Credit implements exchange.Responder.
func (w *webStream) Credit(n int) {
	w.owed -= n
	if !w.s.has(isCut | isOver) {
		w.s.q.resume()
	}
}

// Done implements exchange.Responder: the handler has returned.
func (w *webStream) Done() {
	s := w.s
	if !s.has(isOver) && !s.has(recvEnded) {
		// RFC 9114 section 4.1: the rest of the content is not wanted.
		s.abort(errNone)
	}
	s.unhold()
}
