package e2e

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

var f = rawpeer.F

// without takes fields of a name out.
func without(in rawpeer.Fields, name string) (out rawpeer.Fields) {
	for _, x := range in {
		if x.Name != name {
			out = append(out, x)
		}
	}
	return out
}

// with replaces a field's value, where it stands.
func with(in rawpeer.Fields, name, value string) (out rawpeer.Fields) {
	for _, x := range in {
		if x.Name == name {
			x.Value = value
		}
		out = append(out, x)
	}
	return out
}

func connect(more ...string) rawpeer.Fields {
	return rawpeer.ConnectFields("https", "localhost", "/chat", f(more...)...)
}

// TestMalformed: heads that no backend may ever see; the connection lives on.
func TestMalformed(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	ok := connect()
	get := f(":method", "GET", ":scheme", "https", ":path", "/", ":authority", "localhost")
	plain := f(":method", "CONNECT", ":authority", "localhost:443")
	for name, head := range map[string]rawpeer.Fields{
		"12 no :scheme":                      without(ok, ":scheme"),
		"13 no :path":                        without(ok, ":path"),
		"14 no :authority":                   without(ok, ":authority"),
		"15 host instead of :authority":      append(without(ok, ":authority"), f("host", "localhost")...),
		"16 empty :path":                     with(ok, ":path", ""),
		"17 :path without slash":             with(ok, ":path", "chat"),
		"17 :path *":                         with(ok, ":path", "*"),
		"17 :path absolute":                  with(ok, ":path", "http://evil/"),
		"18 GET with :protocol":              append(f(":protocol", "websocket"), get...),
		"19 :protocol twice":                 append(f(":protocol", "websocket"), ok...),
		"19 :protocol twice, first empty":    append(f(":protocol", ""), ok...),
		"19 :path twice":                     append(f(":path", "/"), ok...),
		"19 :method twice":                   append(f(":method", "CONNECT"), ok...),
		"20 pseudo-field after a field":      append(without(ok, ":path"), f(":path", "/")...),
		"21 unknown pseudo-field":            append(f(":foo", "x"), ok...),
		"21 :status":                         append(f(":status", "200"), ok...),
		"25 :protocol list":                  with(ok, ":protocol", "websocket, foo"),
		"25 :protocol empty":                 with(ok, ":protocol", ""),
		"25 :protocol with spaces":           with(ok, ":protocol", "web socket"),
		"28 plain CONNECT with :scheme":      append(f(":scheme", "https"), plain...),
		"28 plain CONNECT with :path":        append(f(":path", "/"), plain...),
		"29 :scheme wss":                     with(ok, ":scheme", "wss"),
		"29 :scheme ws":                      with(ok, ":scheme", "ws"),
		"31 connection":                      connect("connection", "Upgrade"),
		"32 upgrade":                         connect("upgrade", "websocket"),
		"33 keep-alive":                      connect("keep-alive", "x"),
		"33 proxy-connection":                connect("proxy-connection", "x"),
		"33 transfer-encoding":               connect("transfer-encoding", "chunked"),
		"34 te: gzip":                        connect("te", "gzip"),
		"38 userinfo":                        with(ok, ":authority", "user:pw@localhost"),
		"39 another host":                    connect("host", "other.example"),
		"41 upper case name":                 connect("X-Upper", "1"),
		"42 SP in a name":                    connect("x y", "1"),
		"42 CR LF in a name":                 connect("x\r\ny", "1"),
		"42 NUL in a name":                   connect("x\x00", "1"),
		"42 0x7f in a name":                  connect("x\x7f", "1"),
		"42 0x80 in a name":                  connect("x\x80", "1"),
		"43 colon in a name":                 connect("x:y", "1"),
		"44 CR LF in a cookie":               connect("cookie", "a=b\r\nx: y"),
		"44 CR LF in origin":                 connect("origin", "a\r\nx: y"),
		"44 CR LF in user-agent":             connect("user-agent", "a\r\nx: y"),
		"44 CR LF in sec-websocket-protocol": connect("sec-websocket-protocol", "a\r\nx: y"),
		"45 LF in a value":                   connect("x", "a\nb"),
		"45 CR in a value":                   connect("x", "a\rb"),
		"45 NUL in a value":                  connect("x", "a\x00b"),
		"46 leading SP":                      connect("x", " a"),
		"46 trailing HTAB":                   connect("x", "a\t"),
		"47 CR LF in :path":                  with(ok, ":path", "/a\r\nx: y"),
		"47 SP in :path":                     with(ok, ":path", "/a b"),
		"47 # in :path":                      with(ok, ":path", "/a#b"),
		"47 SP in :method":                   with(get, ":method", "GE T"),
		"47 CR LF in :authority":             with(ok, ":authority", "a\r\nx: y"),
		"231 ( in a name":                    connect("a(b", "1"),
		"231 } in a name":                    connect("a}b", "1"),
		"231 @ in a name":                    connect("a@b", "1"),
	} {
		id := c.Headers(head, false)
		r.check(name, c.WantReset(id, http2.ErrCodeProtocol))
		if s := c.Stream(id); len(s.Heads) > 0 {
			t.Errorf("%s: got an answer before the reset: %q", name, s.Heads[0])
		}
		// Budgets against reset floods are kept out of the way: a fresh
		// connection for every few of them.
		if id > 40 {
			r.check(name, c.WantAlive())
			c.Close()
			c = r.h2()
		}
	}
	r.must(c.WantAlive())
	r.check("backend", r.be.WantNone())
}

// TestRefused: heads with an answer of the gateway's own.
func TestRefused(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	ok := connect()
	for name, x := range map[string]struct {
		head   rawpeer.Fields
		status int
	}{
		"22 connect-udp":          {with(ok, ":protocol", "connect-udp"), 501},
		"22 webtransport":         {with(ok, ":protocol", "webtransport"), 501},
		"23 h2c":                  {with(ok, ":protocol", "h2c"), 501},
		"26 plain CONNECT":        {f(":method", "CONNECT", ":authority", "localhost:443"), 501},
		"36 content-length":       {connect("content-length", "5"), 400},
		"48 raw UTF-8":            {with(ok, ":path", "/é"), 400},
		"48 dot segments":         {with(ok, ":path", "/a/../b"), 400},
		"48 encoded dot segments": {with(ok, ":path", "/a/%2e%2E/b"), 400},
		"62 version 8":            {with(ok, "sec-websocket-version", "8"), 426},
		"62 version list":         {with(ok, "sec-websocket-version", "13, 8"), 426},
		"62 version x":            {with(ok, "sec-websocket-version", "x"), 426},
	} {
		id := c.Headers(x.head, false)
		head, err := c.WantStatus(id, x.status)
		r.check(name, err)
		if head.Get("upgrade") != "" || head.Get("connection") != "" {
			t.Errorf("%s: hop-by-hop field in the answer (row 63): %q", name, head)
		}
		if x.status == 426 && head.Get("sec-websocket-version") != "13" {
			t.Errorf("%s: no sec-websocket-version: 13 in the 426", name)
		}
		if head.Get("date") == "" {
			t.Errorf("%s: no date", name)
		}
		r.check(name, c.WantReset(id, http2.ErrCodeNo)) // row 112: answered early, whole, then NO_ERROR
		if s := c.Stream(id); !s.End {
			t.Errorf("%s: the answer is not complete", name)
		}
	}
	id := c.Headers(connect(), true) // row 35
	_, err := c.WantStatus(id, 400)
	r.check("35 END_STREAM on the CONNECT", err)
	r.must(c.WantAlive())
	r.check("backend", r.be.WantNone())
}

// TestAnnounced: rows 1, 4 to 6, 8, 9.
func TestAnnounced(t *testing.T) {
	r := start(t, nil)
	for name, s := range map[string][]http2.Setting{
		"4 nothing": nil, "5 set to 1": {{ID: 8, Val: 1}}, "5 set to 0": {{ID: 8, Val: 0}},
	} {
		c := r.h2(s...)
		if v, ok := c.Setting(http2.SettingEnableConnectProtocol); !ok || v != 1 {
			t.Errorf("%s: SETTINGS_ENABLE_CONNECT_PROTOCOL: got %d %v, want 1", name, v, ok)
		}
		r.check(name, c.WantAcks(1))
		r.open(c)
	}
	for range 2 { // row 6: the same answer each time
		c, err := rawpeer.DialH2Quiet(r.https, clientTLS)
		r.must(err)
		r.must(c.Preface(http2.Setting{ID: 8, Val: 2}))
		r.check("6", c.WantGoAway(http2.ErrCodeProtocol))
		c.Close()
	}
	c, err := rawpeer.DialH2Quiet(r.https, clientTLS) // row 8: all in one flight
	r.must(err)
	r.must(c.Preface())
	id := c.Connect("/chat")
	b := r.next()
	_, err = b.AcceptUpgrade()
	r.must(err)
	_, err = c.WantStatus(id, 200)
	r.check("8", err)
	c.Close()
}

// TestNoWebSocket: rows 2 and 7.
func TestNoWebSocket(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.NoWebSocket = true })
	c := r.h2()
	if v, ok := c.Setting(http2.SettingEnableConnectProtocol); ok && v != 0 {
		t.Errorf("SETTINGS_ENABLE_CONNECT_PROTOCOL: got %d, want none", v)
	}
	r.check("7", c.WantReset(c.Connect("/chat"), http2.ErrCodeProtocol))
	r.must(c.WantAlive())
	r.check("backend", r.be.WantNone())
	h := r.h1(false)
	r.must(h.WriteString(rawpeer.UpgradeRequest("/chat")))
	b := r.next()
	head, err := b.ReadHead()
	r.must(err)
	if head.Fields.Get("Upgrade") != "" {
		t.Errorf("Upgrade was forwarded: %q", head.Raw)
	}
}

// TestBackendHandshake: what the backend sees (rows 34, 40, 49, 50, 57, 64, 71,
// 76 to 78, 225).
func TestBackendHandshake(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	id := c.Headers(with(connect("te", "trailers", "host", "LOCALHOST:443", "expect", "100-continue",
		"sec-websocket-protocol", "chat", "sec-websocket-protocol", "superchat", "cookie", "a=1", "cookie", "b=2",
		"authorization", "Bearer x", "origin", "https://o", "user-agent", "ua", "sec-websocket-extensions", "permessage-deflate; client_max_window_bits",
		"x-custom", "v"), ":path", "/a%2fb?q=1&r"), false)
	b := r.next()
	h, err := b.AcceptUpgrade(f("Sec-WebSocket-Protocol", "superchat", "Set-Cookie", "s=1", "Set-Cookie", "t=2",
		"Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits=10", "Content-Length", "0", "X-Server", "y")...)
	r.must(err)
	if h.Line != "GET /a%2fb?q=1&r HTTP/1.1" {
		t.Errorf("request line: got %q", h.Line)
	}
	for _, line := range []string{
		"\r\nHost: localhost\r\n", "\r\nUpgrade: websocket\r\n", "\r\nConnection: Upgrade\r\n", "\r\nSec-WebSocket-Version: 13\r\n",
		"\r\nCookie: a=1; b=2\r\n", "\r\nAuthorization: Bearer x\r\n", "\r\nOrigin: https://o\r\n", "\r\nUser-Agent: ua\r\n",
		"\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
		"\r\nX-Forwarded-For: 127.0.0.1\r\n", "\r\nX-Forwarded-Proto: https\r\n", "\r\nX-Forwarded-Host: localhost\r\n", "\r\nVia: 2 wsgate-",
	} {
		if strings.Count(h.Raw, line) != 1 {
			t.Errorf("the backend's head has %q %d times, want once:\n%s", line, strings.Count(h.Raw, line), h.Raw)
		}
	}
	if got := strings.Join(h.Fields.Values("Sec-WebSocket-Protocol"), ", "); got != "chat, superchat" {
		t.Errorf("subprotocols: got %q, want %q", got, "chat, superchat")
	}
	for _, name := range []string{"TE", "Expect", "Content-Length", ":protocol", "HTTP2-Settings"} {
		if v := h.Fields.Values(name); v != nil {
			t.Errorf("the backend got %s %q", name, v)
		}
	}
	if k := h.Fields.Values("Sec-WebSocket-Key"); len(k) != 1 || len(k[0]) != 24 || !strings.Contains(h.Raw, "\r\nSec-WebSocket-Key: ") {
		t.Errorf("keys: got %q, want one of 24 characters", k)
	}
	head, err := c.WantStatus(id, 200)
	r.must(err)
	want := f("sec-websocket-protocol", "superchat", "sec-websocket-extensions", "permessage-deflate; client_max_window_bits=10", "x-server", "y")
	for _, x := range want {
		if got := head.Values(x.Name); len(got) != 1 || got[0] != x.Value {
			t.Errorf("%s of the 200: got %q, want %q", x.Name, got, x.Value)
		}
	}
	if got := strings.Join(head.Values("set-cookie"), "|"); got != "s=1|t=2" {
		t.Errorf("set-cookie of the 200: got %q, want two lines", got)
	}
	for _, name := range []string{"connection", "upgrade", "sec-websocket-accept", "content-length", "transfer-encoding"} { // rows 73, 74
		if v := head.Values(name); v != nil {
			t.Errorf("the 200 has %s %q", name, v)
		}
	}
}

// TestKeys: rows 58 to 60, 176, 228.
func TestKeys(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	for name, x := range map[string]struct {
		fields rawpeer.Fields
		accept string
	}{
		"59 valid key":   {f("sec-websocket-key", rawpeer.Key), rawpeer.AcceptFor(rawpeer.Key)},
		"59 invalid key": {f("sec-websocket-key", "short"), ""},
		"60 no key":      {nil, ""},
		"228 two keys":   {f("sec-websocket-key", rawpeer.Key, "sec-websocket-key", rawpeer.Key), ""},
	} {
		id := c.Connect("/chat", x.fields...)
		h, err := r.next().AcceptUpgrade()
		r.must(err)
		if k := h.Fields.Values("Sec-WebSocket-Key"); len(k) != 1 || k[0] == rawpeer.Key {
			t.Errorf("%s: keys at the backend: got %q, want one of the gateway's own", name, k)
		}
		head, err := c.WantStatus(id, 200)
		r.check(name, err)
		if got := head.Get("sec-websocket-accept"); got != x.accept {
			t.Errorf("%s: accept: got %q, want %q", name, got, x.accept)
		}
	}
}

// TestWhoIsAsked: the client's authority never chooses the target (row 27); a
// version is repaired (61), letter case of the protocol does not matter (24).
func TestWhoIsAsked(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	for name, head := range map[string]rawpeer.Fields{
		"27":  with(connect(), ":authority", "127.0.0.1:1"),
		"61":  without(connect(), "sec-websocket-version"),
		"24":  with(connect(), ":protocol", "WebSocket"),
		"225": with(connect(), ":authority", "[::1]:443"),
		"30":  with(connect(), ":scheme", "http"),
	} {
		id := c.Headers(head, false)
		h, err := r.next().AcceptUpgrade()
		r.must(err)
		if v := h.Fields.Values("Sec-WebSocket-Version"); len(v) != 1 || v[0] != "13" || h.Fields.Get("Upgrade") != "websocket" {
			t.Errorf("%s: got version %q, upgrade %q", name, v, h.Fields.Get("Upgrade"))
		}
		if got := h.Fields.Get("X-Forwarded-Proto"); got != "https" {
			t.Errorf("%s: X-Forwarded-Proto: got %q, want https", name, got)
		}
		_, err = c.WantStatus(id, 200)
		r.check(name, err)
	}
	plain, err := rawpeer.DialH2(r.http, nil)
	r.must(err)
	defer plain.Close()
	id := plain.Headers(connect(), false) // https claimed on cleartext
	_, err = plain.WantStatus(id, 421)
	r.check("30, cleartext", err)
	id = plain.Connect("/chat")
	_, err = r.next().AcceptUpgrade()
	r.must(err)
	_, err = plain.WantStatus(id, 200)
	r.check("prior knowledge", err)
}
