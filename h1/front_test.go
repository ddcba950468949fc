package h1

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/internal/exchange"
)

// front is one connection of a Server over a fake transport.
type front struct {
	l      *fakeLoop
	s      *Server
	t      *fakeSide
	client *bridge.Client
	seen   chan string // what handlers saw of each request
	offers []bridge.Offer
}

// newFront serves a connection. A handler reads the request's content and
// echoes it; every offer is kept for the test to answer.
func newFront(edit func(*Server)) *front {
	f := &front{l: newFakeLoop(), seen: make(chan string, 100)}
	f.t = newFakeSide(f.l)
	f.client = &bridge.Client{Remote: netip.MustParseAddrPort("192.0.2.1:1234"), Local: netip.MustParseAddrPort("192.0.2.2:80")}
	f.s = &Server{
		Counters: new(Counters),
		Offer:    func(o bridge.Offer) { f.offers = append(f.offers, o) },
		Exchange: &exchange.Config{Handler: http.HandlerFunc(f.serve)},
	}
	if edit != nil {
		edit(f.s)
	}
	f.s.Serve(f.l, f.t, f.client)
	f.l.turn()
	return f
}

func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	f.seen <- fmt.Sprintf("%s %s %s %q", r.Method, r.Host, r.RequestURI, b)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Fields", strings.Join(names(r.Header), ","))
	fmt.Fprintf(w, "ok %s %s", r.RequestURI, b)
}

func names(h http.Header) (n []string) {
	for k := range h {
		n = append(n, k)
	}
	return n
}

// settle runs the loop until the connection waits for its client or is gone.
func (f *front) settle() {
	f.l.await(func() bool { return f.conn() == nil || f.conn().state != stOrdinary || f.conn().work.idle() })
}

// idle: nothing will come from the handler before the client sends more.
func (o *ordinary) idle() bool { return !o.c.body.ended }

func (f *front) conn() *conn {
	c, _ := f.t.far.(*conn)
	return c
}

var (
	statusLine = regexp.MustCompile(`HTTP/1\.1 (\d\d\d)`)
	datesAway  = regexp.MustCompile(`Date: [^\r]*\r\n`)
)

// statuses lists the status codes in what was written.
func statuses(out string) string {
	var s []string
	for _, m := range statusLine.FindAllStringSubmatch(out, -1) {
		s = append(s, m[1])
	}
	return strings.Join(s, " ")
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

const (
	get = "GET / HTTP/1.1\nHost: a\n\n"
	up  = "GET /chat HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: " + clientKey + "\n"
)

// TestFrontTable: what a client sends, which statuses it gets, what the handlers
// saw, how many offers there were, and whether the connection ends.
func TestFrontTable(t *testing.T) {
	long := strings.Repeat("a", 20<<10)
	chunked := func(b string) string {
		return "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n" + b
	}
	const twice = "; " // of what handlers saw
	for _, tc := range []struct {
		row, send, statuses, seen string
		offers                    int
		ends                      bool
	}{
		{"get", get, "200", `GET a / ""`, 0, false},
		{"pipelined", get + get, "200 200", `GET a / ""` + twice + `GET a / ""`, 0, false},
		{"close", "GET / HTTP/1.1\nHost: a\nConnection: x, Close\n\n" + get, "200", `GET a / ""`, 0, true},
		{"1.0", "GET / HTTP/1.0\nConnection: keep-alive\n\n" + get, "200", `GET  / ""`, 0, true},

		{"164", up + "\n", "", "", 1, false},
		{"165 POST", strings.Replace(up, "GET", "POST", 1) + "\n", "400", "", 0, false},
		{"165 HEAD", strings.Replace(up, "GET", "HEAD", 1) + "\n", "400", "", 0, false},
		{"165 1.0", strings.Replace(up, "1.1", "1.0", 1) + "\n", "400", "", 0, true},
		{"166 none", strings.Split(up, "Sec-WebSocket-Key")[0] + "\n", "400", "", 0, false},
		{"166 two", up + "Sec-WebSocket-Key: " + clientKey + "\n\n", "400", "", 0, false},
		{"166 17 octets", strings.Replace(up, clientKey, "AAAAAAAAAAAAAAAAAAAAAAA=", 1) + "\n", "400", "", 0, false},
		{"61", strings.Replace(up, "Sec-WebSocket-Version: 13\n", "", 1) + "\n", "400", "", 0, false},
		{"167", strings.Replace(up, "Connection: Upgrade", "Connection: keep-alive\nconnection: foo, upgrade", 1) + "\n", "", "", 1, false},
		{"168", strings.Replace(up, "Connection: Upgrade\n", "", 1) + "\n", "200", `GET a /chat ""`, 0, false},
		{"169", strings.Replace(up, "Upgrade: websocket", "Upgrade: h2c\nUpgrade: foo, WebSocket", 1) + "\n", "", "", 1, false},
		{"169 foo", strings.Replace(up, "Upgrade: websocket", "Upgrade: foo", 1) + "\n", "200", `GET a /chat ""`, 0, false},
		{"171", up + "Content-Length: 5\n\nhello" + get, "400", "", 0, true},
		{"171 chunked", up + "Transfer-Encoding: chunked\n\n0\n\n" + get, "400", "", 0, true},
		{"179", strings.Replace(up, "/chat", "ws://b:81/chat", 1) + "\n", "", "", 1, false},
		{"226", up + "Content-Length: 0\n\n", "", "", 1, false},
		{"222", "GET / HTTP/1.1\nHost: a\nUpgrade: h2c\nHTTP2-Settings: AAMAAABk\nConnection: Upgrade, HTTP2-Settings\n\n", "200", `GET a / ""`, 0, false},

		{"179 ordinary", "GET http://b/x?y HTTP/1.1\nHost: a\n\n", "200", `GET b /x?y ""`, 0, false},
		{"absolute, no path", "GET HTTPS://b?y HTTP/1.1\nHost: a\n\n", "200", `GET b /?y ""`, 0, false},
		{"absolute, ftp", "GET ftp://b/ HTTP/1.1\nHost: a\n\n", "400", "", 0, false},
		{"absolute, userinfo", "GET http://u@b/ HTTP/1.1\nHost: a\n\n", "400", "", 0, false},
		{"authority-form", "GET b:80 HTTP/1.1\nHost: a\n\n", "400", "", 0, false},
		{"48 dots", "GET /a/%2e./b HTTP/1.1\nHost: a\n\n", "400", "", 0, false},
		{"48 fragment", "GET /a#b HTTP/1.1\nHost: a\n\n", "400", "", 0, false},
		{"48 utf-8", "GET /\u00e9 HTTP/1.1\nHost: a\n\n", "400", "", 0, false},
		{"48 no URL", "GET /a%zz?x=%zz HTTP/1.1\nHost: a\n\n", "200", `GET a /a%zz?x=%zz ""`, 0, false},
		{"48 slashes", "GET //b/c HTTP/1.1\nHost: a\n\n", "200", `GET a //b/c ""`, 0, false},
		{"*", "OPTIONS * HTTP/1.1\nHost: a\n\n", "200", `OPTIONS a * ""`, 0, false},
		{"* with GET", "GET * HTTP/1.1\nHost: a\n\n", "400", "", 0, false},
		{"200 OPTIONS", "OPTIONS /x HTTP/1.1\nHost: a\nMax-Forwards: 0\n\n", "200", `OPTIONS a /x ""`, 0, false},
		{"200 OPTIONS 1", "OPTIONS /x HTTP/1.1\nHost: a\nMax-Forwards: 1\n\n", "200", `OPTIONS a /x ""`, 0, false},
		{"200 TRACE", "TRACE / HTTP/1.1\nHost: a\n\n", "200", `TRACE a / ""`, 0, false},
		{"204 +5", "POST / HTTP/1.1\nHost: a\nContent-Length: +5\n\nhello", "400", "", 0, true},
		{"204 5,5", "POST / HTTP/1.1\nHost: a\nContent-Length: 5, 5\n\nhello", "200", `POST a / "hello"`, 0, false},
		{"204 5 and 6", "POST / HTTP/1.1\nHost: a\nContent-Length: 5\nContent-Length: 6\n\nhello", "400", "", 0, true},
		{"204 huge", "POST / HTTP/1.1\nHost: a\nContent-Length: 99999999999999999999\n\nhello", "400", "", 0, true},

		{"206 none", "GET / HTTP/1.1\n\n", "400", "", 0, true},
		{"206 two", "GET / HTTP/1.1\nHost: a\nHost: a\n\n", "400", "", 0, true},
		{"206 space", "GET / HTTP/1.1\nHost: a b\n\n", "400", "", 0, true},
		{"206 list", "GET / HTTP/1.1\nHost: a, b\n\n", "400", "", 0, true},
		{"206 empty", "GET / HTTP/1.1\nHost:\n\n", "400", "", 0, true},
		{"207", "GET / HTTP/1.1\nHost: a\nFoo : bar\n\n", "400", "", 0, true},
		{"208", "GET / HTTP/1.1\nHost: a\nFoo: bar\n baz\n\n", "400", "", 0, true},
		{"209", "GET / HTTP/1.1\n Host: a\n\n", "400", "", 0, true},
		{"210 bare CR", "GET / HTTP/1.1\nHost: a\nFoo: b\rc\n\n", "400", "", 0, true},
		{"211", "\n" + get, "200", `GET a / ""`, 0, false},
		{"211 twice", "\n\n" + get, "400", "", 0, true},
		{"211 between", get + "\n" + get, "200 200", `GET a / ""` + twice + `GET a / ""`, 0, false},
		{"212 1.2", strings.Replace(get, "1.1", "1.2", 1), "200", `GET a / ""`, 0, false},
		{"212 2.0", strings.Replace(get, "1.1", "2.0", 1), "505", "", 0, true},
		{"212 0.9", strings.Replace(get, "1.1", "0.9", 1), "505", "", 0, true},
		{"212 none", "GET /\n", "", "", 0, false}, // the head is not over
		{"212 none, over", "GET /\n\n", "400", "", 0, true},
		{"212 case", strings.Replace(get, "HTTP", "http", 1), "400", "", 0, true},
		{"212 preface", "PRI * HTTP/2.0\n\nSM\n\n", "505", "", 0, true},
		{"213 spaces", "GET  /  HTTP/1.1\nHost: a\n\n", "400", "", 0, true},
		{"213 tab", "GET\t/ HTTP/1.1\nHost: a\n\n", "400", "", 0, true},
		{"213 0x0b", "GET /\x0b HTTP/1.1\nHost: a\n\n", "400", "", 0, false},
		{"213 trailing", "GET / HTTP/1.1 \nHost: a\n\n", "400", "", 0, true},
		{"214 target", "GET /" + long + " HTTP/1.1\nHost: a\n\n", "414", "", 0, true},
		{"214 fields", "GET / HTTP/1.1\nHost: a\nX: " + strings.Repeat("a", 65<<10) + "\n\n", "431", "", 0, true},
		{"214 lines", "GET / HTTP/1.1\nHost: a\n" + strings.Repeat("X: a\n", 200) + "\n", "431", "", 0, true},
		{"no spaces", long, "400", "", 0, true},
		{"TLS", "\x16\x03\x01\x02\x00\x01", "400", "", 0, true},

		{"215", "POST / HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n\n0\n\n" + get, "400", "", 0, true},
		{"216 CL.TE", "POST / HTTP/1.1\nHost: a\nContent-Length: 6\nTransfer-Encoding: chunked\n\n0\n\nG" + get, "400", "", 0, true},
		{"216 xchunked", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: xchunked\n\n0\n\n" + get, "400", "", 0, true},
		{"216 0x0b", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: \x0bchunked\n\n0\n\n" + get, "400", "", 0, true},
		{"216 identity", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked, identity\n\n0\n\n" + get, "400", "", 0, true},
		{"216 two lines", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTransfer-Encoding: x\n\n0\n\n" + get, "400", "", 0, true},
		{"216 twice", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked, chunked\n\n0\n\n" + get, "400", "", 0, true},
		{"217", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip\n\n", "400", "", 0, true},
		{"217 unknown", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked\n\n", "501", "", 0, true},
		{"218 good", chunked("5;a=\"b c\" ; d\nhello\n03\nabc\n0\nX-T: 1\n\n") + get, "200 200", `POST a / "helloabc"` + twice + `GET a / ""`, 0, false},
		{"218 1_0", chunked("1_0\n"), "400", `POST a / ""`, 0, true},
		{"218 0x", chunked("0x10\n"), "400", `POST a / ""`, 0, true},
		{"218 +", chunked("+10\n"), "400", `POST a / ""`, 0, true},
		{"218 blank", chunked("10 \n"), "400", `POST a / ""`, 0, true},
		{"218 none", chunked("\n"), "400", `POST a / ""`, 0, true},
		{"218 17 digits", chunked("00000000000000001\n"), "400", `POST a / ""`, 0, true},
		{"218 no CRLF", chunked("5\nhellox"), "400", `POST a / "hello"`, 0, true},
		{"219", chunked("5;" + strings.Repeat("x", 1<<20)), "400", `POST a / ""`, 0, true},
		{"219 many", chunked(strings.Repeat("1;"+strings.Repeat("x", 1000)+"\na\n", 30)), "400", "*", 0, true},
		{"trailer fold", chunked("0\nX: a\n b\n\n"), "400", `POST a / ""`, 0, true},
		{"trailer size", chunked("0\nX: " + strings.Repeat("a", 17<<10)), "400", `POST a / ""`, 0, true},
		{"220", "CONNECT b:80 HTTP/1.1\nHost: b:80\n\n" + get, "501", "", 0, true},
		{"220 no Host", "CONNECT b:80 HTTP/1.1\n\n", "501", "", 0, true},
	} {
		for _, piece := range []int{0, 1} {
			f := newFront(nil)
			f.t.piece = piece
			f.t.send(crlf(tc.send))
			f.settle()
			out := f.t.output()
			if got := statuses(out); got != tc.statuses {
				t.Errorf("row %s, pieces %d: got statuses %q, want %q", tc.row, piece, got, tc.statuses)
			}
			if got := f.t.finished; got != tc.ends {
				t.Errorf("row %s, pieces %d: got connection ended %v, want %v (%.300q)", tc.row, piece, got, tc.ends, out)
			}
			if tc.ends && tc.statuses != "" && !strings.Contains(out, "\r\nConnection: close\r\n") {
				t.Errorf("row %s: got no Connection: close in %.300q", tc.row, out)
			}
			if len(f.offers) != tc.offers {
				t.Errorf("row %s, pieces %d: got %d offers, want %d", tc.row, piece, len(f.offers), tc.offers)
			}
			if got := f.saw(strings.Count(tc.seen, twice) + min(1, len(tc.seen))); got != tc.seen && tc.seen != "*" {
				t.Errorf("row %s, pieces %d: handlers saw %q, want %q", tc.row, piece, got, tc.seen)
			}
			if partial := f.conn() != nil && f.conn().scan.partial(); f.l.lent != 0 && !partial {
				t.Errorf("row %s: got %d buffers held, want 0", tc.row, f.l.lent)
			}
		}
	}
}

// saw waits for n handlers and returns what all have seen.
func (f *front) saw(n int) string {
	var s []string
	for range n {
		s = append(s, <-f.seen)
	}
	for {
		select {
		case x := <-f.seen:
			s = append(s, x)
		default:
			return strings.Join(s, "; ")
		}
	}
}

// Row 210: one rule for heads and chunk lines.
func TestBareLF(t *testing.T) {
	for _, send := range []string{
		"GET / HTTP/1.1\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\n\n",
		"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
	} {
		f := newFront(nil)
		f.t.send(send)
		f.settle()
		if got, want := statuses(f.t.output()), "400"; got != want || !f.t.finished {
			t.Errorf("%q: got %q, ended %v, want %q and the end", send, got, f.t.finished, want)
		}
	}
}

// Rows 164, 166, 175 to 177: the octets of the 101.
func TestAccept(t *testing.T) {
	for _, tc := range []struct{ name, send, want string }{
		{"plain", up + "\n", "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nSet-Cookie: a\nSet-Cookie: b\n\n"},
		{"row 175", up + "Expect: 100-Continue\n\n", "HTTP/1.1 100 Continue\n\nHTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nSet-Cookie: a\nSet-Cookie: b\n\n"},
	} {
		f := newFront(nil)
		f.t.send(crlf(tc.send))
		h := f.offers[0].Handshake()
		if h.Key != clientKey || h.Path != "/chat" || h.Authority != "a" || h.Scheme != "http" || h.Major != 1 || h.Client != f.client {
			t.Errorf("%s: got handshake %+v", tc.name, h)
		}
		if got, want := show(h.Fields), "Sec-WebSocket-Version: 13\n"; got != want {
			t.Errorf("%s: got fields %q, want %q", tc.name, got, want)
		}
		side := f.offers[0].Accept(bridge.Fields{{Name: "Sec-WebSocket-Accept", Value: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}, {Name: "Content-Length", Value: "0"}, {Name: "Set-Cookie", Value: "a"}, {Name: "Set-Cookie", Value: "b"}})
		if got, want := f.t.output(), crlf(tc.want); got != want {
			t.Errorf("%s: got %q, want %q", tc.name, got, want)
		}
		if side != bridge.Side(f.t) {
			t.Errorf("%s: got side %T, want the transport", tc.name, side)
		}
		if got := f.s.Connections(); got != 0 || f.l.lent != 0 {
			t.Errorf("%s: got %d connections and %d buffers, want none", tc.name, got, f.l.lent)
		}
	}
}

func TestSynthesizeKey(t *testing.T) {
	f := newFront(func(s *Server) { s.SynthesizeKey = true })
	f.t.send(crlf(strings.Split(up, "Sec-WebSocket-Key")[0] + "\n"))
	if len(f.offers) != 1 || f.offers[0].Handshake().Key != "" {
		t.Fatalf("got %d offers, want one without a key", len(f.offers))
	}
	f = newFront(func(s *Server) { s.SynthesizeKey = true })
	f.t.send(crlf(strings.Replace(up, clientKey, "bad", 1) + "\n"))
	if got, want := statuses(f.t.output()), "400"; got != want || len(f.offers) != 0 {
		t.Errorf("invalid key: got %q and %d offers, want %q and none", got, len(f.offers), want)
	}
}

// Row 174: octets behind the handshake are the tunnel's after a 101, the next
// request after a refusal.
func TestPipelinedBehindHandshake(t *testing.T) {
	for _, piece := range []int{0, 1} {
		f := newFront(nil)
		f.t.piece = piece
		f.t.send(crlf(up + "\n" + get))
		if got := f.t.output(); got != "" {
			t.Fatalf("got %q before the answer, want nothing", got)
		}
		k := &sink{room: -1}
		f.offers[0].Accept(nil).Bind(k)
		f.l.turn()
		if got, want := string(k.got), crlf(get); got != want {
			t.Errorf("accepted: got %q, want %q", got, want)
		}

		f = newFront(nil)
		f.t.piece = piece
		f.t.send(crlf(up + "\n" + get))
		f.offers[0].Refuse(&bridge.Refusal{Status: 403, Code: "no"})
		f.l.await(func() bool { return strings.Contains(string(f.t.out), "200 OK") })
		if got, want := statuses(f.t.output()), "403 200"; got != want {
			t.Errorf("refused: got %q, want %q", got, want)
		}
	}
}

// Rows 170, 172, 227: refusals are ordinary answers and the connection goes on.
func TestRefuse(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    *bridge.Refusal
		want string
	}{
		{
			"row 170", &bridge.Refusal{Status: 426, Code: "wrong-version", Fields: bridge.Fields{{Name: "Sec-WebSocket-Version", Value: "13"}}},
			"HTTP/1.1 426 Upgrade Required\nSec-WebSocket-Version: 13\nContent-Type: text/plain; charset=utf-8\nCache-Control: no-store\nContent-Length: 36\nUpgrade: websocket\nConnection: Upgrade\n\n426 upgrade required: wrong-version\n",
		},
		{
			"row 172", &bridge.Refusal{Status: 200, Foreign: true, Body: []byte("hi"), Fields: bridge.Fields{{Name: "Upgrade", Value: "websocket"}, {Name: "X", Value: "y"}}},
			"HTTP/1.1 200 OK\nX: y\nContent-Length: 2\n\nhi",
		},
		{"204", &bridge.Refusal{Status: 204, Foreign: true}, "HTTP/1.1 204 No Content\n\n"},
		{"no content", &bridge.Refusal{Status: 401, Foreign: true}, "HTTP/1.1 401 Unauthorized\nContent-Length: 0\n\n"},
	} {
		f := newFront(nil)
		f.t.send(crlf(up + "\n"))
		f.offers[0].Refuse(tc.r)
		f.l.turn()
		if got := strings.ReplaceAll(datesAway.ReplaceAllString(f.t.output(), ""), "\r\n", "\n"); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
		f.t.send(crlf(get))
		f.settle()
		if got := statuses(f.t.output()); got != "200" {
			t.Errorf("%s: next request got %q, want 200", tc.name, got)
		}
	}
}

// TestOwnAnswers: one plain line, the same as on the other front.
func TestOwnAnswers(t *testing.T) {
	for _, tc := range []struct{ name, send, want string }{
		{
			"target", "GET /a/../b HTTP/1.1\nHost: a\n\n",
			"HTTP/1.1 400 Bad Request\nContent-Type: text/plain; charset=utf-8\nCache-Control: no-store\nContent-Length: 27\n\n400 bad request: path-dots\n",
		},
		{
			"utf-8", "GET /\u00e9 HTTP/1.1\nHost: a\n\n",
			"HTTP/1.1 400 Bad Request\nContent-Type: text/plain; charset=utf-8\nCache-Control: no-store\nContent-Length: 28\n\n400 bad request: bad-target\n",
		},
		{
			"HEAD", "HEAD /a/%2e/b HTTP/1.1\nHost: a\n\n",
			"HTTP/1.1 400 Bad Request\nContent-Type: text/plain; charset=utf-8\nCache-Control: no-store\nContent-Length: 27\n\n",
		},
		{
			"CONNECT", "CONNECT b:80 HTTP/1.1\nHost: b:80\n\n",
			"HTTP/1.1 501 Not Implemented\nContent-Type: text/plain; charset=utf-8\nCache-Control: no-store\nContent-Length: 43\nConnection: close\n\n501 not implemented: connect-not-supported\n",
		},
	} {
		f := newFront(nil)
		f.t.send(crlf(tc.send))
		out := f.t.output()
		if got := strings.ReplaceAll(datesAway.ReplaceAllString(out, ""), "\r\n", "\n"); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
		if !datesAway.MatchString(out) {
			t.Errorf("%s: got no Date in %q", tc.name, out)
		}
	}
}

// stream is a bridge.Stream that the test plays.
type stream struct {
	far     bridge.Far
	resumed int
	reset   bool
}

func (s *stream) Bind(f bridge.Far)   { s.far = f }
func (s *stream) Resume()             { s.resumed++ }
func (s *stream) Reset(bridge.Reason) { s.reset = true }

func TestRefuseWithStream(t *testing.T) {
	begin := func(length int64) (*front, *stream) {
		f := newFront(nil)
		f.t.send(crlf(up + "\n"))
		st := new(stream)
		f.offers[0].Refuse(&bridge.Refusal{Status: 404, Foreign: true, Stream: st, Length: length})
		f.l.turn()
		return f, st
	}
	f, st := begin(5)
	st.far.Data([]byte("hel"))
	st.far.Data([]byte("lo"))
	st.far.End()
	f.l.turn()
	if got := f.t.output(); !strings.HasSuffix(got, "\r\nContent-Length: 5\r\n\r\nhello") {
		t.Errorf("length: got %q", got)
	}
	f, st = begin(-1)
	st.far.Data([]byte("hel"))
	st.far.Data([]byte("lo"))
	st.far.End()
	f.t.send(crlf(get))
	f.settle()
	if got := f.t.output(); !strings.Contains(got, "\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n") || statuses(got) != "404 200" {
		t.Errorf("chunked: got %q", got)
	}
	for _, length := range []int64{5, -1} {
		f, st = begin(length)
		st.far.Data([]byte("hel"))
		st.far.Broken(&bridge.ResetError{Reason: bridge.ReasonTruncated})
		f.l.turn()
		if !f.t.reset || strings.Contains(string(f.t.out), "0\r\n\r\n") {
			t.Errorf("cut short: got reset %v and %q, want a reset", f.t.reset, f.t.out)
		}
	}
	f, st = begin(-1)
	f.t.break_(&bridge.ResetError{Reason: bridge.ReasonReset, Remote: true})
	if !st.reset {
		t.Error("client gone: got the stream going on, want it reset")
	}
	// Back-pressure: what the client does not take stays with the stream.
	f, st = begin(1 << 20)
	f.t.cap = 100
	big := make([]byte, 20<<10)
	if got := st.far.Data(big); got >= len(big) {
		t.Errorf("full client: got %d octets taken, want fewer", got)
	}
	if got := st.far.Want(); got != 0 {
		t.Errorf("full client: got Want %d, want 0", got)
	}
	f.t.open(1 << 20)
	if st.resumed != 1 || st.far.Want() == 0 {
		t.Errorf("room again: got %d resumes, Want %d, want one and more than 0", st.resumed, st.far.Want())
	}
	f.t.open(0)
	st.far.Data(big)
	f.l.pass(time.Minute)
	if !f.t.reset || !st.reset {
		t.Errorf("stalled client: got reset %v, stream reset %v, want both", f.t.reset, st.reset)
	}
}

// The client leaves before the answer, or ends its direction.
func TestOfferGone(t *testing.T) {
	f := newFront(nil)
	f.t.send(crlf(up + "\n"))
	var gone *bridge.ResetError
	f.offers[0].OnGone(func(e *bridge.ResetError) { gone = e })
	f.t.break_(&bridge.ResetError{Reason: bridge.ReasonReset, Remote: true})
	if gone == nil || gone.Reason != bridge.ReasonReset || f.s.Connections() != 0 {
		t.Errorf("got %v and %d connections, want the reset and none", gone, f.s.Connections())
	}

	f = newFront(nil)
	f.t.send(crlf(up + "\n"))
	gone = nil
	f.offers[0].OnGone(func(e *bridge.ResetError) { gone = e })
	f.t.end()
	if gone != nil {
		t.Fatalf("end of the client's direction: got %v, want the offer to go on", gone)
	}
	k := &sink{room: -1}
	f.offers[0].Accept(nil).Bind(k)
	f.l.turn()
	if k.ends != 1 {
		t.Errorf("got %d ends in the tunnel, want 1", k.ends)
	}
}

// The transport takes the 101 only in pieces: the tunnel's octets come after it.
func TestSlow101(t *testing.T) {
	f := newFront(nil)
	f.t.send(crlf(up + "\n"))
	f.t.cap = 20
	side := f.offers[0].Accept(nil)
	k := &sink{room: -1}
	side.Bind(k)
	f.l.turn()
	if got := side.Room() + side.Write([]byte("frame")); got != 0 {
		t.Errorf("got %d octets of room, want 0 before the 101 is out", got)
	}
	side.CloseWrite()
	if f.t.closed {
		t.Error("got the end before the 101 is out")
	}
	f.t.open(30)
	f.t.open(1 << 10)
	if got, want := f.t.output(), crlf("HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n\n"); got != want || !f.t.closed {
		t.Errorf("got %q, ended %v, want %q and the end", got, f.t.closed, want)
	}
	f.t.send("abc")
	if got := string(k.got); got != "abc" {
		t.Errorf("got %q from the client, want %q", got, "abc")
	}
}

// A request that comes in parts is acknowledged at once, so that a client with
// Nagle's algorithm sends the rest; one that comes whole by its answer.
func TestAcknowledgeParts(t *testing.T) {
	const get = "GET / HTTP/1.1\nHost: h\n\n"
	for _, tc := range []struct {
		name, first, rest string
		want              int // after the first part
	}{
		{"whole", get, get, 0},
		{"handshake", up + "\n", "", 0},
		{"content in the same piece", "POST / HTTP/1.1\nHost: h\nContent-Length: 2\n\nab", "", 0},
		{"head in parts", "GET / HT", "TP/1.1\nHost: h\n\n", 1},
		{"an octet as in the preface of HTTP/2", "P", "OST / HTTP/1.1\nHost: h\nContent-Length: 1\n\na", 1},
		{"content to come", "POST / HTTP/1.1\nHost: h\nContent-Length: 3\n\na", "bc", 1},
		{"chunks to come", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n", "0\r\n\r\n", 1},
	} {
		f := newFront(func(s *Server) { s.H2 = func(bridge.Loop, bridge.Side, *bridge.Client) {} })
		f.t.send(crlf(tc.first))
		if f.t.acks != tc.want {
			t.Errorf("%s: got %d calls after the first part, want %d", tc.name, f.t.acks, tc.want)
		}
		f.settle()
		f.t.send(crlf(tc.rest))
		f.settle()
		if f.t.acks != tc.want {
			t.Errorf("%s: got %d calls after all of it, want %d", tc.name, f.t.acks, tc.want)
		}
	}
}
