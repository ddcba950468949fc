package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// TestAccessLog: one line when a tunnel opens, one when it ends, one for each
// ordinary request and for what a front answers itself; the reason code of an
// answer is in the log; secrets are not.
func TestAccessLog(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.Log = "json" })
	c := r.h2()
	secret := f("cookie", "s=hush", "authorization", "Bearer hush", "sec-websocket-protocol", "hush", "sec-websocket-key", rawpeer.Key)
	id := c.Headers(with(connect(), ":path", "/chat?token=hush"), false)
	_, err := r.next().AcceptUpgrade()
	r.must(err)
	_, err = c.WantStatus(id, 200)
	r.must(err)
	id, b := r.open(c, secret...)
	r.must(c.Data(id, frame(0x81, true, []byte("hello")), false))
	r.must(b.WantBytes(frame(0x81, true, []byte("hello"))))
	r.must(b.Write(frame(0x88, false, []byte{0x0f, 0xa1})))
	r.must(b.CloseWrite())
	r.must(c.Data(id, frame(0x88, true, []byte{0x0f, 0xa1}), true))
	r.must(b.WantBytes(frame(0x88, true, []byte{0x0f, 0xa1})))

	id = c.Headers(with(connect(), ":protocol", "connect-udp"), false)
	_, err = c.WantStatus(id, 501)
	r.must(err)
	h := r.h1(false)
	r.must(h.WriteString("GET / HTTP/1.1\r\n\r\n"))
	resp, err := h.WantStatus("GET", 400)
	r.must(err)
	code := strings.TrimSpace(string(resp.Body))
	code = code[strings.LastIndexByte(code, ' ')+1:]
	g := r.h1(false)
	r.must(g.WriteString("GET /page?token=hush HTTP/1.1\r\nHost: localhost\r\nCookie: hush\r\n\r\n"))
	page := r.next()
	_, err = page.ReadHead()
	r.must(err)
	r.must(page.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
	_, err = g.WantStatus("GET", 200)
	r.must(err)

	wanted := []map[string]any{
		{"msg": "tunnel open", "id": 1.0, "http": 2.0, "host": "localhost", "path": "/chat"},
		{"msg": "tunnel end", "id": 2.0, "by": "backend", "why": "closed", "reset": false, "close_up": 4001.0, "close_down": 4001.0, "bytes_up": 19.0, "bytes_down": 4.0, "messages_up": 1.0, "messages_down": 0.0},
		{"msg": "request rejected", "http": 2.0, "status": 501.0},
		{"msg": "request rejected", "http": 1.0, "status": 400.0, "reason": code},
		{"msg": "request", "http": 1.0, "method": "GET", "path": "/page", "status": 200.0, "bytes": 2.0},
	}
	for _, want := range wanted {
		r.settle("a line like "+string(must(json.Marshal(want)))+" in\n"+r.log.String(), func(gateway.Counters) bool { return hasLine(r.log.String(), want) })
	}
	if got := r.log.String(); strings.Contains(got, "hush") || strings.Contains(got, rawpeer.Key) {
		t.Errorf("a secret is in the log:\n%s", got)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// hasLine reports whether a line of a JSON log has all these members.
func hasLine(log string, want map[string]any) bool {
	for line := range strings.Lines(log) {
		var got map[string]any
		if json.Unmarshal([]byte(line), &got) != nil {
			continue
		}
		all := true
		for k, v := range want {
			all = all && got[k] == v
		}
		if all {
			return true
		}
	}
	return false
}

// TestBackend2xx: over HTTP/2 the answer is the gateway's own, and client and
// log are told the same (rows 91, 92).
func TestBackend2xx(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	id := c.Connect("/chat")
	b := r.next()
	_, err := b.ReadHead()
	r.must(err)
	r.must(b.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage")))
	_, err = c.WantStatus(id, 502)
	r.must(err)
	r.must(c.WantData(id, []byte("502 bad gateway: backend-2xx\n")))
	r.must(b.WantEnded())
	r.settle("a line with the reason", func(gateway.Counters) bool { return strings.Contains(r.log.String(), "status=502 reason=backend-2xx") })
}

// TestOptionsOff: 0 means off.
func TestOptionsOff(t *testing.T) {
	r := start(t, func(c *gateway.Config) {
		c.BufferMemory, c.DrainTime, c.StallTimeout, c.Idle, c.KeepAlive, c.MaxStreams, c.MaxTunnelsPerConn, c.MaxPending, c.MaxHandshakes = 0, 0, 0, 0, 0, 0, 0, 0, 0
		c.ConnectTimeout, c.TLSTimeout, c.OpenTimeout, c.Linger, c.HeaderTimeout, c.ResponseTimeout, c.IdleConn = 0, 0, 0, 0, 0, 0, 0
	})
	c := r.h2()
	id, b := r.open(c)
	r.must(c.Data(id, []byte("x"), false))
	r.must(b.WantBytes([]byte("x")))
	get := c.Get("/page")
	page := r.next()
	_, err := page.ReadHead()
	r.must(err)
	r.must(page.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
	_, err = c.WantStatus(get, 200)
	r.must(err)
	_, h1 := r.openH1(true)
	h1.Close()
}
