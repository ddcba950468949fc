package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// eachFront runs a story on every front, each time with a gateway of its own.
func eachFront(t *testing.T, edit func(*gateway.Config), story func(r *rig, front string)) {
	for _, front := range frontNames {
		t.Run(strings.ReplaceAll(front, " ", "-"), func(t *testing.T) { story(start(t, edit), front) })
	}
}

// TestForwardedHead: what the backend sees of a request (rows 182, 185, 187,
// 188, 199, 202).
func TestForwardedHead(t *testing.T) {
	eachFront(t, nil, func(r *rig, front string) {
		fields := f("X-Forwarded-For", "192.0.2.1", "X-Forwarded-Host", "evil", "X-Forwarded-Proto", "gopher", "Forwarded", "for=192.0.2.1",
			"TE", "trailers", "Cookie", "a=1", "Accept-Encoding", "br", "User-Agent", "ua", "X-A", "1", "X-A", "2")
		if front != "h2" {
			fields = append(fields, f("Connection", "x-auth-user, x-forwarded-for, via, keep-alive", "X-Auth-User", "admin", "Keep-Alive", "5",
				"Proxy-Connection", "keep-alive", "Upgrade", "foo")...)
		}
		content := "hello"
		a := r.ask(front, "PUT", "/a%2fb//c?q=%zz&r", append(fields, f("Content-Length", "5")...), &content)
		b := r.next()
		h, err := b.ReadHead()
		r.must(err)
		if want := "PUT /a%2fb//c?q=%zz&r HTTP/1.1"; h.Line != want {
			t.Errorf("%s: request line: got %q, want %q", front, h.Line, want)
		}
		major, proto := "1.1", "https"
		if front == "h2" {
			major = "2"
		} else if front == "h1" {
			proto = "http"
		}
		for name, want := range map[string]string{
			"Host": "localhost", "Content-Length": "5", "Cookie": "a=1", "Accept-Encoding": "br", "User-Agent": "ua", "X-A": "1|2",
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost", "X-Forwarded-Proto": proto,
			"Transfer-Encoding": "", "Forwarded": "", "Connection": "", "X-Auth-User": "", "Keep-Alive": "", "Proxy-Connection": "", "Upgrade": "", "TE": "",
		} {
			if got := strings.Join(h.Fields.Values(name), "|"); got != want {
				t.Errorf("%s: %s at the backend: got %q, want %q", front, name, got, want)
			}
		}
		if via := h.Fields.Values("Via"); len(via) != 1 || !strings.HasPrefix(via[0], major+" wsgate-") {
			t.Errorf("%s: Via: got %q, want one of %s", front, via, major)
		}
		r.must(b.WantBytes([]byte("hello")))
		r.must(b.Write(simple("ok")))
		a.want("answer", 200, "ok")
	})
}

// TestAuthorityAndHost: row 181.
func TestAuthorityAndHost(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	get := func(pairs ...string) uint32 {
		return c.Headers(append(f(":method", "GET", ":scheme", "https", ":path", "/"), f(pairs...)...), true)
	}
	r.check("181", c.WantReset(get(":authority", "a", "host", "b"), http2.ErrCodeProtocol))
	for name, fields := range map[string][]string{
		"host alone": {"host", "a"}, "both the same": {":authority", "a", "host", "A:443"},
	} {
		id := get(fields...)
		b := r.next()
		h, err := b.ReadHead()
		r.must(err)
		if v := h.Fields.Values("Host"); len(v) != 1 || v[0] != "a" {
			t.Errorf("%s: Host: got %q, want one a", name, v)
		}
		r.must(b.Write(simple("ok")))
		b.Close()
		_, err = c.WantStatus(id, 200)
		r.check(name, err)
	}
	r.must(r.be.WantNone())
	for _, v := range []string{"+5", "5,6", "0x5", "5 5", "99999999999999999999", ""} { // row 204
		id := c.Headers(f(":method", "POST", ":scheme", "https", ":path", "/", ":authority", "a", "content-length", v), false)
		r.check("204 "+v, c.WantReset(id, http2.ErrCodeProtocol))
	}
	r.must(c.WantAlive())
	r.must(r.be.WantNone())
}

// TestTrustedProxy: a trusted peer's words are added to (row 202).
func TestTrustedProxy(t *testing.T) {
	eachFront(t, func(c *gateway.Config) { c.TrustedProxies = []string{"127.0.0.0/8"} }, func(r *rig, front string) {
		for _, tunnel := range []bool{false, true} {
			fields := f("X-Forwarded-For", "192.0.2.1", "X-Forwarded-For", "192.0.2.2", "X-Forwarded-Host", "public", "X-Forwarded-Proto", "https", "Forwarded", "for=192.0.2.1", "Via", "1.1 edge")
			switch {
			case !tunnel:
				r.ask(front, "GET", "/", fields, nil)
			case front == "h2":
				r.h2().Connect("/", lower(fields)...)
			default:
				r.must(r.h1(front != "h1").WriteString(rawpeer.UpgradeRequest("/", fields...)))
			}
			h, err := r.next().ReadHead()
			r.must(err)
			for name, want := range map[string]string{
				"X-Forwarded-For": "192.0.2.1, 192.0.2.2, 127.0.0.1", "X-Forwarded-Host": "public", "X-Forwarded-Proto": "https", "Forwarded": "for=192.0.2.1",
			} {
				if got := strings.Join(h.Fields.Values(name), ", "); got != want {
					t.Errorf("%s, tunnel %v: %s: got %q, want %q", front, tunnel, name, got, want)
				}
			}
			if via := strings.Join(h.Fields.Values("Via"), ", "); !strings.HasPrefix(via, "1.1 edge, ") {
				t.Errorf("%s, tunnel %v: Via: got %q, want it added to", front, tunnel, via)
			}
		}
	})
}

// TestLoop: a request that carries our own Via has come back (row 199).
func TestLoop(t *testing.T) {
	eachFront(t, nil, func(r *rig, front string) {
		a := r.ask(front, "GET", "/", nil, nil)
		b := r.next()
		h, err := b.ReadHead()
		r.must(err)
		r.must(b.Write(simple("ok")))
		a.want("first", 200, "ok")
		b.Close()
		via := f("Via", "1.0 other, "+h.Fields.Get("Via"))
		got := r.ask(front, "GET", "/", via, nil).answer()
		if got.status != "502" || !strings.Contains(got.body, "loop") {
			t.Errorf("%s: got %s %q, want 502 loop", front, got.status, got.body)
		}
		if front == "h2" {
			c := r.h2()
			_, err = c.WantStatus(c.Connect("/", lower(via)...), 502)
		} else {
			c := r.h1(front != "h1")
			r.must(c.WriteString(rawpeer.UpgradeRequest("/", via...)))
			_, err = c.WantStatus("GET", 502)
		}
		r.check("handshake", err)
		r.must(r.be.WantNone())
	})
}

// TestMaxForwards: row 200.
func TestMaxForwards(t *testing.T) {
	eachFront(t, nil, func(r *rig, front string) {
		got := r.ask(front, "OPTIONS", "/", f("Max-Forwards", "0"), nil).want("OPTIONS 0", 204, "")
		if got.head.Get("Allow") == "" {
			t.Errorf("%s: got %q, want Allow", front, got.head)
		}
		for _, n := range []string{"0", "5"} {
			if got := r.ask(front, "TRACE", "/", f("Max-Forwards", n), nil).answer(); got.status != "405" || got.head.Get("Allow") == "" {
				t.Errorf("%s: TRACE: got %s %q, want 405 with Allow", front, got.status, got.head)
			}
		}
		r.must(r.be.WantNone())
		for path, n := range map[string]string{"/x": "3", "*": "1"} {
			a := r.ask(front, "OPTIONS", path, f("Max-Forwards", n), nil)
			b := r.next()
			h, err := b.ReadHead()
			r.must(err)
			if want := string(n[0] - 1); h.Line != "OPTIONS "+path+" HTTP/1.1" || h.Fields.Get("Max-Forwards") != want {
				t.Errorf("%s: got %q with Max-Forwards %q, want %s with %s", front, h.Line, h.Fields.Get("Max-Forwards"), path, want)
			}
			r.must(b.Write(simple("ok")))
			a.want("OPTIONS "+n, 200, "ok")
			b.Close()
		}
	})
}

// drainBody reads what is left of a request at the backend until its connection
// ends.
func drainBody(b *rawpeer.BackendConn) string {
	var all []byte
	p := make([]byte, 32<<10)
	for {
		n, err := b.Read(p)
		all = append(all, p[:n]...)
		if err != nil {
			return string(all)
		}
	}
}

// TestUnfinishedUploads: a request whose content is not what was announced, or
// is cut, never looks complete to the backend (rows 183, 186).
func TestUnfinishedUploads(t *testing.T) {
	part := strings.Repeat("x", 10000)
	for _, x := range []struct {
		name, front string
		fields      rawpeer.Fields
		then        func(a *asked)
		code        http2.ErrCode
	}{
		{"183 too short", "h2", f("Content-Length", "20000"), func(a *asked) { a.end() }, http2.ErrCodeProtocol},
		{"183 too long", "h2", f("Content-Length", "20000"), func(a *asked) { a.data(part); a.data("x") }, http2.ErrCodeProtocol},
		{"183 too long, at the end", "h2", f("Content-Length", "20000"), func(a *asked) { a.h2.Data(a.id, []byte(part+"x"), true) }, http2.ErrCodeProtocol},
		{"186 with a length", "h2", f("Content-Length", "20000"), (*asked).leave, 0},
		{"186 without", "h2", nil, (*asked).leave, 0},
		{"186 h1", "h1", f("Transfer-Encoding", "chunked"), (*asked).leave, 0},
		{"186 h1 over TLS", "h1 over TLS", f("Transfer-Encoding", "chunked"), (*asked).leave, 0},
		{"183 h1 FIN", "h1", f("Transfer-Encoding", "chunked"), func(a *asked) { a.h1.CloseWrite() }, 0},
		{"183 h1 over TLS FIN", "h1 over TLS", f("Transfer-Encoding", "chunked"), func(a *asked) { a.h1.CloseWrite() }, 0},
		{"218 h1 a bad chunk", "h1", f("Transfer-Encoding", "chunked"), func(a *asked) { a.h1.WriteString("zz\r\n") }, 0},
	} {
		r := start(t, nil)
		var a *asked
		if x.front == "h2" {
			a = &asked{r: r, h2: r.h2()}
			a.id = a.h2.Headers(append(f(":method", "POST", ":scheme", "https", ":path", "/", ":authority", "a"), lower(x.fields)...), false)
		} else {
			a = r.ask(x.front, "POST", "/", x.fields, nil)
		}
		a.data(part)
		b := r.next()
		_, err := b.ReadHead()
		r.must(err)
		_, err = b.Read(make([]byte, 1)) // content is under way
		r.must(err)
		x.then(a)
		if got := drainBody(b); strings.HasSuffix(got, "0\r\n\r\n") || strings.Count(got, "x") >= 20000 {
			t.Errorf("%s: the backend saw a whole request of %d octets", x.name, len(got))
		}
		if x.code != 0 {
			r.check(x.name, a.h2.WantReset(a.id, x.code))
		}
		if a.h2 != nil {
			r.check(x.name, a.h2.WantAlive())
		} else if x.name != "218 h1 a bad chunk" && !strings.Contains(x.name, "186") {
			r.check(x.name, a.h1.WantClosed())
		}
		r.must(r.be.WantNone())
	}
}

// TestChunkedUpload: content without a length is chunked, and its end goes out
// only when it has come (row 184).
func TestChunkedUpload(t *testing.T) {
	eachFront(t, nil, func(r *rig, front string) {
		var a *asked
		if front == "h2" {
			a = &asked{r: r, front: front, h2: r.h2()}
			a.id = a.h2.Headers(f(":method", "POST", ":scheme", "https", ":path", "/", ":authority", "a"), false)
		} else {
			a = r.ask(front, "POST", "/", f("Transfer-Encoding", "chunked"), nil)
		}
		a.data("hello")
		b := r.next()
		h, err := b.ReadHead()
		r.must(err)
		if te := h.Fields.Values("Transfer-Encoding"); len(te) != 1 || te[0] != "chunked" || h.Fields.Values("Content-Length") != nil {
			t.Errorf("%s: got %q, want chunked and no Content-Length (row 185)", front, h.Raw)
		}
		r.must(b.WantBytes([]byte("5\r\nhello\r\n")))
		a.data("again")
		r.must(b.WantBytes([]byte("5\r\nagain\r\n")))
		b.Patience = 20 * time.Millisecond
		if n, _ := b.Read(make([]byte, 1)); n != 0 {
			t.Errorf("%s: got octets before the end, want none", front)
		}
		b.Patience = rawpeer.Patience
		a.end()
		r.must(b.WantBytes([]byte("0\r\n\r\n")))
		r.must(b.Write(simple("ok")))
		a.want("answer", 200, "ok")
	})
}

// TestAnswers: what a client gets of what a backend says (rows 88, 187, 189,
// 191 to 194).
func TestAnswers(t *testing.T) {
	const cut = -1
	eachFront(t, nil, func(r *rig, front string) {
		for _, x := range []struct {
			name, method, answer string
			status               int
			body, fields         string // fields: of the head, those asked for below
			interim              string
		}{
			{"length", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, "ok", "Content-Length: 2", ""},
			{"chunked", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n", 200, "ok", "", ""},
			{"to the end", "GET", "HTTP/1.1 200 OK\n\nok", 200, "ok", "", ""},
			{"an HTTP/1.0 server", "GET", "HTTP/1.0 200 OK\n\nok", 200, "ok", "", ""},
			{"redirect", "GET", "HTTP/1.1 302 Found\nLocation: /x\nContent-Length: 0\n\n", 302, "", "Content-Length: 0|Location: /x", ""},
			{"187 hop-by-hop", "GET", "HTTP/1.1 200 OK\nConnection: close, x-hop\nX-Hop: 1\nKeep-Alive: 5\nUpgrade: h2c\nProxy-Connection: x\nTransfer-Encoding: chunked\nX-Stays: 1\n\n2\nok\n0\n\n", 200, "ok", "X-Stays: 1", ""},
			{"189 103", "GET", "HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, "ok", "Content-Length: 2", " 103"},
			{"189 unasked 100", "GET", "HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, "ok", "Content-Length: 2", ""},
			{"191 HEAD", "HEAD", "HTTP/1.1 200 OK\nContent-Length: 77\n\n", 200, "", "Content-Length: 77", ""},
			{"191 HEAD, chunked", "HEAD", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", 200, "", "", ""},
			{"191 204", "GET", "HTTP/1.1 204 No Content\n\n", 204, "", "", ""},
			{"191 304", "GET", "HTTP/1.1 304 Not Modified\nContent-Length: 77\nETag: \"a\"\n\n", 304, "", "Content-Length: 77|Etag: \"a\"", ""},
			{"191 205", "GET", "HTTP/1.1 205 Reset Content\nContent-Length: 0\n\n", 205, "", "Content-Length: 0", ""},
			{"192 short", "GET", "HTTP/1.1 200 OK\nContent-Length: 100\n\nshort", cut, "", "", ""},
			{"192 nothing of it", "GET", "HTTP/1.1 200 OK\nContent-Length: 100\n\n", cut, "", "", ""},
			{"193 no last chunk", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nshort\n", cut, "", "", ""},
			{"193 cut in a chunk", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n50\nshort", cut, "", "", ""},
			{"193 cut trailers", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nshort\n0\nX-A: 1\n", cut, "", "", ""},
			{"193 bad size", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nshort\nxyz\n\n", cut, "", "", ""},
			{"193 huge size", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nshort\nffffffffffffffffff\n\n", cut, "", "", ""},
			{"194 two lengths", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok", 502, "?", "", ""},
			{"194 a list of two", "GET", "HTTP/1.1 200 OK\nContent-Length: 2, 3\n\nok", 502, "?", "", ""},
			{"194 gzip, chunked", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n2\nok\n0\n\n", 502, "?", "", ""},
			{"194 xchunked", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: xchunked\n\n2\nok\n0\n\n", 502, "?", "", ""},
			{"194 two codings", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n", 502, "?", "", ""},
			{"194 both", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n", 502, "?", "", ""},
			{"88 unasked 101", "GET", "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: x\n\n", 502, "?", "", ""},
			{"garbage", "GET", "what?\n\n", 502, "?", "", ""},
			{"nothing", "POST", "", 502, "?", "", ""},
		} {
			a := r.ask(front, x.method, "/", nil, nil)
			b := r.next()
			_, err := b.ReadHead()
			r.must(err)
			r.must(b.Write([]byte(crlf(x.answer))))
			b.CloseWrite()
			if x.status == cut {
				a.wantCut(x.name)
			} else {
				got := a.answer()
				if got.status != fmt.Sprint(x.status) || x.body != "?" && got.body != x.body || !got.ended || got.interim != x.interim {
					t.Errorf("%s, %s: got status %s, content %q, interim %q, ended %v %s; want %d %q %q", x.name, front, got.status, got.body, got.interim, got.ended, got.how, x.status, x.body, x.interim)
				}
				for _, name := range []string{"Connection", "X-Hop", "Keep-Alive", "Upgrade", "Proxy-Connection", "Sec-WebSocket-Accept"} {
					if v := got.head.Values(name); v != nil {
						t.Errorf("%s, %s: got %s %q, want none", x.name, front, name, v)
					}
				}
				for want := range strings.SplitSeq(x.fields, "|") {
					if name, value, _ := strings.Cut(want, ": "); name != "" && strings.Join(got.head.Values(name), "|") != value {
						t.Errorf("%s, %s: got %s %q, want %q", x.name, front, name, got.head.Values(name), value)
					}
				}
				if x.status == 204 && (got.head.Values("Content-Length") != nil || got.head.Values("Transfer-Encoding") != nil) {
					t.Errorf("%s, %s: got %q, want no framing (row 191)", x.name, front, got.head)
				}
				if x.interim != "" && got.first.Get("Link") != "</a>" {
					t.Errorf("%s, %s: got 103 with %q, want its Link", x.name, front, got.first)
				}
				if got.head.Get("Date") == "" {
					t.Errorf("%s, %s: got no Date", x.name, front)
				}
			}
			r.check(x.name, b.WantEnded())
			b.Close()
		}
	})
}

// TestExpectContinue: 100 is passed on, or made when the backend says nothing;
// 417 passes; no stall (row 201).
func TestExpectContinue(t *testing.T) {
	eachFront(t, nil, func(r *rig, front string) {
		ask := func() *asked {
			if front == "h2" {
				a := &asked{r: r, front: front, method: "POST", h2: r.h2()}
				a.id = a.h2.Headers(f(":method", "POST", ":scheme", "https", ":path", "/", ":authority", "a", "expect", "100-continue"), false)
				return a
			}
			return r.ask(front, "POST", "/", f("Transfer-Encoding", "chunked", "Expect", "100-continue"), nil)
		}
		wait100 := func(a *asked) {
			if front != "h2" {
				_, err := a.h1.WantStatus("POST", 100)
				r.must(err)
				return
			}
			s, err := a.h2.WantHeads(a.id, 1)
			r.must(err)
			if len(s.Heads) == 0 || s.Heads[0].Get(":status") != "100" {
				t.Errorf("got %q, want a 100", s.Heads)
			}
		}
		for _, says := range []bool{true, false} {
			a := ask()
			b := r.next()
			h, err := b.ReadHead()
			r.must(err)
			if got := h.Fields.Get("Expect"); got != "100-continue" {
				t.Errorf("%s: Expect at the backend: got %q", front, got)
			}
			if says {
				r.must(b.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")))
			}
			wait100(a)
			a.data("hello")
			a.end()
			r.must(b.WantBytes([]byte("5\r\nhello\r\n0\r\n\r\n")))
			r.must(b.Write(simple("ok")))
			got := a.want("100", 200, "ok")
			if front == "h2" && got.interim != " 100" || front != "h2" && got.interim != "" {
				t.Errorf("%s: interim answers: got %q, want one 100", front, got.interim)
			}
			b.Close()
		}
		a := ask()
		b := r.next()
		_, err := b.ReadHead()
		r.must(err)
		r.must(b.Write([]byte("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")))
		if got := a.answer(); got.status != "417" || got.body != "no" || got.interim != "" {
			t.Errorf("%s: got %s %q after %q, want 417", front, got.status, got.body, got.interim)
		}
		r.check(front, b.WantEnded())
	})
}

// TestTrailersBothWays: trailers stay trailers (row 190).
func TestTrailersBothWays(t *testing.T) {
	eachFront(t, nil, func(r *rig, front string) {
		var a *asked
		if front == "h2" {
			a = &asked{r: r, front: front, method: "POST", h2: r.h2()}
			a.id = a.h2.Headers(f(":method", "POST", ":scheme", "https", ":path", "/", ":authority", "a", "trailer", "x-up", "te", "trailers"), false)
			a.data("hello")
			a.h2.HeadersOn(a.id, f("x-up", "1", "host", "evil"), true)
		} else {
			chunks := "5\r\nhello\r\n0\r\nX-Up: 1\r\nHost: evil\r\n\r\n"
			a = r.ask(front, "POST", "/", f("Transfer-Encoding", "chunked", "Trailer", "X-Up", "TE", "trailers"), &chunks)
		}
		b := r.next()
		h, err := b.ReadHead()
		r.must(err)
		if h.Fields.Get("X-Up") != "" || h.Fields.Get("Trailer") != "X-Up" {
			t.Errorf("%s: head at the backend: got %q, want Trailer: X-Up and no X-Up", front, h.Raw)
		}
		r.must(b.WantBytes([]byte("5\r\nhello\r\n0\r\nX-Up: 1\r\n\r\n")))
		r.must(b.Write([]byte(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-Down\nConnection: close\n\n2\nok\n0\nX-Down: 2\n\n"))))
		got := a.want("announced", 200, "ok")
		if got.trailer.Get("X-Down") != "2" || got.head.Get("X-Down") != "" {
			t.Errorf("%s: got head %q, trailers %q; want X-Down in the trailers", front, got.head, got.trailer)
		}
		b.Close()

		a = r.ask(front, "GET", "/", nil, nil) // not announced
		b = r.next()
		_, err = b.ReadHead()
		r.must(err)
		r.must(b.Write([]byte(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nConnection: close\n\n2\nok\n0\nX-Down: 2\nContent-Length: 7\n\n"))))
		got = a.want("not announced", 200, "ok")
		if got.trailer.Get("X-Down") != "2" || got.head.Get("X-Down") != "" || got.trailer.Get("Content-Length") != "" {
			t.Errorf("%s: got head %q, trailers %q; want X-Down alone in the trailers", front, got.head, got.trailer)
		}
	})
}

// TestPooledConnections: what may follow on a backend's connection (rows 195 to
// 197).
func TestPooledConnections(t *testing.T) {
	kept := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	eachFront(t, nil, func(r *rig, front string) {
		begin := func(answer []byte) *rawpeer.BackendConn {
			a := r.ask(front, "GET", "/first", nil, nil)
			b := r.next()
			_, err := b.ReadHead()
			r.must(err)
			r.must(b.Write(answer))
			a.want("first", 200, "ok")
			return b
		}
		again := func(b *rawpeer.BackendConn, method string) *asked {
			content := "x"
			a := r.ask(front, method, "/again", nil, map[bool]*string{true: &content}[method == "POST"])
			h, err := b.ReadHead()
			r.must(err)
			if h.Line != method+" /again HTTP/1.1" {
				t.Errorf("%s: got %q", front, h.Line)
			}
			return a
		}
		b := begin(append(bytes.Clone(kept), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"...)) // 195
		r.must(b.WantEnded())
		b.Close()

		b = begin(kept)
		r.must(b.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))) // 196
		r.must(b.WantEnded())
		b.Close()

		b = begin(kept) // 197: the POST is not repeated
		a := again(b, "POST")
		b.Close()
		if got := a.answer(); got.status != "502" {
			t.Errorf("%s: POST on a dead connection: got %s, want 502", front, got.status)
		}
		r.must(r.be.WantNone())

		b = begin(kept) // 197: the GET is, once
		a = again(b, "GET")
		b.Close()
		b = r.next()
		_, err := b.ReadHead()
		r.must(err)
		b.Close()
		if got := a.answer(); got.status != "502" {
			t.Errorf("%s: GET on two dead connections: got %s, want 502", front, got.status)
		}
		r.must(r.be.WantNone())

		b = begin(kept) // what is kept is used again
		a = again(b, "GET")
		r.must(b.Write(kept))
		a.want("reused", 200, "ok")
		r.must(r.be.WantNone())
	})
}

// TestEvents: what a backend flushes arrives at once.
func TestEvents(t *testing.T) {
	eachFront(t, nil, func(r *rig, front string) {
		a := r.ask(front, "GET", "/events", nil, nil)
		b := r.next()
		_, err := b.ReadHead()
		r.must(err)
		r.must(b.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")))
		if a.h1 != nil {
			_, err := a.h1.WantStatus("HEAD", 200) // the head alone; it comes before the first event
			r.must(err)
		} else {
			_, err := a.h2.WantStatus(a.id, 200)
			r.must(err)
		}
		for i := range 3 {
			event := fmt.Sprintf("data: %d\n\n", i)
			r.must(b.Write([]byte(fmt.Sprintf("%x\r\n%s\r\n", len(event), event))))
			if a.h1 != nil {
				r.must(a.h1.WantBytes([]byte(fmt.Sprintf("%x\r\n%s\r\n", len(event), event))))
			} else {
				r.must(a.h2.WantData(a.id, []byte(event)))
			}
		}
		a.leave()
		r.must(b.WantEnded())
	})
}
