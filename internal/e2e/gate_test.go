package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// offerAll are handshake fields that let a backend choose.
var offerAll = f("sec-websocket-protocol", "chat, superchat", "sec-websocket-extensions", "permessage-deflate")

// right is a right 101 without its last empty line.
func right(key string) string {
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + rawpeer.AcceptFor(key) + "\r\n"
}

// TestAnswerGate: a tunnel stands only on a right 101, whatever the front
// (rows 65 to 68, 79 to 86, 91, 92, 100, 172, 173).
func TestAnswerGate(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	accept := func(k string) string { return "Sec-WebSocket-Accept: " + rawpeer.AcceptFor(k) + "\r\n" }
	head := "HTTP/1.1 101 Switching Protocols\r\n"
	up, conn := "Upgrade: websocket\r\n", "Connection: Upgrade\r\n"
	swap := func(s string) string { // the other letter case
		return strings.Map(func(c rune) rune {
			switch {
			case 'a' <= c && c <= 'z':
				return c - 32
			case 'A' <= c && c <= 'Z':
				return c + 32
			}
			return c
		}, s)
	}
	for name, x := range map[string]struct {
		answer func(key string) string
		status int
	}{
		"plain":          {func(k string) string { return right(k) }, 200},
		"65 not offered": {func(k string) string { return right(k) + "Sec-WebSocket-Protocol: other\r\n" }, 502},
		"65 letter case": {func(k string) string { return right(k) + "Sec-WebSocket-Protocol: Chat\r\n" }, 502},
		"66 empty":       {func(k string) string { return right(k) + "Sec-WebSocket-Protocol: \r\n" }, 502},
		"66 doubled": {func(k string) string {
			return right(k) + "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n"
		}, 502},
		"66 list":        {func(k string) string { return right(k) + "Sec-WebSocket-Protocol: chat, superchat\r\n" }, 502},
		"67 not offered": {func(k string) string { return right(k) + "Sec-WebSocket-Extensions: x-foo\r\n" }, 502},
		"68 offered": {func(k string) string {
			return right(k) + "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
		}, 200},
		"79 no accept":              {func(k string) string { return head + up + conn }, 502},
		"80 accept for another key": {func(k string) string { return head + up + conn + accept(rawpeer.Key) }, 502},
		"81 accept in another case": {func(k string) string {
			return head + up + conn + "Sec-WebSocket-Accept: " + swap(rawpeer.AcceptFor(k)) + "\r\n"
		}, 502},
		"82 accept between spaces": {func(k string) string {
			return head + up + conn + "Sec-WebSocket-Accept:  \t " + rawpeer.AcceptFor(k) + " \t\r\n"
		}, 200},
		"83 two accepts":  {func(k string) string { return head + up + conn + accept(k) + accept(rawpeer.Key) }, 502},
		"84 no upgrade":   {func(k string) string { return head + conn + accept(k) }, 502},
		"84 upgrade foo":  {func(k string) string { return head + "Upgrade: foo\r\n" + conn + accept(k) }, 502},
		"84 upgrade list": {func(k string) string { return head + "Upgrade: websocket, foo\r\n" + conn + accept(k) }, 502},
		"85 letter case and list": {func(k string) string {
			return head + "Upgrade: WebSocket\r\nConnection: keep-alive, UpGrade\r\n" + accept(k)
		}, 200},
		"86 no connection":    {func(k string) string { return head + up + accept(k) }, 502},
		"86 connection close": {func(k string) string { return head + up + "Connection: close\r\n" + accept(k) }, 502},
		"74 chunked 101":      {func(k string) string { return right(k) + "Transfer-Encoding: chunked\r\n" }, 200},
		"87 interim answers": {func(k string) string {
			return "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + right(k)
		}, 200},
		"91 a 200":                   {func(k string) string { return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno" }, 502},
		"91 a 200 dressed up":        {func(k string) string { return strings.Replace(right(k), "101", "200", 1) + "Content-Length: 0\r\n" }, 502},
		"92 a 204":                   {func(k string) string { return "HTTP/1.1 204 No Content\r\n" }, 502},
		"92 a 206":                   {func(k string) string { return "HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n" }, 502},
		"92 a 226":                   {func(k string) string { return "HTTP/1.1 226 IM Used\r\nContent-Length: 0\r\n" }, 502},
		"96 garbage":                 {func(k string) string { return "hello\r\n" }, 502},
		"100 500 fields":             {func(k string) string { return right(k) + strings.Repeat("X: y\r\n", 500) }, 502},
		"100 a long head":            {func(k string) string { return right(k) + "X: " + strings.Repeat("y", 70000) + "\r\n" }, 502},
		"100 space before the colon": {func(k string) string { return right(k) + "X-Space : y\r\n" }, 200},
		"100 obs-fold":               {func(k string) string { return right(k) + "X: a\r\n b\r\n" }, 502},
	} {
		id := c.Connect("/chat", offerAll...)
		b := r.next()
		h, err := b.ReadHead()
		r.must(err)
		answer := x.answer(h.Fields.Get("Sec-WebSocket-Key"))
		if !strings.Contains(answer, "\r\n\r\n") || strings.HasSuffix(answer, "\r\n") {
			answer += "\r\n"
		}
		_ = b.Write([]byte(answer)) // it may be refused in the middle
		_, err = c.WantStatus(id, x.status)
		r.check(name, err)
		if x.status == 200 {
			r.check(name, c.Reset(id, http2.ErrCodeCancel))
			r.check(name, b.WantRST())
			continue
		}
		r.check(name, b.WantEnded())
		if s := c.Stream(id); !s.End {
			r.check(name, c.WantReset(id, http2.ErrCodeNo))
		}
		if strings.HasPrefix(name, "91") && strings.Contains(string(c.Stream(id).Data), "no\r") {
			t.Errorf("%s: the backend's body was shown", name)
		}
	}
	r.must(c.WantAlive())
}

// TestForeignAnswers: a backend's 3xx to 5xx pass with fields and body
// (rows 72, 93 to 95).
func TestForeignAnswers(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	for _, status := range []int{301, 302, 307, 401, 403, 404, 426, 429, 500, 503} {
		for name, body := range map[string]string{
			"length":  "Content-Length: 4\r\n\r\nbody",
			"chunked": "Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
			"close":   "\r\nbody",
		} {
			name = fmt.Sprint(status, " ", name)
			id := c.Connect("/chat")
			b := r.next()
			_, err := b.ReadHead()
			r.must(err)
			r.must(b.Write([]byte(fmt.Sprintf("HTTP/1.1 %d Whatever\r\nX-App: 1\r\nKeep-Alive: 5\r\nRetry-After: 7\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n%s", status, body))))
			b.CloseWrite()
			head, err := c.WantStatus(id, status)
			r.check(name, err)
			r.check(name, c.WantData(id, []byte("body")))
			r.check(name, c.WantReset(id, http2.ErrCodeNo))
			if s := c.Stream(id); !s.End {
				t.Errorf("%s: no END_STREAM", name)
			}
			if head.Get("x-app") != "1" || head.Get("retry-after") != "7" || head.Get("x-hop") != "" || head.Get("keep-alive") != "" || head.Get("connection") != "" {
				t.Errorf("%s: fields: got %q", name, head)
			}
			r.check(name, b.WantEnded())
		}
	}
}

// TestCutRefusal: a refusal's content that is cut is a reset, never a clean end.
func TestCutRefusal(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	id := c.Connect("/chat")
	b := r.next()
	_, err := b.ReadHead()
	r.must(err)
	r.must(b.Write([]byte("HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nhalf")))
	b.Close()
	_, err = c.WantStatus(id, 404)
	r.must(err)
	r.must(c.WantReset(id, http2.ErrCodeInternal))
	if c.Stream(id).End {
		t.Error("got END_STREAM for a truncated answer")
	}
}

// TestGluedAndEarly: no client octet before the 101 (row 90, law); the backend's
// first octets are not lost (row 89).
func TestGluedAndEarly(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	id := c.Connect("/chat")
	r.must(c.Data(id, []byte("early"), false))
	r.must(c.Data(id, []byte(" bird"), true))
	b := r.next()
	h, err := b.ReadHead()
	r.must(err)
	r.must(c.Ping()) // the gateway has the early octets by now
	b.Patience = 50 * time.Millisecond
	if n, _ := b.Read(make([]byte, 10)); n != 0 {
		t.Errorf("%d octets reached the backend before its 101", n)
	}
	b.Patience = rawpeer.Patience
	r.must(b.Write([]byte(right(h.Fields.Get("Sec-WebSocket-Key")) + "\r\nglued")))
	_, err = c.WantStatus(id, 200)
	r.must(err)
	r.must(c.WantData(id, []byte("glued")))
	r.must(b.WantBytes([]byte("early bird")))
	r.must(b.WantFIN())
	r.must(b.CloseWrite())
	r.must(c.WantEnd(id))

	id = c.Connect("/chat") // on refusal never
	r.must(c.Data(id, []byte("early"), false))
	b = r.next()
	_, err = b.ReadHead()
	r.must(err)
	r.must(b.Write([]byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")))
	_, err = c.WantStatus(id, 403)
	r.must(err)
	r.must(b.WantEnded())
}

// TestBackendDown: row 96, with a reason code for machines.
func TestBackendDown(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.OpenTimeout = 100 * time.Millisecond })
	c := r.h2()
	id := c.Connect("/chat") // never answered
	b := r.next()
	_, err := c.WantStatus(id, 504)
	r.check("silent backend", err)
	r.check("silent backend", b.WantEnded())
	r.check("silent backend", c.WantReset(id, http2.ErrCodeNo))
	if got := string(c.Stream(id).Data); !strings.Contains(got, "open-timeout") {
		t.Errorf("body: got %q, want the reason open-timeout", got)
	}
	id = c.Connect("/chat")
	b = r.next()
	_, err = b.ReadHead()
	r.must(err)
	r.must(b.Write([]byte("HTTP/1.1 101 Switch")))
	b.Close()
	_, err = c.WantStatus(id, 502)
	r.check("closed inside the head", err)
	r.be.Close()
	id = c.Connect("/chat")
	_, err = c.WantStatus(id, 502)
	r.check("refused", err)
	h := r.h1(false)
	r.must(h.WriteString(rawpeer.UpgradeRequest("/chat")))
	resp, err := h.WantStatus("GET", 502)
	r.must(err)
	if !strings.Contains(string(resp.Body), "connect-failed") || resp.Fields.Get("Date") == "" {
		t.Errorf("answer: got %q %q", resp.Fields, resp.Body)
	}
	if strings.Count(r.log.String(), "reason=") == 0 {
		r.settle("reasons in the log", func(gateway.Counters) bool { return strings.Contains(r.log.String(), "reason=connect-failed") })
	}
}

// TestClientLeavesDuringDial: row 232.
func TestClientLeavesDuringDial(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	id := c.Connect("/chat")
	b := r.next()
	_, err := b.ReadHead()
	r.must(err)
	r.must(c.Reset(id, http2.ErrCodeCancel))
	r.must(b.WantRST())
	r.settle("pending handshakes", func(c gateway.Counters) bool { return c.Pending == 0 })
	r.must(c.WantAlive())
}

// TestUnixBackend: a tunnel to a unix socket.
func TestUnixBackend(t *testing.T) {
	path := t.TempDir() + "/app.sock"
	be := listenUnix(t, path)
	r := startWith(t, be, "unix://"+path, nil)
	c := r.h2()
	id := c.Connect("/chat")
	b, err := be.Next()
	r.must(err)
	_, err = b.AcceptUpgrade()
	r.must(err)
	_, err = c.WantStatus(id, 200)
	r.must(err)
	r.must(c.Data(id, []byte("x"), true))
	r.must(b.WantBytes([]byte("x")))
	r.must(b.WantFIN())
}
