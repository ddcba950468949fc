package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// crlf ends lines as the wire has them.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

const (
	get   = "GET / HTTP/1.1\nHost: a\n\n"
	shake = "GET /chat HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: " + rawpeer.Key + "\n"
	// alive is answered by the gateway alone, so it shows that a connection lives.
	alive = "OPTIONS / HTTP/1.1\nHost: a\nMax-Forwards: 0\n\n"

	seenGet   = "GET / HTTP/1.1 a"
	seenShake = "GET /chat HTTP/1.1 a Connection=Upgrade Upgrade=websocket"
)

// swap replaces one text by another in the handshake.
func swap(old, with string) string {
	if !strings.Contains(shake, old) {
		panic("the handshake has no " + old)
	}
	return strings.Replace(shake, old, with, 1) + "\n"
}

// post is a request with a field and content, and a request behind it that is
// smuggled if the two are read differently.
func post(fields, content string) string {
	return "POST / HTTP/1.1\nHost: a\n" + fields + "\n" + content
}

const smuggled = "GET /smuggled HTTP/1.1\nHost: a\n\n"

// TestH1Requests: what a client sends, which statuses it gets, what the backend
// saw, and whether the connection ends. Each line twice: cleartext and TLS,
// whole and octet by octet for what is short.
func TestH1Requests(t *testing.T) {
	r := start(t, nil)
	rec := r.record()
	long := strings.Repeat("a", 17<<10)
	many := strings.Repeat("X-A: b\n", 300)
	for _, x := range []struct {
		name, send, statuses, seen string
		ends                       bool
	}{
		{"get", get, "200", seenGet, false},
		{"164 handshake", shake + "\n", "101", seenShake, false},
		{"165 POST", swap("GET", "POST"), "400", "", false},
		{"165 PUT", swap("GET", "PUT"), "400", "", false},
		{"165 HEAD", swap("GET", "HEAD"), "400", "", false},
		{"165 HTTP/1.0", swap("HTTP/1.1", "HTTP/1.0"), "400", "", true},
		{"166 no key", strings.Split(shake, "Sec-WebSocket-Key")[0] + "\n", "400", "", false},
		{"166 15 octets", swap(rawpeer.Key, "AAAAAAAAAAAAAAAAAAAA"), "400", "", false},
		{"166 17 octets", swap(rawpeer.Key, "AAAAAAAAAAAAAAAAAAAAAAA="), "400", "", false},
		{"166 no base64", swap(rawpeer.Key, "!!!!!!!!!!!!!!!!!!!!!!=="), "400", "", false},
		{"166 bits behind the end", swap(rawpeer.Key, "dGhlIHNhbXBsZSBub25jZR=="), "400", "", false},
		{"166 empty", swap(rawpeer.Key, ""), "400", "", false},
		{"166 two keys", shake + "Sec-WebSocket-Key: " + rawpeer.Key + "\n\n", "400", "", false},
		{"166 two in one", swap(rawpeer.Key, rawpeer.Key+", "+rawpeer.Key), "400", "", false},
		{"167 keep-alive, Upgrade", swap("Connection: Upgrade", "Connection: keep-alive, Upgrade"), "101", seenShake, false},
		{"167 lower case", swap("Connection: Upgrade", "connection: upgrade"), "101", seenShake, false},
		{"167 two lines", swap("Connection: Upgrade", "Connection: keep-alive\nConnection: UPGRADE"), "101", seenShake, false},
		{"168 no connection", swap("Connection: Upgrade\n", ""), "200", "GET /chat HTTP/1.1 a", false},
		{"168 connection: close", swap("Connection: Upgrade", "Connection: close"), "200", "GET /chat HTTP/1.1 a", true},
		{"169 h2c, websocket", swap("Upgrade: websocket", "Upgrade: h2c, websocket"), "101", seenShake, false},
		{"169 foo", swap("Upgrade: websocket", "Upgrade: foo"), "200", "GET /chat HTTP/1.1 a", false},
		{"169 letter case", swap("Upgrade: websocket", "Upgrade: WebSocket"), "101", seenShake, false},
		{"170 version 12", swap("Version: 13", "Version: 12"), "426", "", false},
		{"170 version list", swap("Version: 13", "Version: 13, 8"), "426", "", false},
		{"170 two versions", shake + "Sec-WebSocket-Version: 13\n\n", "426", "", false},
		{"170 no version", swap("Sec-WebSocket-Version: 13\n", ""), "400", "", false},
		{"171 content", shake + "Content-Length: 34\n\n" + smuggled, "400", "", true},
		{"171 chunked", shake + "Transfer-Encoding: chunked\n\n0\n\n" + smuggled, "400", "", true},
		{"171 both", shake + "Content-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n" + smuggled, "400", "", true},
		{"226 Content-Length: 0", shake + "Content-Length: 0\n\n", "101", seenShake, false},
		{"179 absolute form", swap("/chat", "http://b/chat"), "101", "GET /chat HTTP/1.1 b Connection=Upgrade Upgrade=websocket", false},
		{"179 ws scheme", swap("/chat", "ws://b:81/chat?q"), "101", "GET /chat?q HTTP/1.1 b:81 Connection=Upgrade Upgrade=websocket", false},
		{"179 ordinary", "GET http://b/x?y HTTP/1.1\nHost: a\n\n", "200", "GET /x?y HTTP/1.1 b", false},
		{"179 userinfo", "GET http://u:p@b/ HTTP/1.1\nHost: a\n\n", "400", "", false},
		{"179 another scheme", "GET ftp://b/ HTTP/1.1\nHost: a\n\n", "400", "", false},

		{"206 no Host", "GET / HTTP/1.1\n\n", "400", "", true},
		{"206 two Hosts", "GET / HTTP/1.1\nHost: a\nHost: b\n\n", "400", "", true},
		{"206 the same twice", "GET / HTTP/1.1\nHost: a\nHost: a\n\n", "400", "", true},
		{"206 space", "GET / HTTP/1.1\nHost: a b\n\n", "400", "", true},
		{"206 list", "GET / HTTP/1.1\nHost: a, b\n\n", "400", "", true},
		{"206 empty", "GET / HTTP/1.1\nHost:\n\n", "400", "", true},
		{"206 path in it", "GET / HTTP/1.1\nHost: a/b\n\n", "400", "", true},
		{"206 userinfo", "GET / HTTP/1.1\nHost: u@a\n\n", "400", "", true},
		{"206 handshake", swap("Host: a\n", ""), "400", "", true},
		{"207 space before the colon", "GET / HTTP/1.1\nHost: a\nFoo : bar\n\n", "400", "", true},
		{"207 tab before the colon", "GET / HTTP/1.1\nHost: a\nContent-Length\t: 5\n\nhello", "400", "", true},
		{"207 no colon", "GET / HTTP/1.1\nHost: a\nFoo\n\n", "400", "", true},
		{"207 no name", "GET / HTTP/1.1\nHost: a\n: b\n\n", "400", "", true},
		{"231 ( in a name", "GET / HTTP/1.1\nHost: a\nF(o: b\n\n", "400", "", true},
		{"208 obs-fold", "GET / HTTP/1.1\nHost: a\nFoo: a\n b\n\n", "400", "", true},
		{"208 obs-fold with a tab", "GET / HTTP/1.1\nHost: a\nFoo: a\n\tb\n\n", "400", "", true},
		{"209 space before the first field", "GET / HTTP/1.1\n Host: a\n\n", "400", "", true},
		{"210 bare CR in a value", "GET / HTTP/1.1\nHost: a\nFoo: a\rb\n\n", "400", "", true},
		{"210 bare CR in the line", "GET /\r HTTP/1.1\nHost: a\n\n", "400", "", true},
		{"210 bare LF", "GET / HTTP/1.1\nHost: a\x01LFFoo: b\n\n", "400", "", true},
		{"210 bare LFs alone", "GET / HTTP/1.1\x01LFHost: a\x01LF\x01LF", "400", "", true},
		{"210 bare LF in a chunk line", post("Transfer-Encoding: chunked\n", "5\x01LFhello\n0\n\n") + smuggled, "400", "", true},
		{"210 NUL in a value", "GET / HTTP/1.1\nHost: a\nFoo: a\x00b\n\n", "400", "", true},
		{"211 leading CRLF", "\n" + get, "200", seenGet, false},
		{"211 leading CRLFs", "\n\n" + get, "400", "", true},
		{"212 HTTP/1.2", "GET / HTTP/1.2\nHost: a\n\n", "200", seenGet, false},
		{"212 HTTP/1.0", "GET / HTTP/1.0\nHost: a\n\n", "200", seenGet, true},
		{"212 HTTP/2.0", "GET / HTTP/2.0\nHost: a\n\n", "505", "", true},
		{"212 HTTP/0.9", "GET / HTTP/0.9\nHost: a\n\n", "505", "", true},
		{"212 no version", "GET /\n\n", "400", "", true},
		{"212 lower case", "GET / http/1.1\nHost: a\n\n", "400", "", true},
		{"212 two digits", "GET / HTTP/1.10\nHost: a\n\n", "400", "", true},
		{"213 two spaces", "GET  / HTTP/1.1\nHost: a\n\n", "400", "", true},
		{"213 two spaces behind", "GET /  HTTP/1.1\nHost: a\n\n", "400", "", true},
		{"213 tab", "GET\t/ HTTP/1.1\nHost: a\n\n", "400", "", true},
		{"213 vertical tab", "GET\x0b/ HTTP/1.1\nHost: a\n\n", "400", "", true},
		{"213 space at the end", "GET / HTTP/1.1 \nHost: a\n\n", "400", "", true},
		{"214 target", "GET /" + long + " HTTP/1.1\nHost: a\n\n", "414", "", true},
		{"214 one field", "GET / HTTP/1.1\nHost: a\nFoo: " + strings.Repeat(long, 5) + "\n\n", "431", "", true},
		{"214 many fields", "GET / HTTP/1.1\nHost: a\n" + many + "\n", "431", "", true},
		{"215 chunked in HTTP/1.0", "POST / HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n\n0\n\n" + smuggled, "400", "", true},
		{"216 CL.TE", post("Content-Length: 5\nTransfer-Encoding: chunked\n", "0\n\n") + smuggled, "400", "", true},
		{"216 TE.CL", post("Transfer-Encoding: chunked\nContent-Length: 3\n", "8\nSMUGGLED\n0\n\n"), "400", "", true},
		{"216 xchunked", post("Transfer-Encoding: xchunked\n", "0\n\n") + smuggled, "400", "", true},
		{"216 vertical tab", post("Transfer-Encoding: \x0bchunked\n", "0\n\n") + smuggled, "400", "", true},
		{"216 chunked, identity", post("Transfer-Encoding: chunked, identity\n", "0\n\n") + smuggled, "400", "", true},
		{"216 two lines", post("Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n", "0\n\n") + smuggled, "400", "", true},
		{"216 two lines, one unknown", post("Transfer-Encoding: chunked\nTransfer-Encoding: x\n", "0\n\n") + smuggled, "400", "", true},
		{"216 empty", post("Transfer-Encoding:\n", "0\n\n") + smuggled, "400", "", true},
		{"217 gzip", post("Transfer-Encoding: gzip\n", "xx") + smuggled, "400", "", true},
		{"217 gzip, chunked", post("Transfer-Encoding: gzip, chunked\n", "0\n\n") + smuggled, "501", "", true},
		{"218 underscore", post("Transfer-Encoding: chunked\n", "1_0\n0123456789abcdef\n0\n\n") + smuggled, "400", "", true},
		{"218 0x", post("Transfer-Encoding: chunked\n", "0x5\nhello\n0\n\n") + smuggled, "400", "", true},
		{"218 plus", post("Transfer-Encoding: chunked\n", "+5\nhello\n0\n\n") + smuggled, "400", "", true},
		{"218 minus", post("Transfer-Encoding: chunked\n", "-5\nhello\n0\n\n") + smuggled, "400", "", true},
		{"218 space", post("Transfer-Encoding: chunked\n", " 5\nhello\n0\n\n") + smuggled, "400", "", true},
		{"218 17 digits", post("Transfer-Encoding: chunked\n", "10000000000000005\nhello\n0\n\n") + smuggled, "400", "", true},
		{"218 16 digits", post("Transfer-Encoding: chunked\n", "ffffffffffffffff\nhello\n0\n\n") + smuggled, "400", "", true},
		{"218 no CRLF behind the data", post("Transfer-Encoding: chunked\n", "5\nhello0\n\n") + smuggled, "400", "", true},
		{"218 empty size", post("Transfer-Encoding: chunked\n", "\nhello\n0\n\n") + smuggled, "400", "", true},
		{"218 extension", post("Transfer-Encoding: chunked\n", "5;ext=\"a\"\nhello\n0\n\n"), "200", `POST / HTTP/1.1 a Transfer-Encoding=chunked "hello"`, false},
		{"219 long extension", post("Transfer-Encoding: chunked\n", "5;ext="+strings.Repeat("a", 1<<20)+"\nhello\n0\n\n"), "400", "", true},
		{"220 CONNECT", "CONNECT localhost:443 HTTP/1.1\nHost: localhost:443\n\n" + smuggled, "501", "", true},
		{"220 CONNECT a path", "CONNECT / HTTP/1.1\nHost: a\n\n" + smuggled, "501", "", true},
		{"221 unread content", "POST /a/../b HTTP/1.1\nHost: a\nContent-Length: 34\n\n" + smuggled, "400", "", true},
		{"221 refused upgrade with content", swap("GET", "POST")[:len(swap("GET", "POST"))-1] + "Content-Length: 34\n\n" + smuggled, "400", "", true},
		{"222 h2c", "GET / HTTP/1.1\nHost: a\nUpgrade: h2c\nHTTP2-Settings: AAMAAABk\nConnection: Upgrade, HTTP2-Settings\n\n", "200", seenGet, false},
		{"204 +5", post("Content-Length: +5\n", "hello") + smuggled, "400", "", true},
		{"204 5,5", post("Content-Length: 5,5\n", "hello"), "200", `POST / HTTP/1.1 a Content-Length=5 "hello"`, false},
		{"204 5,6", post("Content-Length: 5,6\n", "hello") + smuggled, "400", "", true},
		{"204 two lines", post("Content-Length: 5\nContent-Length: 34\n", "hello") + smuggled, "400", "", true},
		{"204 0x5", post("Content-Length: 0x5\n", "hello") + smuggled, "400", "", true},
		{"204 inner space", post("Content-Length: 5 5\n", "hello") + smuggled, "400", "", true},
		{"204 too large", post("Content-Length: 99999999999999999999\n", "hello") + smuggled, "400", "", true},
		{"204 empty", post("Content-Length:\n", "") + smuggled, "400", "", true},
		{"48 dot segments", "GET /a/../b HTTP/1.1\nHost: a\n\n", "400", "", false},
		{"48 raw UTF-8", "GET /\xc3\xa9 HTTP/1.1\nHost: a\n\n", "400", "", false},
		{"48 octets stay", "GET /a%2fb//c\\d?x={} HTTP/1.1\nHost: a\n\n", "200", "GET /a%2fb//c\\d?x={} HTTP/1.1 a", false},
		{"pipelined", get + get + get, "200 200 200", seenGet + "; " + seenGet + "; " + seenGet, false},
		{"pipelined behind content", post("Content-Length: 5\n", "hello") + get, "200 200", `POST / HTTP/1.1 a Content-Length=5 "hello"; ` + seenGet, false},
		{"pipelined behind chunks", post("Transfer-Encoding: chunked\n", "5\nhello\n0\n\n") + get, "200 200", `POST / HTTP/1.1 a Transfer-Encoding=chunked "hello"; ` + seenGet, false},
		{"pipelined behind close", "GET / HTTP/1.1\nHost: a\nConnection: close\n\n" + smuggled, "200", seenGet, true},
	} {
		for i, secure := range []bool{false, true} {
			name := fmt.Sprintf("%s, TLS %v", x.name, secure)
			send := strings.ReplaceAll(crlf(x.send), "\x01LF", "\n")
			c := r.h1(secure)
			if i == 0 && len(send) < 200 {
				for j := range len(send) { // the answer may come before the last octet
					if c.WriteString(send[j:j+1]) != nil {
						break
					}
				}
			} else {
				go c.WriteString(send) // long ones may be refused in the middle
			}
			method, _, _ := strings.Cut(strings.TrimLeft(x.send, "\n"), " ")
			tunnel := false
			for want := range strings.FieldsSeq(x.statuses) {
				resp, err := c.ReadResponse(method)
				if err != nil || fmt.Sprint(resp.Status) != want {
					t.Errorf("%s: got %+v, %v; want %s", name, resp, err, want)
					break
				}
				method = "GET"
				tunnel = want == "101"
				if want[0] >= '4' && resp.Fields.Get("Date") == "" {
					t.Errorf("%s: got no Date in %q", name, resp.Fields)
				}
			}
			switch {
			case x.ends:
				r.check(name, c.WantFIN())
			case tunnel:
				r.check(name, c.WriteString("echo"))
				r.check(name, c.WantBytes([]byte("echo")))
			default:
				r.check(name, c.WriteString(crlf(alive)))
				_, err := c.WantStatus("OPTIONS", 204)
				r.check(name, err)
			}
			c.Close()
			if got := rec.seen(); got != x.seen {
				t.Errorf("%s: the backend saw %q, want %q", name, got, x.seen)
			}
		}
	}
}

// TestH1Switch: the answer that opens a tunnel (rows 164, 175 to 177).
func TestH1Switch(t *testing.T) {
	r := start(t, nil)
	for _, secure := range []bool{false, true} {
		for _, x := range []struct{ name, more, interim string }{{"164", "", ""}, {"175 Expect", "Expect: 100-continue\n", "100"}} {
			c := r.h1(secure)
			r.must(c.WriteString(crlf(shake + x.more + "\n")))
			b := r.next()
			h, err := b.AcceptUpgrade(f("Date", "Thu, 01 Jan 1970 00:00:00 GMT", "Content-Length", "0", "Transfer-Encoding", "chunked",
				"Keep-Alive", "5", "Set-Cookie", "a=1", "Set-Cookie", "b=2")...)
			r.must(err)
			if k := h.Fields.Values("Sec-WebSocket-Key"); len(k) != 1 || len(k[0]) != 24 || h.Fields.Get("Expect") != "" {
				t.Errorf("%s: the backend got %q", x.name, h.Raw)
			}
			if x.interim != "" {
				_, err := c.WantStatus("GET", 100)
				r.check(x.name, err)
			}
			resp, err := c.ReadResponse("GET")
			r.must(err)
			if resp.Status != 101 || resp.Line != "HTTP/1.1 101 Switching Protocols" {
				t.Errorf("%s: got %q, want 101", x.name, resp.Line)
			}
			for _, want := range []string{
				"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "Set-Cookie: a=1", "Set-Cookie: b=2",
			} {
				if strings.Count(resp.Fields.String(), want+"\n") != 1 {
					t.Errorf("%s: got %q, want one %q", x.name, resp.Fields, want)
				}
			}
			for _, name := range []string{"Content-Length", "Transfer-Encoding", "Keep-Alive"} {
				if v := resp.Fields.Values(name); v != nil {
					t.Errorf("%s: got %s %q, want none (row 177)", x.name, name, v)
				}
			}
			if n := len(resp.Fields.Values("Connection")) + len(resp.Fields.Values("Upgrade")) + len(resp.Fields.Values("Sec-WebSocket-Accept")); n != 3 {
				t.Errorf("%s: got %q, want each hop field once", x.name, resp.Fields)
			}
			c.Close()
			b.Close()
		}
	}
}

// TestH1MissingKey: with the option the backend gets a key and the client no
// Accept (row 166).
func TestH1MissingKey(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.SynthesizeKey = true })
	c := r.h1(false)
	r.must(c.WriteString(crlf(strings.Split(shake, "Sec-WebSocket-Key")[0] + "\n")))
	h, err := r.next().AcceptUpgrade()
	r.must(err)
	if k := h.Fields.Values("Sec-WebSocket-Key"); len(k) != 1 || len(k[0]) != 24 {
		t.Errorf("keys at the backend: got %q, want one", k)
	}
	resp, err := c.WantStatus("GET", 101)
	r.must(err)
	if v := resp.Fields.Values("Sec-WebSocket-Accept"); v != nil {
		t.Errorf("Accept: got %q, want none", v)
	}
}

// TestH1Version: a 426 says what would be right (row 170).
func TestH1Version(t *testing.T) {
	r := start(t, nil)
	c := r.h1(false)
	r.must(c.WriteString(crlf(swap("Version: 13", "Version: 12"))))
	resp, err := c.WantStatus("GET", 426)
	r.must(err)
	for name, want := range map[string]string{"Sec-WebSocket-Version": "13", "Upgrade": "websocket", "Connection": "Upgrade"} {
		if got := resp.Fields.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	r.must(c.WriteString(crlf(shake + "\n"))) // the connection is no tunnel
	b := r.next()
	_, err = b.AcceptUpgrade()
	r.must(err)
	_, err = c.WantStatus("GET", 101)
	r.must(err)
}

// TestH1NoTunnel: what a backend says in place of a right 101, on h1 (rows 172,
// 173, 227); the connection goes on as HTTP.
func TestH1NoTunnel(t *testing.T) {
	r := start(t, nil)
	accept := "Sec-WebSocket-Accept: " + rawpeer.AcceptFor(rawpeer.Key) + "\n" // of the client's key, not of the one sent
	for _, x := range []struct {
		name, answer string
		status       int
		body         string
	}{
		{"172 a dressed up 200", "HTTP/1.1 200 OK\nUpgrade: websocket\nConnection: Upgrade\n" + accept + "Content-Length: 4\n\nbody", 200, "body"},
		{"227 a 200", "HTTP/1.1 200 OK\nContent-Length: 4\n\nbody", 200, "body"},
		{"227 chunked", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nbody\n0\n\n", 200, "body"},
		{"227 to the end", "HTTP/1.1 200 OK\n\nbody", 200, "body"},
		{"173 a 426", "HTTP/1.1 426 Upgrade Required\nSec-WebSocket-Version: 13\nContent-Length: 4\n\nbody", 426, "body"},
		{"173 101 without Accept", "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n\n", 502, ""},
		{"173 bare 101", "HTTP/1.1 101 Switching Protocols\n\n", 502, ""},
		{"173 Accept of another key", "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n" + accept + "\n", 502, ""},
		{"a 404", "HTTP/1.1 404 Not Found\nConnection: close\nContent-Length: 4\n\nbody", 404, "body"},
	} {
		c := r.h1(false)
		// The GET waits behind the handshake: after a refusal it is the next
		// request (row 174).
		r.must(c.WriteString(crlf(shake + "\nGET /next HTTP/1.1\nHost: a\n\n")))
		b := r.next()
		_, err := b.ReadHead()
		r.must(err)
		r.must(b.Write([]byte(crlf(x.answer))))
		b.CloseWrite()
		resp, err := c.WantStatus("GET", x.status)
		r.check(x.name, err)
		if x.body != "" && string(resp.Body) != x.body {
			t.Errorf("%s: body: got %q, want %q", x.name, resp.Body, x.body)
		}
		if x.status != 426 && (resp.Fields.Get("Upgrade") != "" || strings.Contains(resp.Fields.Get("Connection"), "pgrade")) || resp.Fields.Get("Sec-WebSocket-Accept") != "" {
			t.Errorf("%s: got %q, want nothing of an upgrade", x.name, resp.Fields)
		}
		r.check(x.name, b.WantEnded())
		b = r.next()
		h, err := b.ReadHead()
		r.must(err)
		if h.Line != "GET /next HTTP/1.1" {
			t.Errorf("%s: next request: got %q", x.name, h.Line)
		}
		r.must(b.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")))
		_, err = c.WantStatus("GET", 200)
		r.check(x.name, err)
		c.Close()
		b.Close()
	}
}

// TestH1Glued: octets behind the handshake wait for the 101 and are the
// tunnel's after it (rows 90, 174).
func TestH1Glued(t *testing.T) {
	r := start(t, nil)
	for _, secure := range []bool{false, true} {
		c := r.h1(secure)
		early := strings.Repeat("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", 1000)
		go c.WriteString(crlf(shake+"\n") + early)
		b := r.next()
		h, err := b.ReadHead()
		r.must(err)
		other := r.h1(secure) // a whole turn for someone else: the early octets are there
		r.must(other.WriteString(crlf(alive)))
		_, err = other.WantStatus("OPTIONS", 204)
		r.must(err)
		b.Patience = 20 * time.Millisecond
		if n, _ := b.Read(make([]byte, 10)); n != 0 {
			t.Errorf("TLS %v: %d octets reached the backend before its 101", secure, n)
		}
		b.Patience = rawpeer.Patience
		r.must(b.Write([]byte(right(h.Fields.Get("Sec-WebSocket-Key")) + "\r\nglued")))
		_, err = c.WantStatus("GET", 101)
		r.must(err)
		r.must(c.WantBytes([]byte("glued")))
		r.must(b.WantBytes([]byte(early)))
		r.must(c.CloseWrite())
		r.must(b.WantFIN())
	}
}

// TestH1Ends: the ends that TestTunnelH1 and TestResets leave (row 178): resets
// of a TLS client, a tail before the end, both ends at once.
func TestH1Ends(t *testing.T) {
	r := start(t, nil)
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	for _, secure := range []bool{false, true} {
		c, b := r.openH1(secure)
		c.Cut()
		r.must(b.WantRST())
		c, b = r.openH1(secure)
		b.Reset()
		r.must(c.WantRST())

		c, b = r.openH1(secure)
		sent := make(chan error, 2)
		go func() { sent <- c.Write(big); sent <- c.CloseWrite() }()
		r.must(b.WantBytes(big))
		r.must(b.WantFIN())
		r.must(<-sent)
		r.must(<-sent)
		go func() { sent <- b.Write(big); sent <- b.CloseWrite() }()
		r.must(c.WantBytes(big))
		r.must(c.WantFIN())
		r.must(<-sent)
		r.must(<-sent)

		c, b = r.openH1(secure)
		r.must(c.CloseWrite())
		r.must(b.CloseWrite())
		r.must(c.WantFIN())
		r.must(b.WantFIN())
	}
	r.settle("tunnels", func(c gateway.Counters) bool { return c.Tunnels == 0 })
}

// wireTap keeps the octets that a connection read.
type wireTap struct {
	net.Conn
	mu sync.Mutex
	in []byte
}

func (w *wireTap) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	w.in = append(w.in, p[:n]...)
	w.mu.Unlock()
	return n, err
}

// TestCloseNotify: the gateway's end of a TLS tunnel is close_notify, then FIN
// (row 178). TLS 1.2 shows the alert's type on the wire.
func TestCloseNotify(t *testing.T) {
	r := start(t, nil)
	raw, err := net.Dial("tcp", r.https)
	r.must(err)
	defer raw.Close()
	r.must(raw.SetDeadline(time.Now().Add(rawpeer.Patience)))
	tap := &wireTap{Conn: raw}
	c := tls.Client(tap, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	_, err = io.WriteString(c, crlf(shake+"\n"))
	r.must(err)
	b := r.next()
	_, err = b.AcceptUpgrade()
	r.must(err)
	r.must(b.CloseWrite())
	_, err = io.ReadAll(c)
	r.must(err)
	var last byte
	for p := tap.in; len(p) >= 5; p = p[min(len(p), 5+int(p[3])<<8+int(p[4])):] {
		last = p[0]
	}
	if last != 21 {
		t.Errorf("type of the last record: got %d, want 21, an alert", last)
	}
	r.must(c.CloseWrite())
	r.must(b.WantFIN())
}

// TestTruncatedTLS: a FIN without close_notify is no orderly end (row 180).
func TestTruncatedTLS(t *testing.T) {
	r := start(t, nil)
	c, b := r.openH1(true)
	r.must(c.WriteString("up"))
	r.must(b.WantBytes([]byte("up")))
	r.must(c.Conn().(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite())
	r.must(b.WantRST())
	r.settle("the log's word for it", func(gateway.Counters) bool { return strings.Contains(r.log.String(), "truncated by peer") })
	if s := r.log.String(); !strings.Contains(s, "by=client") || !strings.Contains(s, "why=reset") {
		t.Errorf("log: got %q, want by=client why=reset", s)
	}
}

// TestSlowHead: 408 and the end at the limit; a tunnel is exempt (row 223).
func TestSlowHead(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.HeaderTimeout = 150 * time.Millisecond })
	tun, b := r.openH1(false)
	begun := time.Now()
	for _, secure := range []bool{false, true} {
		for _, part := range []string{"G", "GET / HTTP/1.1\r\nHost: a\r\n", crlf(shake)} {
			c := r.h1(secure)
			r.must(c.WriteString(part))
			_, err := c.WantStatus("GET", 408)
			r.check(part, err)
			r.check(part, c.WantFIN())
		}
	}
	if d := time.Since(begun); d < 6*150*time.Millisecond {
		t.Errorf("six timeouts took %v, want 900 ms at least", d)
	}
	r.must(tun.WriteString("late"))
	r.must(b.WantBytes([]byte("late")))
	r.must(r.be.WantNone())
}

// TestIdleConnection: a connection without a request ends in order (row 129).
func TestIdleConnection(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.IdleConn = 50 * time.Millisecond })
	r.must(r.h1(false).WantFIN())
	r.must(r.h1(true).WantFIN())
	c := r.h1(false)
	r.must(c.WriteString(crlf(alive)))
	_, err := c.WantStatus("OPTIONS", 204)
	r.must(err)
	r.must(c.WantFIN())
}
