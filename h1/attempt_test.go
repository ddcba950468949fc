package h1

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/wskey"
)

const clientKey = "dGhlIHNhbXBsZSBub25jZQ=="

// opening is one attempt over a fake socket, with what came of it.
type opening struct {
	l      *fakeLoop
	s      *fakeSide
	a      *attempt
	calls  int
	side   bridge.Side
	fields bridge.Fields
	err    error
}

func handshake() *bridge.Handshake {
	return &bridge.Handshake{
		Major: 2, Scheme: "https", Authority: "example.com", Path: "/chat?x=1",
		Fields: bridge.Fields{
			{Name: "origin", Value: "https://example.com"},
			{Name: "sec-websocket-version", Value: "13"},
			{Name: "sec-websocket-protocol", Value: "chat, superchat"},
			{Name: "sec-websocket-extensions", Value: `permessage-deflate; client_max_window_bits, x; a="b,c"`},
			{Name: "cookie", Value: "a=1; b=2"},
			{Name: "x-request-id", Value: "7"},
		},
	}
}

func open(t *testing.T, b *Backend, h *bridge.Handshake, piece int) *opening {
	t.Helper()
	o := &opening{l: newFakeLoop()}
	o.s = newFakeSide(o.l)
	o.s.piece = piece
	o.a = &attempt{b: b, l: o.l, h: h, done: func(s bridge.Side, f bridge.Fields, err error) {
		o.calls++
		o.side, o.fields, o.err = s, f, err
	}}
	o.a.scan = scanner{maxHead: orDefault(b.MaxHead, defaultMaxHead), answer: true}
	o.a.timer.Fire = o.a.expired
	o.l.After(orDefault(b.OpenTimeout, defaultOpenTimeout), &o.a.timer)
	o.a.begin(o.s)
	o.l.turn()
	return o
}

// answer fills in the digest of the attempt's key.
func (o *opening) answer(s string) string {
	return strings.NewReplacer("$ACCEPT", wskey.Accept(o.a.key), "\n", "\r\n").Replace(s)
}

func show(f bridge.Fields) string {
	var b strings.Builder
	for _, x := range f {
		fmt.Fprintf(&b, "%s: %s\n", x.Name, x.Value)
	}
	return b.String()
}

// what says what came of an attempt, for tables.
func (o *opening) what() string {
	var r *bridge.Refusal
	switch {
	case o.calls == 0:
		return "pending"
	case o.calls > 1:
		return "answered twice"
	case o.err == nil:
		return "open"
	case errors.As(o.err, &r) && r.Foreign:
		return fmt.Sprintf("foreign %d", r.Status)
	case errors.As(o.err, &r):
		return fmt.Sprintf("%d %s", r.Status, r.Code)
	}
	return o.err.Error()
}

const good = "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: $ACCEPT\n"

func TestAnswerGate(t *testing.T) {
	fields := func(n int) string { return strings.Repeat("X-A: b\n", n) }
	for _, tc := range []struct{ row, answer, want string }{
		{"76", good + "\n", "open"},
		{"64", good + "Sec-WebSocket-Protocol: superchat\n\n", "open"},
		{"65", good + "Sec-WebSocket-Protocol: other\n\n", "502 bad-subprotocol"},
		{"65 case", good + "Sec-WebSocket-Protocol: Chat\n\n", "502 bad-subprotocol"},
		{"65 list", good + "Sec-WebSocket-Protocol: chat, superchat\n\n", "502 bad-subprotocol"},
		{"66 empty", good + "Sec-WebSocket-Protocol:\n\n", "502 bad-subprotocol"},
		{"66 two", good + "Sec-WebSocket-Protocol: chat\nSec-WebSocket-Protocol: chat\n\n", "502 bad-subprotocol"},
		{"67", good + "Sec-WebSocket-Extensions: foo\n\n", "502 bad-extension"},
		{"67 second", good + "Sec-WebSocket-Extensions: permessage-deflate, foo\n\n", "502 bad-extension"},
		{"67 open quote", good + "Sec-WebSocket-Extensions: foo; x=\"\\\n\n", "502 bad-extension"},
		{"67 in quotes only", good + "Sec-WebSocket-Extensions: c\n\n", "502 bad-extension"},
		{"68", good + "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10; x=\"y,z\"\n\n", "open"},
		{"74", good + "Content-Length: 0\nTransfer-Encoding: chunked\n\n", "open"},
		{"79", "HTTP/1.1 101 S\nUpgrade: websocket\nConnection: Upgrade\n\n", "502 no-accept"},
		{"80", "HTTP/1.1 101 S\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n\n", "502 bad-accept"},
		{"82", "HTTP/1.1 101 S\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Accept:  \t $ACCEPT \t\n\n", "open"},
		{"83", good + "Sec-WebSocket-Accept: wrong\n\n", "502 two-accepts"},
		{"83 both right", good + "Sec-WebSocket-Accept: $ACCEPT\n\n", "502 two-accepts"},
		{"84 none", "HTTP/1.1 101 S\nConnection: Upgrade\nSec-WebSocket-Accept: $ACCEPT\n\n", "502 bad-upgrade"},
		{"84 foo", "HTTP/1.1 101 S\nUpgrade: foo\nConnection: Upgrade\nSec-WebSocket-Accept: $ACCEPT\n\n", "502 bad-upgrade"},
		{"84 list", "HTTP/1.1 101 S\nUpgrade: websocket, foo\nConnection: Upgrade\nSec-WebSocket-Accept: $ACCEPT\n\n", "502 bad-upgrade"},
		{"84 lines", good + "Upgrade: foo\n\n", "502 bad-upgrade"},
		{"85", "HTTP/1.1 101\nupgrade: WebSocket\nCONNECTION: keep-alive, UpGrade\nsec-websocket-accept: $ACCEPT\n\n", "open"},
		{"86 none", "HTTP/1.1 101 S\nUpgrade: websocket\nSec-WebSocket-Accept: $ACCEPT\n\n", "502 bad-connection"},
		{"86 close", "HTTP/1.1 101 S\nUpgrade: websocket\nConnection: close\nSec-WebSocket-Accept: $ACCEPT\n\n", "502 bad-connection"},
		{"87", "HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 102 P\n\n" + good + "\n", "open"},
		{"87 bound", strings.Repeat("HTTP/1.1 100 Continue\n\n", 17), "502 too-many-interim"},
		{"91", "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", "foreign 200"},
		{"92", "HTTP/1.1 204 No Content\n\n", "foreign 204"},
		{"93", "HTTP/1.1 503 Busy\nRetry-After: 3\nContent-Length: 0\n\n", "foreign 503"},
		{"94 both", "HTTP/1.1 404 N\nContent-Length: 2\nTransfer-Encoding: chunked\n\n", "502 bad-framing"},
		{"94 two lengths", "HTTP/1.1 404 N\nContent-Length: 2\nContent-Length: 3\n\n", "502 bad-framing"},
		{"94 unknown coding", "HTTP/1.1 404 N\nTransfer-Encoding: gzip, chunked\n\n", "502 bad-framing"},
		{"94 not last", "HTTP/1.1 404 N\nTransfer-Encoding: chunked, identity\n\n", "502 bad-framing"},
		{"94 in 1.0", "HTTP/1.0 404 N\nTransfer-Encoding: chunked\n\n", "502 bad-framing"},
		{"96 garbage", "SSH-2.0-OpenSSH_9.2\n", "502 bad-head"},
		{"96 half", "HTTP/1.1 101 Swi", "pending"},
		{"100 head", "HTTP/1.1 101 S\nX: " + strings.Repeat("a", 65<<10), "502 head-too-large"},
		{"100 fields", good + fields(500) + "\n", "502 head-too-large"},
		{"100 fold", good + "X-A: b\n c\n\n", "502 bad-head"},
		{"100 colon", "HTTP/1.1 101 S\nUpgrade : websocket\nConnection\t: Upgrade\nSec-WebSocket-Accept: $ACCEPT\n\n", "open"},
		{"210 bare CR", good + "X-A: b\rc\n\n", "502 bad-head"},
		{"NUL", good + "X-A: b\x00c\n\n", "502 bad-head"},
		{"name", good + "X A: b\n\n", "502 bad-head"},
		{"version 2", "HTTP/2.0 101 S\n\n", "502 bad-version"},
		{"version 1.0", strings.Replace(good, "1.1", "1.0", 1) + "\n", "502 bad-version"},
		{"status 099", "HTTP/1.1 099 S\n\n", "502 bad-status"},
		{"status 600", "HTTP/1.1 600 S\n\n", "502 bad-status"},
		{"status x", "HTTP/1.1 1x1 S\n\n", "502 bad-status"},
		{"status long", "HTTP/1.1 1011 S\n\n", "502 bad-head"},
	} {
		for _, piece := range []int{0, 1, 7} {
			o := open(t, &Backend{}, handshake(), piece)
			o.s.send(o.answer(tc.answer))
			if got := o.what(); got != tc.want {
				t.Errorf("row %s in pieces of %d: got %q, want %q", tc.row, piece, got, tc.want)
			}
			if strings.HasPrefix(o.what(), "502") && !o.s.reset {
				t.Errorf("row %s: connection is kept, want it closed", tc.row)
			}
			if o.calls > 0 && o.l.lent != 0 {
				t.Errorf("row %s: got %d buffers still held, want 0", tc.row, o.l.lent)
			}
		}
	}
}

func TestBareLFInAnswer(t *testing.T) {
	o := open(t, &Backend{}, handshake(), 0)
	o.s.send("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
	if got, want := o.what(), "502 bad-head"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Rows 73, 74, 176: what the client gets of the 101.
func TestFieldsOfThe101(t *testing.T) {
	for _, tc := range []struct{ name, key, want string }{
		{"client sent no key", "", "Set-Cookie: a=1\nset-cookie: b=2\n"},
		{"client sent an invalid key", "short", "Set-Cookie: a=1\nset-cookie: b=2\n"},
		{"client sent a key", clientKey, "Set-Cookie: a=1\nset-cookie: b=2\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n"},
	} {
		h := handshake()
		h.Key = tc.key
		o := open(t, &Backend{}, h, 0)
		o.s.send(o.answer("HTTP/1.1 101 S\nSet-Cookie: a=1\nUpgrade: websocket\nConnection: Upgrade, x-hop\nX-Hop: 1\n" +
			"Content-Length: 0\nTransfer-Encoding: chunked\nKeep-Alive: 5\nset-cookie: b=2\nSec-WebSocket-Accept: $ACCEPT\n\n"))
		if o.what() != "open" {
			t.Fatalf("%s: got %s, want open", tc.name, o.what())
		}
		if got := show(o.fields); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

// Row 89: octets behind the 101 stay with the socket.
func TestGluedFramesStay(t *testing.T) {
	for _, piece := range []int{0, 1, 3} {
		o := open(t, &Backend{}, handshake(), piece)
		o.s.send(o.answer(good+"\n") + "\x81\x05hello")
		if o.side != bridge.Side(o.s) {
			t.Fatalf("pieces of %d: got side %v, want the socket itself", piece, o.side)
		}
		k := &sink{room: -1}
		o.side.Bind(k)
		o.l.turn()
		if got, want := string(k.got), "\x81\x05hello"; got != want {
			t.Errorf("pieces of %d: got %q, want %q", piece, got, want)
		}
	}
}

// Rows 57, 64, 71, 76, 77, 228: the octets that the backend sees.
func TestHandshakeOctets(t *testing.T) {
	o := open(t, &Backend{}, handshake(), 0)
	want := "GET /chat?x=1 HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + o.a.key + "\r\nSec-WebSocket-Version: 13\r\nOrigin: https://example.com\r\n" +
		"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x; a=\"b,c\"\r\n" +
		"Cookie: a=1; b=2\r\nX-Request-Id: 7\r\n\r\n"
	if got := o.s.output(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	h := handshake()
	h.Major = 1
	h.Fields = bridge.Fields{{Name: "oRiGin", Value: "x"}, {Name: "x-lower", Value: ""}, {Name: "Host", Value: "evil"}, {Name: "TE", Value: "trailers"}, {Name: "sec-websocket-key", Value: "k"}}
	b := &Backend{HostHeader: "inner:8080", Decorate: func(h *bridge.Handshake, out bridge.Fields) bridge.Fields {
		return append(out, bridge.Field{Name: "X-Forwarded-Proto", Value: h.Scheme}, bridge.Field{Name: "Connection", Value: "close"})
	}}
	o = open(t, b, h, 0)
	want = "GET /chat?x=1 HTTP/1.1\r\nHost: inner:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + o.a.key + "\r\nSec-WebSocket-Version: 13\r\noRiGin: x\r\nx-lower: \r\nX-Forwarded-Proto: https\r\n\r\n"
	if got := o.s.output(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Rows 44 to 47: nothing that could break a line is ever written.
func TestUnwritableHandshake(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(h *bridge.Handshake)
	}{
		{"CR LF in a value", func(h *bridge.Handshake) { h.Fields[0].Value = "a\r\nX: y" }},
		{"NUL in a value", func(h *bridge.Handshake) { h.Fields[0].Value = "a\x00" }},
		{"SP in a name", func(h *bridge.Handshake) { h.Fields[0].Name = "a b" }},
		{"empty name", func(h *bridge.Handshake) { h.Fields[0].Name = "" }},
		{"SP in the target", func(h *bridge.Handshake) { h.Path = "/a b" }},
		{"CR LF in the target", func(h *bridge.Handshake) { h.Path = "/a\r\nX: y" }},
		{"CR LF in the authority", func(h *bridge.Handshake) { h.Authority = "a\r\nX: y" }},
		{"no authority", func(h *bridge.Handshake) { h.Authority = "" }},
	} {
		h := handshake()
		tc.edit(h)
		o := open(t, &Backend{}, h, 0)
		if got, want := o.what(), "400 bad-handshake"; got != want {
			t.Errorf("%s: got %q, want %q", tc.name, got, want)
		}
		if len(o.s.out) > 0 || o.l.lent != 0 {
			t.Errorf("%s: got %d octets written and %d buffers held, want none", tc.name, len(o.s.out), o.l.lent)
		}
	}
}

// Rows 93 to 95: the content of a final answer, by each framing.
func TestForeignAnswer(t *testing.T) {
	const head = "HTTP/1.1 426 Upgrade Required\nSec-WebSocket-Version: 13\nUpgrade: websocket\nConnection: Upgrade, X-Hop\nX-Hop: 1\nSet-Cookie: a\nSet-Cookie: b\nSec-WebSocket-Accept: $ACCEPT\n"
	const fields = "Sec-WebSocket-Version: 13\nSet-Cookie: a\nSet-Cookie: b\n"
	for _, tc := range []struct {
		name, answer string
		fin          bool
		length       int64
		body         string
		reason       bridge.Reason // of Broken
	}{
		{"length", head + "Content-Length: 5\n\nhelloextra", false, 5, "hello", 0},
		{"chunked", head + "Transfer-Encoding: Chunked\n\n3;x=\"y\"\nhel\n2\nlo\n0\nX-T: 1\n\nHTTP/1.1 200", false, -1, "hello", 0},
		{"close", head + "\nhello", true, -1, "hello", 0},
		{"length cut", head + "Content-Length: 9\n\nhello", true, 9, "hello", bridge.ReasonTruncated},
		{"chunked cut", head + "Transfer-Encoding: chunked\n\n5\nhello\n", true, -1, "hello", bridge.ReasonTruncated},
		{"bad chunk", head + "Transfer-Encoding: chunked\n\n5\nhello\nzz\n", false, -1, "hello", bridge.ReasonProtocol},
		{"huge chunk", head + "Transfer-Encoding: chunked\n\n5\nhello\nfffffffffffffffff\n", false, -1, "hello", bridge.ReasonProtocol},
	} {
		for _, piece := range []int{0, 1} {
			for _, room := range []int{-1, 1} {
				o := open(t, &Backend{}, handshake(), piece)
				o.s.send(o.answer(tc.answer))
				var r *bridge.Refusal
				if !errors.As(o.err, &r) || r.Status != 426 || r.Length != tc.length || show(r.Fields) != fields {
					t.Fatalf("%s: got %+v, want 426 with length %d and fields %q", tc.name, o.err, tc.length, fields)
				}
				k := &sink{room: room}
				r.Stream.Bind(k)
				o.l.turn()
				if tc.fin {
					o.s.end()
				}
				for i := 0; room >= 0 && i < 20; i++ {
					k.room = 1
					r.Stream.Resume()
					o.l.turn()
				}
				if string(k.got) != tc.body {
					t.Errorf("%s, pieces %d, room %d: got content %q, want %q", tc.name, piece, room, k.got, tc.body)
				}
				if tc.reason == 0 && (k.ends != 1 || k.broken != nil || !o.s.finished) {
					t.Errorf("%s, pieces %d, room %d: got %d ends, %v, finished %v, want one end and the connection closed", tc.name, piece, room, k.ends, k.broken, o.s.finished)
				}
				if tc.reason != 0 && (k.ends != 0 || k.broken == nil || k.broken.Reason != tc.reason) {
					t.Errorf("%s, pieces %d, room %d: got %d ends and %v, want broken with %q", tc.name, piece, room, k.ends, k.broken, tc.reason)
				}
			}
		}
	}
}

func TestAttemptEnds(t *testing.T) {
	o := open(t, &Backend{}, handshake(), 0)
	o.s.send("HTTP/1.1 101 S\r\n")
	o.s.end()
	if got, want := o.what(), "502 backend-closed"; got != want {
		t.Errorf("end in the head: got %q, want %q", got, want)
	}

	o = open(t, &Backend{}, handshake(), 0)
	o.s.break_(&bridge.ResetError{Reason: bridge.ReasonReset, Remote: true})
	if got, want := o.what(), "502 backend-reset"; got != want {
		t.Errorf("reset: got %q, want %q", got, want)
	}

	o = open(t, &Backend{}, handshake(), 0)
	o.l.pass(10 * time.Second)
	if got, want := o.what(), "504 open-timeout"; got != want || !o.s.reset {
		t.Errorf("no answer: got %q, reset %v, want %q and a reset", got, o.s.reset, want)
	}

	o = open(t, &Backend{}, handshake(), 0)
	o.s.send("HTTP/1.1 101 S\r\nX: ")
	o.a.cancel()
	o.a.cancel()
	o.l.pass(10 * time.Second)
	if o.calls != 0 || !o.s.reset || o.l.lent != 0 {
		t.Errorf("cancel: got %d calls, reset %v, %d buffers held, want 0, true, 0", o.calls, o.s.reset, o.l.lent)
	}
}

// A socket that takes the request in pieces.
func TestSlowRequest(t *testing.T) {
	l := newFakeLoop()
	s := newFakeSide(l)
	s.cap = 10
	a := &attempt{b: &Backend{}, l: l, h: handshake(), done: func(bridge.Side, bridge.Fields, error) {}}
	a.scan = scanner{maxHead: defaultMaxHead, answer: true}
	a.begin(s)
	for range 60 {
		s.open(10)
	}
	if got := string(s.out); !strings.HasSuffix(got, "X-Request-Id: 7\r\n\r\n") || l.lent != 0 {
		t.Errorf("got %q with %d buffers held, want the whole request and none", got, l.lent)
	}
}
