package h3

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"wsgate/internal/enginetest"
)

// TestExtendedConnect is parts B and C of the case list on HTTP/3 (rows 142 and
// 143): what an extended CONNECT may look like.
func TestExtendedConnect(t *testing.T) {
	cases := append(enginetest.Connect(), []enginetest.Case{
		{Row: "30 http on TLS", Change: []string{":scheme", "http"}, Want: "offer"},
		{Row: "40 same host", Change: []string{"host", "EXAMPLE.com:443"}, Want: "offer"},
	}...)
	for _, c := range cases {
		t.Run(c.Row, func(t *testing.T) {
			p := newPeer(t, nil)
			p.headers(0, c.End, enginetest.Edit(connectFields, c.Change...)...)
			judgeAnswer(t, p, c.Want, c.End)
			p.alive() // the connection stays usable
			if c.Want != "offer" {
				p.connectWS(p.c.nextID)
			}
		})
	}
}

// judgeAnswer compares what became of stream 0.
func judgeAnswer(t *testing.T, p *peer, want string, end bool) {
	t.Helper()
	status, _, own := strings.Cut(want, " ")
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
	p.headers(0, false, enginetest.Edit(connectFields,
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
	p.headers(4, false, enginetest.Edit(connectFields, "+sec-websocket-key", "a", "+sec-websocket-key", "b")...)
	if got := p.offers[1].Handshake(); got.Key != "" || got.Fields.Count("sec-websocket-key") != 0 {
		t.Errorf("got key %q and %d key fields of two keys, want none", got.Key, got.Fields.Count("sec-websocket-key"))
	}
	p.headers(8, false, enginetest.Edit(connectFields, ":scheme", "http")...)
	if got := p.offers[2].Handshake().Scheme; got != "https" {
		t.Errorf("got scheme %q for a claim of http (row 30), want that of the transport, https", got)
	}
}

// TestOrdinaryHeads is the grammar of requests that are no tunnels.
func TestOrdinaryHeads(t *testing.T) {
	for _, c := range enginetest.Ordinary() {
		t.Run(c.Row, func(t *testing.T) {
			p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200) }))
			p.headers(0, c.End, enginetest.Edit(getFields, c.Change...)...)
			p.loop.Wait(func() bool { return p.c.slots == 0 })
			judgeAnswer(t, p, c.Want, c.End)
			p.alive()
		})
	}
}

// TestHTTPRequest is the edge where fields become an http.Request.
func TestHTTPRequest(t *testing.T) {
	var got *http.Request
	p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) { got = r }))
	p.headers(0, true, enginetest.Edit(getFields, ":path", "/a/b?c=d", "te", "trailers", "+cookie", "a=1", "+cookie", "b=2", "x-y", "1", "+x-y", "2")...)
	p.loop.Wait(func() bool { return p.c.slots == 0 })
	if got.Method != "GET" || got.Proto != "HTTP/3.0" || got.ProtoMajor != 3 || got.Host != "example.com" || got.RequestURI != "/a/b?c=d" ||
		got.URL.Path != "/a/b" || got.URL.Scheme != "https" || got.RemoteAddr != "192.0.2.1:1234" || got.ContentLength != 0 {
		t.Errorf("got %+v", got)
	}
	if h := fmt.Sprint(got.Header); h != "map[Cookie:[a=1; b=2] X-Y:[1 2]]" {
		t.Errorf("got header %s, want the cookie in one line and both lines of x-y", h)
	}
}
