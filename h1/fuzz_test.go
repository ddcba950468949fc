package h1

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"wsgate/bridge"
	"wsgate/internal/exchange"
)

// playFront feeds in to a connection in pieces and returns all that came of it,
// with the handlers run to their end. offers are refused, the second accepted.
func playFront(in string, piece int) string {
	var saw strings.Builder
	f := newFront(func(s *Server) {
		s.MaxHeader, s.MaxTarget = 2<<10, 1<<10
		s.H2 = func(l bridge.Loop, t bridge.Side, c *bridge.Client) {
			saw.WriteString("h2\n")
			t.Bind(&sink{room: -1})
		}
		// The handler reads all there is: an answer before that would depend on time.
		s.Exchange = &exchange.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Seen", fmt.Sprintf("%s %s %s %d %d %q %q", r.Method, r.Host, r.RequestURI, len(r.Header), r.ContentLength, b, r.Trailer))
		})}
	})
	n := 0
	f.s.Offer = func(o bridge.Offer) {
		h := o.Handshake()
		fmt.Fprintf(&saw, "offer %q %q %q %d\n", h.Authority, h.Path, h.Key, len(h.Fields))
		if n++; n == 1 {
			o.Refuse(&bridge.Refusal{Status: 403, Code: "no"})
			return
		}
		k := &sink{room: -1}
		o.Accept(nil).Bind(k)
	}
	f.t.piece = piece
	for rest := in; rest != ""; {
		k := len(rest)
		if piece > 0 {
			k = min(k, piece)
		}
		f.t.send(rest[:k])
		rest = rest[k:]
		f.settle()
	}
	if c := f.conn(); c != nil && (cap(c.scan.buf) > 8<<10 || cap(c.body.trailer) > 2*maxTrailer) {
		panic("buffer over its bound")
	}
	out := datesAway.ReplaceAllString(f.t.output(), "")
	// Whether the handler read before the content was there is a matter of time.
	out = strings.ReplaceAll(out, "HTTP/1.1 100 Continue\r\n\r\n", "")
	what := fmt.Sprintf("%s%s finished %v reset %v", out, saw.String(), f.t.finished, f.t.reset)
	f.t.break_(&bridge.ResetError{Reason: bridge.ReasonReset})
	return what
}

// FuzzFront: arbitrary octets from a client never panic, stay within the
// bounds, and mean the same whole and octet by octet.
func FuzzFront(f *testing.F) {
	for _, s := range []string{
		get, get + get, up + "\n", up + "\n" + get, up + "\n" + up + "\n\x81\x00", "\n" + get,
		"POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5;x=y\nhello\n0\nA: b\n\n" + get,
		"POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello" + get,
		"POST / HTTP/1.1\nHost: a\nContent-Length: 5\nExpect: 100-continue\n\nhello" + get,
		"OPTIONS * HTTP/1.0\n\n", "GET http://b HTTP/1.1\nHost: a\n\n", "PRI * HTTP/2.0\n\nSM\n\n", "PRI * HTTP/1.1\nHost: a\n\n",
		"GET / HTTP/1.1\nHost: a\nX: " + strings.Repeat("a", 3000), "GET /" + strings.Repeat("a", 3000), "CONNECT a:1 HTTP/1.1\n\n",
	} {
		f.Add(crlf(s))
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 16<<10 {
			return
		}
		whole := playFront(in, 0)
		for _, piece := range []int{1, 3} {
			if got := playFront(in, piece); got != whole {
				t.Errorf("in pieces of %d: got\n%q\nwhole\n%q", piece, got, whole)
			}
		}
	})
}

// playResponse feeds a backend's answer in pieces and returns what came of it,
// its content included.
func playResponse(t *testing.T, in string, piece int) string {
	o := open(t, &Backend{MaxHead: 2 << 10}, handshake(), piece)
	// One key for all plays, or its digest would make contents differ.
	o.a.key = "dGhlIHNhbXBsZSBub25jZQ=="
	in = strings.ReplaceAll(in, "$ACCEPT", o.answer("$ACCEPT"))
	k := &sink{room: -1}
	bound := false
	step := func() {
		if bound || o.calls == 0 {
			return
		}
		bound = true
		if r, ok := o.err.(*bridge.Refusal); ok && r.Stream != nil {
			r.Stream.Bind(k)
		} else if o.side != nil {
			o.side.Bind(k)
		}
		o.l.turn()
	}
	for rest := in; rest != ""; {
		n := len(rest)
		if piece > 0 {
			n = min(n, piece)
		}
		o.s.send(rest[:n])
		step()
		rest = rest[n:]
	}
	o.s.end()
	step()
	if o.calls > 1 || o.l.lent != 0 {
		t.Errorf("got %d answers and %d buffers held", o.calls, o.l.lent)
	}
	broken := ""
	if k.broken != nil {
		broken = k.broken.Error()
	}
	return fmt.Sprintf("%s %q %s content %q ends %d %s", o.what(), show(o.fields), errFields(o.err), k.got, k.ends, broken)
}

func errFields(err error) string {
	if r, ok := err.(*bridge.Refusal); ok {
		return fmt.Sprintf("%q %d", show(r.Fields), r.Length)
	}
	return ""
}

// FuzzResponse: arbitrary octets from a backend never panic, stay within the
// bounds, and mean the same whole and octet by octet.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		good + "\n", good + "\n\x81\x05hello", "HTTP/1.1 103 E\n\n" + good + "Sec-WebSocket-Protocol: chat\n\n",
		good + "Sec-WebSocket-Extensions: permessage-deflate; x=\"y\\\"\n\n",
		"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "HTTP/1.1 404 N\n\nhello", "HTTP/1.0 500 N\nConnection: x\nX: y\n\n",
		"HTTP/1.1 404 N\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\nrest", "HTTP/1.1 404 N\nTransfer-Encoding: chunked\n\n5\nhel",
		"HTTP/1.1 204 N\n\n", "SSH-2.0-x\n", "HTTP/2.0 200 OK\n\n", "HTTP/1.1 404 N\nX : y\n\n", "HTTP/1.1 404 N\nX: " + strings.Repeat("a", 3000),
	} {
		f.Add(crlf(s))
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if len(in) > 16<<10 {
			return
		}
		whole := playResponse(t, in, 0)
		for _, piece := range []int{1, 3} {
			if got := playResponse(t, in, piece); got != whole {
				t.Errorf("in pieces of %d: got\n%q\nwhole\n%q", piece, got, whole)
			}
		}
	})
}
