package h2

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"wsgate/bridge"
	"wsgate/internal/exchange"
)

// edit returns base with the pairs of change put in: a name that is there gets
// the new value, "-name" goes, anything else is appended.
func edit(base []string, change ...string) []string {
	out := append([]string(nil), base...)
	for i := 0; i+1 < len(change); i += 2 {
		name, value := change[i], change[i+1]
		at := -1
		for k := 0; k+1 < len(out); k += 2 {
			if out[k] == strings.TrimPrefix(name, "-") {
				at = k
			}
		}
		switch {
		case strings.HasPrefix(name, "-"):
			out = append(out[:at], out[at+2:]...)
		case strings.HasPrefix(name, "+") || at < 0:
			out = append(out, strings.TrimPrefix(name, "+"), value)
		default:
			out[at+1] = value
		}
	}
	return out
}

// TestExtendedConnect is parts B and C of the case list: what an extended
// CONNECT may look like. want is "offer", "malformed" or a status.
func TestExtendedConnect(t *testing.T) {
	cases := []struct {
		row    string
		change []string
		end    bool
		want   string
	}{
		{"11 well-formed", nil, false, "offer"},
		{"12 no scheme", []string{"-:scheme", ""}, false, "malformed"},
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
		{"22 connect-udp", []string{":protocol", "connect-udp"}, false, "501 unknown-protocol"},
		{"22 webtransport", []string{":protocol", "webtransport"}, false, "501 unknown-protocol"},
		{"23 h2c", []string{":protocol", "h2c"}, false, "501 unknown-protocol"},
		{"23 tls/1.2", []string{":protocol", "tls/1.2"}, false, "malformed"},
		{"24 mixed case", []string{":protocol", "WebSocket"}, false, "offer"},
		{"24 upper case", []string{":protocol", "WEBSOCKET"}, false, "offer"},
		{"25 list", []string{":protocol", "websocket, foo"}, false, "malformed"},
		{"25 version", []string{":protocol", "websocket/13"}, false, "malformed"},
		{"25 empty", []string{":protocol", ""}, false, "malformed"},
		{"25 space", []string{":protocol", "web socket"}, false, "malformed"},
		{"29 wss", []string{":scheme", "wss"}, false, "malformed"},
		{"29 ws", []string{":scheme", "ws"}, false, "malformed"},
		{"29 other scheme", []string{":scheme", "ftp"}, false, "400 unknown-scheme"},
		{"29 no scheme at all", []string{":scheme", "ht tp"}, false, "malformed"},
		{"30 https on cleartext", []string{":scheme", "https"}, false, "421 wrong-scheme"},
		{"31 connection", []string{"connection", "Upgrade"}, false, "malformed"},
		{"32 upgrade", []string{"upgrade", "websocket"}, false, "malformed"},
		{"33 keep-alive", []string{"keep-alive", "5"}, false, "malformed"},
		{"33 proxy-connection", []string{"proxy-connection", "close"}, false, "malformed"},
		{"33 transfer-encoding", []string{"transfer-encoding", "chunked"}, false, "malformed"},
		{"34 te gzip", []string{"te", "gzip"}, false, "malformed"},
		{"34 te trailers", []string{"te", "trailers"}, false, "offer"},
		{"35 END_STREAM", nil, true, "400 connect-with-content"},
		{"36 content-length", []string{"content-length", "5"}, false, "400 connect-with-content"},
		{"36 content-length 0", []string{"content-length", "0"}, false, "offer"},
		{"36 content-length no number", []string{"content-length", "+5"}, false, "malformed"},
		{"37 expect", []string{"expect", "100-continue"}, false, "offer"},
		{"38 userinfo", []string{":authority", "user:pw@example.com"}, false, "malformed"},
		{"39 other host", []string{"host", "other.example"}, false, "malformed"},
		{"39 host twice", []string{"+host", "example.com", "+host", "example.com"}, false, "malformed"},
		{"40 same host", []string{"host", "EXAMPLE.com:80"}, false, "offer"},
		{"41 upper case name", []string{"Origin", "x"}, false, "malformed"},
		{"42 space in name", []string{"a b", "x"}, false, "malformed"},
		{"42 CR in name", []string{"a\rb", "x"}, false, "malformed"},
		{"42 LF in name", []string{"a\nb", "x"}, false, "malformed"},
		{"42 NUL in name", []string{"a\x00b", "x"}, false, "malformed"},
		{"42 DEL in name", []string{"a\x7fb", "x"}, false, "malformed"},
		{"42 0x80 in name", []string{"a\x80b", "x"}, false, "malformed"},
		{"42 empty name", []string{"", "x"}, false, "malformed"},
		{"43 colon in name", []string{"a:b", "x"}, false, "malformed"},
		{"44 injected line in cookie", []string{"cookie", "a=b\r\nx: y"}, false, "malformed"},
		{"44 injected line in origin", []string{"origin", "a\r\nx: y"}, false, "malformed"},
		{"44 injected line in subprotocol", []string{"sec-websocket-protocol", "a\r\nx: y"}, false, "malformed"},
		{"45 bare LF", []string{"origin", "a\nb"}, false, "malformed"},
		{"45 bare CR", []string{"origin", "a\rb"}, false, "malformed"},
		{"45 NUL", []string{"origin", "a\x00b"}, false, "malformed"},
		{"46 leading space", []string{"origin", " a"}, false, "malformed"},
		{"46 trailing tab", []string{"origin", "a\t"}, false, "malformed"},
		{"47 CRLF in path", []string{":path", "/a\r\nb"}, false, "malformed"},
		{"47 space in path", []string{":path", "/a b"}, false, "malformed"},
		{"47 hash in path", []string{":path", "/a#b"}, false, "malformed"},
		{"47 space in method", []string{":method", "CONN ECT"}, false, "malformed"},
		{"47 CRLF in authority", []string{":authority", "a\r\nb"}, false, "malformed"},
		{"48 raw UTF-8", []string{":path", "/caf\xc3\xa9"}, false, "400 bad-target"},
		{"48 backslash", []string{":path", `/a\b`}, false, "offer"},
		{"48 %00", []string{":path", "/a%00"}, false, "offer"},
		{"48 dot segments", []string{":path", "/a/../b"}, false, "400 path-dots"},
		{"48 coded dot segments", []string{":path", "/a/%2e%2e/b"}, false, "400 path-dots"},
		{"48 two slashes", []string{":path", "//host"}, false, "offer"},
		{"59 key", []string{"sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="}, false, "offer"},
		{"62 version is the bridge's", []string{"sec-websocket-version", "8"}, false, "offer"},
		{"222 http2-settings", []string{"http2-settings", "AAA"}, false, "offer"},
		{"228 two keys", []string{"+sec-websocket-key", "a", "+sec-websocket-key", "b"}, false, "offer"},
		{"231 paren in name", []string{"a(b", "x"}, false, "malformed"},
		{"231 brace in name", []string{"a{b", "x"}, false, "malformed"},
	}
	for _, c := range cases {
		t.Run(c.row, func(t *testing.T) {
			p := newPeer(t, nil)
			p.headers(1, c.end, edit(connectFields, c.change...)...)
			judgeAnswer(t, p, c.want)
			p.alive() // the connection stays usable
			if c.want != "offer" {
				p.connectWS(3)
			}
		})
	}
}

// judgeAnswer compares what became of stream 1.
func judgeAnswer(t *testing.T, p *peer, want string) {
	t.Helper()
	all := p.frames()
	got := show(all)
	switch want {
	case "offer":
		if len(p.offers) != 1 || got != "" {
			t.Fatalf("got %d offers and [%s], want 1 and nothing", len(p.offers), got)
		}
	case "malformed":
		if len(p.offers) != 0 || got != "RST_STREAM 1 PROTOCOL_ERROR" {
			t.Fatalf("got %d offers and [%s], want 0 and RST_STREAM 1 PROTOCOL_ERROR", len(p.offers), got)
		}
		if n := p.srv.Counters.Malformed.Load(); n != 1 {
			t.Errorf("got %d malformed counted, want 1", n)
		}
		if len(p.rejected) != 1 || !strings.HasPrefix(p.rejected[0], "0 malformed: ") {
			t.Errorf("got told %q, want one malformed request", p.rejected)
		}
	default: // status and reason code
		status, code, _ := strings.Cut(want, " ")
		if code == "" {
			if ended := "HEADERS 1 " + want + " end"; len(p.offers) != 0 || got != ended {
				t.Fatalf("got %d offers and [%s], want 0 and [%s]", len(p.offers), got, ended)
			}
			break
		}
		body, end := dataOf(all, 1)
		if f := p.wantStatus(all, 1, status); f.get("content-type") != "text/plain; charset=utf-8" || f.get("date") == "" ||
			!strings.HasPrefix(string(body), status+" ") || !strings.HasSuffix(string(body), ": "+code+"\n") || !end || f.get("content-length") != fmt.Sprint(len(body)) {
			t.Fatalf("got [%s] %v %q, end %v; want a line with %s", got, f.fields, body, end, code)
		}
		if len(p.offers) != 0 || fmt.Sprint(p.rejected) != "["+want+"]" {
			t.Errorf("got %d offers and told %v, want 0 and [%s]", len(p.offers), p.rejected, want)
		}
	}
	if len(p.c.streams) != len(p.offers) {
		t.Errorf("got %d streams left, want %d", len(p.c.streams), len(p.offers))
	}
}

// TestPlainConnect is rows 26 and 28, and row 7: an extended CONNECT that was
// not announced.
func TestPlainConnect(t *testing.T) {
	cases := []struct {
		row    string
		fields []string
		want   string
	}{
		{"26", []string{":method", "CONNECT", ":authority", "host:443"}, "501 connect-not-supported"},
		{"28 scheme", []string{":method", "CONNECT", ":scheme", "http", ":authority", "host:443"}, "malformed"},
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
			p.headers(1, false, c.fields...)
			judgeAnswer(t, p, c.want)
			p.alive()
		})
	}
}

// TestScheme is row 30 on TLS and behind a trusted proxy, whose word counts
// either way.
func TestScheme(t *testing.T) {
	for _, c := range []struct {
		claim          string
		overTLS, trust bool
		want, scheme   string
	}{
		{"https", true, false, "offer", "https"},
		{"http", true, false, "offer", "https"},
		{"https", false, true, "offer", "https"},
		{"HTTPS", false, true, "offer", "https"},
		{"http", true, true, "offer", "http"},
		{"http", false, true, "offer", "http"},
		{"https", false, false, "421 wrong-scheme", ""},
	} {
		var scheme string
		p := rawPeer(t, func(s *Server) {
			serveFunc(func(_ http.ResponseWriter, r *http.Request) { scheme = r.URL.Scheme })(s)
			if c.trust {
				s.TrustScheme = func(*bridge.Client) bool { return true }
			}
		})
		if c.overTLS {
			p.client.TLS = new(tls.ConnectionState)
		}
		p.send([]byte(clientPreface))
		p.settings()
		p.frames()
		p.headers(1, false, edit(connectFields, ":scheme", c.claim)...)
		judgeAnswer(t, p, c.want)
		if c.want == "offer" {
			if got := p.offers[0].Handshake().Scheme; got != c.scheme {
				t.Errorf("got scheme %q for %+v, want %q", got, c, c.scheme)
			}
			p.headers(3, true, edit(getFields, ":scheme", c.claim)...)
			p.loop.wait(func() bool { return p.c.slots == 1 })
			if scheme != c.scheme {
				t.Errorf("ordinary request: got scheme %q for %+v, want %q", scheme, c, c.scheme)
			}
		}
	}
}

// TestHandshake is what the bridge sees: rows 34, 37, 40, 49, 50, 59, 228.
func TestHandshake(t *testing.T) {
	p := newPeer(t, nil)
	p.headers(1, false, edit(connectFields,
		"host", "example.com:80", "te", "trailers", "expect", "100-continue", "content-length", "0",
		"http2-settings", "AAA", "sec-websocket-key", "the-key", "+cookie", "a=1", "x-a", "1",
		"+cookie", "b=2", "+cookie", "c=3", "+sec-websocket-protocol", "chat", "+sec-websocket-protocol", "superchat")...)
	h := p.offers[0].Handshake()
	if h.Major != 2 || h.Scheme != "http" || h.Authority != "example.com" || h.Path != "/chat" || h.Key != "the-key" {
		t.Errorf("got %+v, want version 2, http, example.com, /chat, the-key", h)
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
	p.headers(3, false, edit(connectFields, "+sec-websocket-key", "a", "+sec-websocket-key", "b")...)
	if got := p.offers[1].Handshake(); got.Key != "" || got.Fields.Count("sec-websocket-key") != 0 {
		t.Errorf("got key %q and %d key fields of two keys, want none", got.Key, got.Fields.Count("sec-websocket-key"))
	}
}

// TestIndexedProtocol is row 224: HPACK's dynamic table holds :protocol.
func TestIndexedProtocol(t *testing.T) {
	p := newPeer(t, nil)
	p.connectWS(1)
	p.connectWS(3)
	if got, want := p.offers[1].Handshake().Path, "/chat"; got != want {
		t.Errorf("got path %q on the second stream, want %q", got, want)
	}
}

// TestOrdinaryHeads is the grammar of requests that are no tunnels.
func TestOrdinaryHeads(t *testing.T) {
	cases := []struct {
		row    string
		change []string
		end    bool
		want   string
	}{
		{"GET", nil, true, "200"},
		{"181 other host", []string{"host", "other"}, true, "malformed"},
		{"host alone", []string{"-:authority", "", "host", "example.com"}, true, "200"},
		{"neither", []string{"-:authority", ""}, true, "malformed"},
		{"empty authority", []string{":authority", ""}, true, "malformed"},
		{"no method", []string{"-:method", ""}, true, "malformed"},
		{"OPTIONS star", []string{":method", "OPTIONS", ":path", "*"}, true, "200"},
		{"GET star", []string{":path", "*"}, true, "malformed"},
		{"183 length without content", []string{"content-length", "3"}, true, "malformed"},
		{"204 +5", []string{"content-length", "+5"}, false, "malformed"},
		{"204 5, 5 and 6", []string{"+content-length", "5", "+content-length", "6"}, false, "malformed"},
		{"48 no URL", []string{":path", "/%zz"}, true, "200"},
		{"https", []string{":scheme", "https"}, true, "421 wrong-scheme"},
		{"upgrade", []string{"upgrade", "h2c"}, true, "malformed"},
		{"dots", []string{":path", "/./a"}, true, "400 path-dots"},
	}
	for _, c := range cases {
		t.Run(c.row, func(t *testing.T) {
			p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200) }))
			p.headers(1, c.end, edit(getFields, c.change...)...)
			p.loop.wait(func() bool { return p.c.slots == 0 })
			judgeAnswer(t, p, c.want)
			p.alive()
		})
	}
}

func serveFunc(f http.HandlerFunc) func(*Server) {
	return func(s *Server) { s.Exchange = &exchange.Config{Handler: f, Server: new(http.Server)} }
}

// TestHTTPRequest is the edge where fields become an http.Request.
func TestHTTPRequest(t *testing.T) {
	var got *http.Request
	var body string
	p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read the content: %v", err)
		}
		got, body = r, string(b)
	}))
	p.headers(1, false, edit(getFields, ":method", "POST", ":path", "/a?b=c", "x-one", "1", "+x-one", "2",
		"te", "trailers", "+cookie", "a=1", "+cookie", "b=2", "content-length", "4", "trailer", "x-sum")...)
	p.data(1, false, "ab")
	p.data(1, false, "cd")
	p.headers(1, true, "x-sum", "9")
	p.loop.wait(func() bool { return p.c.slots == 0 })
	if body != "abcd" || got.ContentLength != 4 {
		t.Errorf("got content %q of length %d, want %q of 4", body, got.ContentLength, "abcd")
	}
	if got.Method != "POST" || got.URL.Path != "/a" || got.URL.RawQuery != "b=c" || got.Host != "example.com" || got.ProtoMajor != 2 || got.RequestURI != "/a?b=c" {
		t.Errorf("got %s %v host %q HTTP/%d %q, want POST /a?b=c of example.com", got.Method, got.URL, got.Host, got.ProtoMajor, got.RequestURI)
	}
	if h := got.Header; len(h["X-One"]) != 2 || h.Get("Cookie") != "a=1; b=2" || h["Te"] != nil || h["Trailer"] != nil {
		t.Errorf("got header %v, want two X-One, one Cookie, no Te, no Trailer", h)
	}
	if got, want := got.Trailer.Get("X-Sum"), "9"; got != want {
		t.Errorf("got trailer %q, want %q", got, want)
	}
	if got.Context().Value(http.ServerContextKey) == nil {
		t.Error("got no http.ServerContextKey in the context")
	}
}
