package h2

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"wsgate/bridge"
	"wsgate/internal/enginetest"
	"wsgate/internal/exchange"
)

// TestExtendedConnect is parts B and C of the case list: what an extended
// CONNECT may look like.
func TestExtendedConnect(t *testing.T) {
	cases := append(enginetest.Connect(), []enginetest.Case{
		{Row: "30 https on cleartext", Change: []string{":scheme", "https"}, Want: "421 wrong-scheme"},
		{Row: "40 same host", Change: []string{"host", "EXAMPLE.com:80"}, Want: "offer"},
		{Row: "222 http2-settings", Change: []string{"http2-settings", "AAA"}, Want: "offer"},
	}...)
	for _, c := range cases {
		t.Run(c.Row, func(t *testing.T) {
			p := newPeer(t, nil)
			p.headers(1, c.End, enginetest.Edit(connectFields, c.Change...)...)
			judgeAnswer(t, p, c.Want)
			p.alive() // the connection stays usable
			if c.Want != "offer" {
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
		p.headers(1, false, enginetest.Edit(connectFields, ":scheme", c.claim)...)
		judgeAnswer(t, p, c.want)
		if c.want == "offer" {
			if got := p.offers[0].Handshake().Scheme; got != c.scheme {
				t.Errorf("got scheme %q for %+v, want %q", got, c, c.scheme)
			}
			p.headers(3, true, enginetest.Edit(getFields, ":scheme", c.claim)...)
			p.loop.Wait(func() bool { return p.c.slots == 1 })
			if scheme != c.scheme {
				t.Errorf("ordinary request: got scheme %q for %+v, want %q", scheme, c, c.scheme)
			}
		}
	}
}

// TestHandshake is what the bridge sees: rows 34, 37, 40, 49, 50, 59, 228.
func TestHandshake(t *testing.T) {
	p := newPeer(t, nil)
	p.headers(1, false, enginetest.Edit(connectFields,
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
	p.headers(3, false, enginetest.Edit(connectFields, "+sec-websocket-key", "a", "+sec-websocket-key", "b")...)
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
	cases := append(enginetest.Ordinary(), enginetest.Case{Row: "https", Change: []string{":scheme", "https"}, End: true, Want: "421 wrong-scheme"})
	for _, c := range cases {
		t.Run(c.Row, func(t *testing.T) {
			p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200) }))
			p.headers(1, c.End, enginetest.Edit(getFields, c.Change...)...)
			p.loop.Wait(func() bool { return p.c.slots == 0 })
			judgeAnswer(t, p, c.Want)
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
	p.headers(1, false, enginetest.Edit(getFields, ":method", "POST", ":path", "/a?b=c", "x-one", "1", "+x-one", "2",
		"te", "trailers", "+cookie", "a=1", "+cookie", "b=2", "content-length", "4", "trailer", "x-sum")...)
	p.data(1, false, "ab")
	p.data(1, false, "cd")
	p.headers(1, true, "x-sum", "9")
	p.loop.Wait(func() bool { return p.c.slots == 0 })
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
