package h3

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestExtendedConnect is parts B and C of the case list on HTTP/3 (rows 142 and
// 143): what an extended CONNECT may look like. want is "offer", "malformed" or a
// status and a reason code.
func TestExtendedConnect(t *testing.T) {
	cases := []struct {
		row    string
		change []string
		end    bool
		want   string
	}{
		{"11 well-formed", nil, false, "offer"},
		{"12, 143 no scheme", []string{"-:scheme", ""}, false, "malformed"},
		{"13 no path", []string{"-:path", ""}, false, "malformed"},
		{"14 no authority", []string{"-:authority", ""}, false, "malformed"},
		{"15 host in its place", []string{"-:authority", "", "host", "example.com"}, false, "malformed"},
		{"16 empty path", []string{":path", ""}, false, "malformed"},
		{"17 path without slash", []string{":path", "chat"}, false, "malformed"},
		{"17 path star", []string{":path", "*"}, false, "malformed"},
		{"17 absolute path", []string{":path", "http://evil/"}, false, "malformed"},
		{"18 GET", []string{":method", "GET"}, false, "malformed"},
		{"19 protocol twice", []string{"+:protocol", "websocket"}, false, "malformed"},
		{"19 path twice", []string{"+:path", "/chat"}, false, "malformed"},
		{"19 method twice", []string{"+:method", "CONNECT"}, false, "malformed"},
		{"19 first copy empty", []string{":authority", "", "+:authority", "example.com"}, false, "malformed"},
		{"20 pseudo after regular", []string{"-:path", "", "+:path", "/chat"}, false, "malformed"},
		{"21 unknown pseudo", []string{"-sec-websocket-version", "", "+:foo", "x"}, false, "malformed"},
		{"21 status", []string{"-sec-websocket-version", "", "+:status", "200"}, false, "malformed"},
		{"22, 146 connect-udp", []string{":protocol", "connect-udp"}, false, "501 unknown-protocol"},
		{"22, 163 webtransport", []string{":protocol", "webtransport"}, false, "501 unknown-protocol"},
		{"23 h2c", []string{":protocol", "h2c"}, false, "501 unknown-protocol"},
		{"23 tls/1.2", []string{":protocol", "tls/1.2"}, false, "malformed"},
		{"24 mixed case", []string{":protocol", "WebSocket"}, false, "offer"},
		{"25 list", []string{":protocol", "websocket, foo"}, false, "malformed"},
		{"25 version", []string{":protocol", "websocket/13"}, false, "malformed"},
		{"25 empty", []string{":protocol", ""}, false, "malformed"},
		{"25 space", []string{":protocol", "web socket"}, false, "malformed"},
		{"29 wss", []string{":scheme", "wss"}, false, "malformed"},
		{"29 other scheme", []string{":scheme", "ftp"}, false, "400 unknown-scheme"},
		{"30 http on TLS", []string{":scheme", "http"}, false, "offer"},
		{"31 connection", []string{"connection", "Upgrade"}, false, "malformed"},
		{"32 upgrade", []string{"upgrade", "websocket"}, false, "malformed"},
		{"33 keep-alive", []string{"keep-alive", "5"}, false, "malformed"},
		{"33 proxy-connection", []string{"proxy-connection", "close"}, false, "malformed"},
		{"33 transfer-encoding", []string{"transfer-encoding", "chunked"}, false, "malformed"},
		{"34 te gzip", []string{"te", "gzip"}, false, "malformed"},
		{"34 te trailers", []string{"te", "trailers"}, false, "offer"},
		{"35 FIN", nil, true, "400 connect-with-content"},
		{"36 content-length", []string{"content-length", "5"}, false, "400 connect-with-content"},
		{"36 content-length 0", []string{"content-length", "0"}, false, "offer"},
		{"36 content-length no number", []string{"content-length", "+5"}, false, "malformed"},
		{"37 expect", []string{"expect", "100-continue"}, false, "offer"},
		{"38 userinfo", []string{":authority", "user:pw@example.com"}, false, "malformed"},
		{"39 other host", []string{"host", "other.example"}, false, "malformed"},
		{"39 host twice", []string{"+host", "example.com", "+host", "example.com"}, false, "malformed"},
		{"40 same host", []string{"host", "EXAMPLE.com:443"}, false, "offer"},
		{"41 upper case name", []string{"Origin", "x"}, false, "malformed"},
		{"42 space in name", []string{"a b", "x"}, false, "malformed"},
		{"42 CR in name", []string{"a\rb", "x"}, false, "malformed"},
		{"42 NUL in name", []string{"a\x00b", "x"}, false, "malformed"},
		{"42 0x80 in name", []string{"a\x80b", "x"}, false, "malformed"},
		{"42 empty name", []string{"", "x"}, false, "malformed"},
		{"43 colon in name", []string{"a:b", "x"}, false, "malformed"},
		{"44 injected line", []string{"cookie", "a=b\r\nx: y"}, false, "malformed"},
		{"45 bare LF", []string{"origin", "a\nb"}, false, "malformed"},
		{"45 NUL", []string{"origin", "a\x00b"}, false, "malformed"},
		{"46 leading space", []string{"origin", " a"}, false, "malformed"},
		{"46 trailing tab", []string{"origin", "a\t"}, false, "malformed"},
		{"47 CRLF in path", []string{":path", "/a\r\nb"}, false, "malformed"},
		{"47 space in path", []string{":path", "/a b"}, false, "malformed"},
		{"47 hash in path", []string{":path", "/a#b"}, false, "malformed"},
		{"47 space in method", []string{":method", "CONN ECT"}, false, "malformed"},
		{"47 CRLF in authority", []string{":authority", "a\r\nb"}, false, "malformed"},
		{"48 raw UTF-8", []string{":path", "/caf\xc3\xa9"}, false, "400 bad-target"},
		{"48 dot segments", []string{":path", "/a/../b"}, false, "400 path-dots"},
		{"48 coded dot segments", []string{":path", "/a/%2e%2e/b"}, false, "400 path-dots"},
		{"48 two slashes", []string{":path", "//host"}, false, "offer"},
		{"59 key", []string{"sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="}, false, "offer"},
		{"62 version is the bridge's", []string{"sec-websocket-version", "8"}, false, "offer"},
		{"144 both and different", []string{"host", "other.example"}, false, "malformed"},
		{"144 empty authority", []string{":authority", ""}, false, "malformed"},
		{"228 two keys", []string{"+sec-websocket-key", "a", "+sec-websocket-key", "b"}, false, "offer"},
		{"231 paren in name", []string{"a(b", "x"}, false, "malformed"},
	}
	for _, c := range cases {
		t.Run(c.row, func(t *testing.T) {
			p := newPeer(t, nil)
			p.headers(0, c.end, edit(connectFields, c.change...)...)
			judgeAnswer(t, p, c.want, c.end)
			p.alive() // the connection stays usable
			if c.want != "offer" {
				p.connectWS(p.c.nextID)
			}
		})
	}
}

// judgeAnswer compares what became of stream 0.
func judgeAnswer(t *testing.T, p *peer, want string, end bool) {
	t.Helper()
	status, code, own := strings.Cut(want, " ")
	stop := ", STOP 0x100" // RFC 9114 section 4.1
	if end {
		stop = ""
	}
	switch {
	case want == "offer":
		if p.want(0, ""); len(p.offers) != 1 {
			t.Fatalf("got %d offers, want 1", len(p.offers))
		}
	case want == "malformed":
		if end {
			p.want(0, "RESET 0x10e")
		} else {
			p.want(0, "RESET 0x10e, STOP 0x10e")
		}
		if len(p.offers) != 0 || p.srv.Counters.Malformed.Load() != 1 {
			t.Fatalf("got %d offers and %d malformed counted, want 0 and 1", len(p.offers), p.srv.Counters.Malformed.Load())
		}
		if len(p.rejected) != 1 || !strings.HasPrefix(p.rejected[0], "0 malformed: ") {
			t.Errorf("got told %q, want one malformed request", p.rejected)
		}
	case own:
		f := p.wantStatus(p.frames(0), status)
		for name, want := range map[string]string{"content-type": "text/plain; charset=utf-8", "cache-control": "no-store"} {
			if got := f.get(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		if f.get("date") == "" || f.get("content-length") == "" {
			t.Errorf("got fields %v, want date and content-length", f.fields)
		}
		if len(p.offers) != 0 || fmt.Sprint(p.rejected) != "["+want+"]" {
			t.Errorf("got %d offers and told %v, want 0 and [%s]", len(p.offers), p.rejected, want)
		}
		p.want(0, "FIN"+stop)
	default:
		p.want(0, "HEADERS "+want+", FIN"+stop)
	}
	_ = code
	if len(p.c.streams) != len(p.offers) || p.c.slots != len(p.offers) || p.streams[0].released != 1-len(p.offers) {
		t.Errorf("got %d streams, %d slots, %d releases left, want %d, %d, %d",
			len(p.c.streams), p.c.slots, p.streams[0].released, len(p.offers), len(p.offers), 1-len(p.offers))
	}
}

// TestPlainConnect is rows 26 and 28, and row 7: an extended CONNECT that was not
// announced.
func TestPlainConnect(t *testing.T) {
	cases := []struct {
		row    string
		fields []string
		want   string
	}{
		{"26", []string{":method", "CONNECT", ":authority", "host:443"}, "501 connect-not-supported"},
		{"28 scheme", []string{":method", "CONNECT", ":scheme", "https", ":authority", "host:443"}, "malformed"},
		{"28 path", []string{":method", "CONNECT", ":authority", "host:443", ":path", "/"}, "malformed"},
		{"28 nothing", []string{":method", "CONNECT"}, "malformed"},
		{"7", connectFields, "malformed"},
	}
	for _, c := range cases {
		t.Run(c.row, func(t *testing.T) {
			p := newPeer(t, func(s *Server) {
				if c.row == "7" {
					s.Offer = nil
				}
			})
			p.headers(0, false, c.fields...)
			judgeAnswer(t, p, c.want, false)
			if p.q.ends != 0 {
				t.Errorf("got an end of the connection with 0x%x, want none", uint64(p.q.code))
			}
		})
	}
}

// TestHandshake is what the bridge sees: rows 34, 37, 40, 49, 50, 59, 228.
func TestHandshake(t *testing.T) {
	p := newPeer(t, nil)
	p.headers(0, false, edit(connectFields,
		"host", "example.com:443", "te", "trailers", "expect", "100-continue", "content-length", "0",
		"sec-websocket-key", "the-key", "+cookie", "a=1", "x-a", "1",
		"+cookie", "b=2", "+cookie", "c=3", "+sec-websocket-protocol", "chat", "+sec-websocket-protocol", "superchat")...)
	h := p.offers[0].Handshake()
	if h.Major != 3 || h.Scheme != "https" || h.Authority != "example.com" || h.Path != "/chat" || h.Key != "the-key" || h.Client != p.client {
		t.Errorf("got %+v, want version 3, https, example.com, /chat, the-key and the client", h)
	}
	var lines []string
	for _, f := range h.Fields {
		lines = append(lines, f.Name+": "+f.Value)
	}
	got := strings.Join(lines, "\n")
	want := "sec-websocket-version: 13\ncookie: a=1; b=2; c=3\nx-a: 1\nsec-websocket-protocol: chat\nsec-websocket-protocol: superchat"
	if got != want {
		t.Errorf("got fields\n%s\nwant\n%s", got, want)
	}
	p.headers(4, false, edit(connectFields, "+sec-websocket-key", "a", "+sec-websocket-key", "b")...)
	if got := p.offers[1].Handshake(); got.Key != "" || got.Fields.Count("sec-websocket-key") != 0 {
		t.Errorf("got key %q and %d key fields of two keys, want none", got.Key, got.Fields.Count("sec-websocket-key"))
	}
	p.headers(8, false, edit(connectFields, ":scheme", "http")...)
	if got := p.offers[2].Handshake().Scheme; got != "https" {
		t.Errorf("got scheme %q for a claim of http (row 30), want that of the transport, https", got)
	}
}

// TestOrdinaryHeads is the grammar of requests that are no tunnels.
func TestOrdinaryHeads(t *testing.T) {
	cases := []struct {
		row    string
		change []string
		want   string
	}{
		{"GET", nil, "200"},
		{"143 no scheme", []string{"-:scheme", ""}, "malformed"},
		{"144 other host", []string{"host", "other"}, "malformed"},
		{"145 host alone", []string{"-:authority", "", "host", "example.com"}, "200"},
		{"144 neither", []string{"-:authority", ""}, "malformed"},
		{"144 empty authority", []string{":authority", ""}, "malformed"},
		{"144 empty host alone", []string{"-:authority", "", "host", ""}, "malformed"},
		{"no method", []string{"-:method", ""}, "malformed"},
		{"OPTIONS star", []string{":method", "OPTIONS", ":path", "*"}, "200"},
		{"GET star", []string{":path", "*"}, "malformed"},
		{"183 length without content", []string{"content-length", "3"}, "malformed"},
		{"204 +5", []string{"content-length", "+5"}, "malformed"},
		{"204 5 and 6", []string{"+content-length", "5", "+content-length", "6"}, "malformed"},
		{"48 no URL", []string{":path", "/%zz"}, "200"},
		{"upgrade", []string{"upgrade", "h2c"}, "malformed"},
		{"dots", []string{":path", "/./a"}, "400 path-dots"},
	}
	for _, c := range cases {
		t.Run(c.row, func(t *testing.T) {
			p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200) }))
			p.headers(0, true, edit(getFields, c.change...)...)
			p.loop.wait(func() bool { return p.c.slots == 0 })
			judgeAnswer(t, p, c.want, true)
			p.alive()
		})
	}
}

// TestHTTPRequest is the edge where fields become an http.Request.
func TestHTTPRequest(t *testing.T) {
	var got *http.Request
	p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) { got = r }))
	p.headers(0, true, edit(getFields, ":path", "/a/b?c=d", "te", "trailers", "+cookie", "a=1", "+cookie", "b=2", "x-y", "1", "+x-y", "2")...)
	p.loop.wait(func() bool { return p.c.slots == 0 })
	if got.Method != "GET" || got.Proto != "HTTP/3.0" || got.ProtoMajor != 3 || got.Host != "example.com" || got.RequestURI != "/a/b?c=d" ||
		got.URL.Path != "/a/b" || got.URL.Scheme != "https" || got.RemoteAddr != "192.0.2.1:1234" || got.ContentLength != 0 {
		t.Errorf("got %+v", got)
	}
	if h := fmt.Sprint(got.Header); h != "map[Cookie:[a=1; b=2] X-Y:[1 2]]" {
		t.Errorf("got header %s, want the cookie in one line and both lines of x-y", h)
	}
}
