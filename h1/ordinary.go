package h1

import (
	"context"
	"net"
	"net/http"
	"strings"

	"wsgate/bridge"
	"wsgate/internal/exchange"
)

// ordinary is a request that is served by a handler: the exchange.Responder of
// this connection.
type ordinary struct {
	c       *conn
	x       *exchange.Exchange
	window  int // content given to the exchange and not credited
	sent100 bool
	headOut bool // the final head is written
	ended   bool // the answer is complete
	given   bool // the connection is lost or cut: nothing more is written
	out     contentOut
}

var _ exchange.Responder = (*ordinary)(nil)

// startOrdinary hands the request to its handler.
func (c *conn) startOrdinary() {
	o := &ordinary{c: c}
	c.state, c.work = stOrdinary, o
	o.x = exchange.New(c.l, c.s.exchange(), c.httpRequest(), !c.body.ended, o)
	o.watch()
}

// httpRequest makes what a handler expects. The target it sees is the
// origin-form that was judged, whatever form it came in.
func (c *conn) httpRequest() *http.Request {
	r := c.req
	length := r.length
	q := &http.Request{
		Method: r.method, URL: exchange.URL(r.path), RequestURI: r.path, Host: r.authority,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: int(r.minor),
		ContentLength: length, Close: r.close,
		RemoteAddr: c.client.Remote.String(), TLS: c.client.TLS,
	}
	switch {
	case r.minor == 0:
		q.Proto = "HTTP/1.0"
	case r.kind == frameChunked:
		q.TransferEncoding = []string{"chunked"}
	}
	q.Header, q.Trailer = httpHeader(r.fields())
	local := net.TCPAddrFromAddrPort(c.client.Local)
	return q.WithContext(context.WithValue(context.Background(), http.LocalAddrContextKey, net.Addr(local)))
}

// httpHeader turns fields into a Header, and the names in Trailer into the
// announced trailers.
func httpHeader(f bridge.Fields) (h, trailer http.Header) {
	h = make(http.Header, len(f))
	values := make([]string, len(f)) // one allocation for nearly all names
	for i, x := range f {
		name := http.CanonicalHeaderKey(x.Name)
		if name == "Trailer" {
			if trailer == nil {
				trailer = make(http.Header)
			}
			for _, t := range strings.Split(x.Value, ",") {
				if t = http.CanonicalHeaderKey(strings.TrimSpace(t)); t != "" && !ofConnection(t) {
					trailer[t] = nil
				}
			}
			continue
		}
		if old := h[name]; old != nil {
			h[name] = append(old, x.Value)
			continue
		}
		values[i] = x.Value
		h[name] = values[i : i+1 : i+1]
	}
	return h, trailer
}

// watch sets the clock for content that has to come and may come.
func (o *ordinary) watch() {
	c := o.c
	if c.work != o {
		return
	}
	// Who waits for 100 (Continue) is not slow.
	if c.body.ended || o.window >= exchange.BodyWindow || c.req.expect && !o.sent100 {
		c.setClock(clockNone, 0)
		return
	}
	c.setClock(clockBody, orDefault(c.s.BodyTimeout, defaultBodyTimeout))
}

// want is the room in the window, with some for framing.
func (o *ordinary) want() int {
	if o.c.body.ended {
		return waitWant
	}
	n := exchange.BodyWindow - o.window
	if n <= 0 {
		return 0
	}
	return n + 64
}

// data takes request content.
func (o *ordinary) data(p []byte) int {
	c := o.c
	if c.body.ended {
		return 0
	}
	n, content, err := c.body.next(p, exchange.BodyWindow-o.window)
	if err != nil {
		code := codeBadChunk
		if err == errBareLF || err == errBareCR {
			code = codeBadLineEnd
		}
		o.fail(&wrong{400, code, true}, bridge.ReasonProtocol, err)
		return len(p)
	}
	if len(content) > 0 {
		o.window += len(content)
		o.x.Data(content)
	}
	if c.body.ended && !o.endContent() {
		return len(p)
	}
	if n > 0 {
		o.watch()
	}
	return n
}

// endContent tells the handler of the end, with the trailers.
func (o *ordinary) endContent() bool {
	f, err := o.c.body.trailers(false)
	if err != nil {
		o.fail(&wrong{400, codeBadField, true}, bridge.ReasonProtocol, err)
		return false
	}
	var t http.Header
	for _, x := range f {
		// RFC 9110 section 6.5.1: fields that frame or route are no trailers.
		if name := http.CanonicalHeaderKey(x.Name); !ofConnection(name) && name != "Host" {
			if t == nil {
				t = make(http.Header)
			}
			t[name] = append(t[name], x.Value)
		}
	}
	o.x.End(t)
	return true
}

// fail ends a request whose content is broken: by an answer if none was begun,
// else by cutting the connection.
func (o *ordinary) fail(w *wrong, r bridge.Reason, cause error) {
	c := o.c
	if o.headOut {
		c.abort(r, cause)
		return
	}
	c.work = nil
	o.given = true
	c.reject(w)
	o.x.Gone(cause)
}

// lost: the connection is gone.
func (o *ordinary) lost(e *bridge.ResetError) {
	o.given = true
	o.x.Gone(e)
}

// Interim implements exchange.Responder.
func (o *ordinary) Interim(status int, h http.Header) {
	c := o.c
	// RFC 9110 section 15.2: never to HTTP/1.0; section 15.2.1: 100 only to
	// who expects it.
	if o.given || o.headOut || c.req.minor == 0 || status == 100 && (!c.req.expect || o.sent100) {
		return
	}
	if status == 100 {
		o.sent100 = true
		o.watch()
	}
	b := appendStatus(c.output(256), status)
	b = appendHeader(b, h)
	c.write(append(b, "\r\n"...))
}

// Head implements exchange.Responder.
func (o *ordinary) Head(status int, h http.Header, length int64, end bool) {
	c := o.c
	if o.given {
		return
	}
	o.headOut = true
	c.endsHere()
	head := c.req.method == "HEAD"
	if end && length < 0 && !head {
		length = 0
	}
	p := planContent(status, head, c.req.minor, length)
	if p.kind == frameClose {
		c.closing = true
	}
	o.out.begin(c, p)
	b := appendStatus(c.output(512), status)
	b = appendHeader(b, h)
	b = appendFraming(b, p)
	b = appendConnection(b, status, c.closing)
	c.write(append(b, "\r\n"...))
	o.ended = end
}

// Room implements exchange.Responder.
func (o *ordinary) Room() int {
	if o.given { // what the handler still writes goes nowhere
		return outEager
	}
	return o.out.room()
}

// Write implements exchange.Responder.
func (o *ordinary) Write(p []byte) int {
	if o.given {
		return len(p)
	}
	return o.out.write(p)
}

// End implements exchange.Responder.
func (o *ordinary) End(trailer http.Header) {
	if o.given {
		return
	}
	o.ended = true
	c := o.c
	if o.out.plan.kind == frameChunked { // RFC 9112 section 7.1.2
		b := append(c.output(64), "0\r\n"...)
		b = appendHeader(b, trailer)
		c.write(append(b, "\r\n"...))
	}
}

// Abort implements exchange.Responder: an answer that was begun ends without
// its end (RFC 9112 section 8), else 500.
func (o *ordinary) Abort() {
	c := o.c
	if o.given {
		return
	}
	o.given = true
	c.work = nil
	if o.headOut {
		c.abort(bridge.ReasonInternal, http.ErrAbortHandler)
		return
	}
	c.reject(&wrong{500, codeHandlerFailed, true})
}

// Credit implements exchange.Responder.
func (o *ordinary) Credit(n int) {
	if o.given {
		return
	}
	o.window -= n
	o.watch()
	o.c.resume()
}

// Done implements exchange.Responder.
func (o *ordinary) Done() {
	if !o.given && o.ended {
		if o.sent100 {
			o.c.req.expect = false // the content is under way
		}
		o.c.answered()
	}
}
