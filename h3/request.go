package h3

import (
	"context"
	"net"
	"net/http"
	"time"

	"wsgate/bridge"
	"wsgate/internal/head"
)

// The reason codes of answers of this package; package head has more.
const (
	codeFieldsTooLarge = "fields-too-large"
	codeNoHandler      = "no-handler"
	codeTunnelLimit    = "connection-tunnel-limit"
)

// request answers, refuses or serves a request whose head is complete. end says
// that FIN came with it; without it, it may still be all.
func (s *stream) request(fields bridge.Fields, over, end bool) error {
	c := s.c
	method := ""
	for i := range fields {
		if fields[i].Name == ":method" {
			method = fields[i].Value
		}
	}
	if method == http.MethodHead || method == "" { // one that is unknown may be HEAD
		s.flags |= isHead
	}
	if over {
		c.sh.count.HeaderLimit.Add(1)
		s.answer(431, codeFieldsTooLarge)
		return nil
	}
	q, why := head.Parse(fields)
	if why == "" && q.Extended() && !c.websocket {
		why = "extended CONNECT was not announced" // RFC 9220 section 3, RFC 8441 section 3
	}
	if why == "" && q.Method != http.MethodConnect && end && q.Length > 0 {
		why = "Content-Length without content" // RFC 9114 section 4.1.2
	}
	if why != "" {
		c.sh.count.Malformed.Add(1)
		if f := c.sh.srv.Rejected; f != nil {
			f(c.client, 0, "malformed: "+why)
		}
		return streamErr(errMessage, why) // RFC 9114 section 4.1.2
	}
	front := head.Front{TLS: true, PathDots: c.sh.srv.PathDots}
	if status, code := q.Judge(front, end); status != 0 {
		s.answer(status, code)
		return nil
	}
	if q.Extended() {
		s.makeOffer(&q)
	} else {
		s.serve(&q, end)
	}
	return nil
}

// serve makes an ordinary request and starts its handler once it is known whether
// it has content.
func (s *stream) serve(q *head.Request, end bool) {
	c := s.c
	x := c.sh.srv.Exchange
	if x == nil || x.Handler == nil {
		s.answer(404, codeNoHandler)
		return
	}
	s.flags |= held // until Done
	w := &webStream{s: s, left: q.Length, request: c.httpRequest(q, end || q.Length == 0)}
	s.web = w
	switch {
	case end || q.Length == 0:
		w.start(false)
	case q.Length > 0 || q.Method != http.MethodGet && q.Method != http.MethodHead:
		w.start(true)
	default:
		// A GET whose FIN comes by itself: it is not far behind.
		w.wait.Fire = func() { w.start(true) }
		c.sh.loop.After(finTime, &w.wait)
	}
}

// finTime is how long a GET without its end waits for what it is to be.
const finTime = 20 * time.Millisecond

// httpRequest makes the http.Request.
func (c *conn) httpRequest(q *head.Request, end bool) *http.Request {
	if c.context == nil {
		c.context = context.Background()
		c.remote = c.client.Remote.String()
		if c.client.Local.IsValid() {
			var local net.Addr = net.UDPAddrFromAddrPort(c.client.Local)
			c.context = context.WithValue(c.context, http.LocalAddrContextKey, local)
		}
	}
	return q.HTTP(c.context, 3, "https", c.remote, c.client, end)
}
