package conformance

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"wsgate/internal/rawpeer"
)

// openingCases are part D.
func openingCases() []Case {
	return slices.Concat(keyCases(), versionCases(), chosenCases(), passedCases(), answerFieldCases())
}

func keyCases() []Case {
	return []Case{
		{
			ID: "h2/opening/key-made", Rows: []int{57}, RFC: "6455", Section: "4.1", Level: Must,
			Title: "a handshake without a key gets one for the backend: base64 of 16 octets",
			Text: Text{
				Sends: "an extended CONNECT without sec-websocket-key",
				Sees:  "one Sec-WebSocket-Key of 24 characters at the backend that decodes to 16 octets",
				Rule:  "RFC 8441 section 5 does without the key; an HTTP/1.1 server needs one, and the gateway is its client.",
				Why:   "Without it the backend answers 400 and no socket opens (Envoy, H2O).",
			},
			run: func(e *Env) { e.key(e.opened()) },
		},
		{
			ID: "h2/opening/keys-differ", Rows: []int{58}, RFC: "6455", Section: "4.1", Level: Must,
			Title: "a thousand handshakes have a thousand keys",
			Text: Text{
				Sends: "a thousand extended CONNECTs on ten connections, each refused by the backend",
				Sees:  "a thousand keys at the backend, no two alike, each of 16 octets",
				Rule:  "The nonce is selected at random for each connection.",
				Why:   "A key that is known beforehand lets a cache or a page's form pass for a handshake.",
			},
			run: manyKeys,
		},
		{
			ID: "h2/opening/client-key", Rows: []int{59}, RFC: "8441", Section: "5", Level: Product,
			Title: "a client that sends a key is served; an Accept in the answer is that of its key",
			Text: Text{
				Sends: "an extended CONNECT with sec-websocket-key",
				Sees:  "200; sec-websocket-accept absent, or the digest of the client's own key",
				Rule:  "Over HTTP/2 neither is processed. An Accept that is for another key than the client's would be a lie.",
				Why:   "undici sends a key and compares.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m, "sec-websocket-key", rawpeer.Key), false)
				accepts(e.nextOr(s))
				a, err := s.WantStatus(200)
				e.Must(err)
				if v := a.Head.Values("sec-websocket-accept"); v != nil && (len(v) != 1 || v[0] != rawpeer.AcceptFor(rawpeer.Key)) {
					e.Fail("no sec-websocket-accept, or "+rawpeer.AcceptFor(rawpeer.Key), "%q", v)
				}
			},
		},
		{
			ID: "h2/opening/client-key-once", Rows: []int{59}, RFC: "6455", Section: "11.3.1", Level: Must,
			Title: "a key that the client sends does not become a second one at the backend",
			Text: Text{
				Sends: "an extended CONNECT with sec-websocket-key",
				Sees:  "one Sec-WebSocket-Key at the backend",
				Rule:  "The field MUST NOT appear more than once in an HTTP request.",
				Why:   "Backends refuse two keys: every socket of undici fails behind a gateway that adds its own (nghttpx, Caddy).",
			},
			run: func(e *Env) { e.key(e.opened("sec-websocket-key", rawpeer.Key)) },
		},
		acceptCase("accept-for-client-key", "a client that sent a key gets the Accept for it", rawpeer.AcceptFor(rawpeer.Key), "sec-websocket-key", rawpeer.Key),
		acceptCase("no-accept-without-key", "a client that sent no key gets no Accept", ""),
		{
			ID: "h2/opening/two-keys", Rows: []int{228}, RFC: "6455", Section: "11.3.1", Level: Must,
			Title: "two keys of a client become one at the backend, or a refusal",
			Text: Text{
				Sends: "an extended CONNECT with two sec-websocket-key fields",
				Sees:  "a refusal, or one Sec-WebSocket-Key at the backend",
				Rule:  "The field MUST NOT appear more than once in an HTTP request.",
				Why:   "Which of two keys an Accept is for is anybody's guess.",
			},
			run: func(e *Env) {
				m := e.Mux()
				f := e.connect(m, "sec-websocket-key", rawpeer.Key, "sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
				if h := e.headOr(m.Send(f, false)); h != nil {
					e.key(h)
				}
			},
		},
	}
}

func acceptCase(id, title, want string, fields ...string) Case {
	return Case{
		ID: "h2/opening/" + id, Rows: []int{60}, Level: Interop, Title: title,
		Text: Text{
			Sends: "an extended CONNECT with, or without, a sec-websocket-key",
			Sees:  "in the 200 a sec-websocket-accept for that key, or none",
			Rule:  "No RFC asks for it.",
			Why:   "undici, the HTTP client of Node, fails a WebSocket whose 200 lacks the Accept for the key that it sent; other clients sent none and expect none.",
		},
		run: func(e *Env) {
			m := e.Mux()
			s := m.Send(e.connect(m, fields...), false)
			accepts(e.nextOr(s))
			a, err := s.WantStatus(200)
			e.Must(err)
			if got := strings.Join(a.Head.Values("sec-websocket-accept"), "|"); got != want {
				e.Fail(fmt.Sprintf("sec-websocket-accept %q", want), "%q", got)
			}
		},
	}
}

// key checks that a head has one right key and returns it.
func (e *Env) key(h *rawpeer.Head) string {
	v := h.Fields.Values("Sec-WebSocket-Key")
	if len(v) != 1 {
		e.Fail("one Sec-WebSocket-Key at the backend", "%q", v)
	}
	if p, err := base64.StdEncoding.Strict().DecodeString(v[0]); err != nil || len(p) != 16 || len(v[0]) != 24 {
		e.Fail("a key of 16 octets in 24 characters", "%q", v[0])
	}
	return v[0]
}

func manyKeys(e *Env) {
	const conns, each = 10, 100
	seen := make(map[string]bool)
	for range conns {
		m := e.Mux()
		for range each / 10 {
			var streams []Stream
			for range 10 {
				streams = append(streams, m.Send(e.connect(m), false))
			}
			for range streams {
				b, h := e.NextHead()
				seen[e.key(h)] = true
				e.Must(b.Write(answer("403 Forbidden", "")))
			}
			for _, s := range streams {
				if _, err := s.WantStatus(403); err != nil {
					e.Must(err)
				}
			}
		}
	}
	if len(seen) != conns*each {
		e.Fail(fmt.Sprintf("%d keys", conns*each), "%d that differ", len(seen))
	}
}

func versionCases() []Case {
	text := Text{
		Sends: "an extended CONNECT with another version than 13, to a backend that refuses it with 400",
		Sees:  "no 2xx: a refusal of the gateway's, or the backend's",
		Rule:  "A version that the server does not speak ends the handshake (section 4.4).",
		Why:   "A gateway that opens a tunnel when the backend has refused lets requests pass unseen behind it.",
	}
	versions := []struct{ id, v string }{{"8", "8"}, {"12", "12"}, {"14", "14"}, {"list", "13, 8"}, {"x", "x"}}
	var all []Case
	for _, x := range versions {
		all = append(all, Case{
			ID: "h2/opening/version-" + x.id, Rows: []int{62}, RFC: "6455", Section: "4.2.2", Level: Must, Text: text,
			Title: fmt.Sprintf("version %q opens no tunnel where the backend refuses it", x.v),
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(with(e.connect(m), "sec-websocket-version", x.v), false)
				e.Behind(func(b *rawpeer.BackendConn) {
					_, _ = b.ReadHead()
					_ = b.Write(answer("400 Bad Request", "", rawpeer.F("Sec-WebSocket-Version", "13")...))
				})
				a, err := s.Answer()
				e.Must(err)
				if a.Open() {
					e.Fail("a refusal", "%v", a)
				}
			},
		})
	}
	return append(all, []Case{
		{
			ID: "h2/opening/version-not-asked", Rows: []int{62}, RFC: "6455", Section: "4.4", Level: Product,
			Title: "a version that the gateway does not speak is answered 426 or 400 with version 13, without the backend",
			Text: Text{
				Sends: "extended CONNECTs with the versions 8, 12, 14, \"13, 8\" and x",
				Sees:  "426 or 400 with sec-websocket-version: 13; nothing at the backend",
				Rule:  "The gateway is the WebSocket server of its client.",
				Why:   "A backend that answers a wrong version in a way the gateway does not expect is the first step of a known smuggling attack.",
			},
			run: func(e *Env) {
				m := e.Mux()
				for _, x := range versions {
					a := e.whole(m.Send(with(e.connect(m), "sec-websocket-version", x.v), false))
					if a.Status != 426 && a.Status != 400 || a.Head.Get("sec-websocket-version") != "13" {
						e.Fail("426 or 400 with sec-websocket-version: 13, for version "+x.v, "%v, version %q", a, a.Head.Get("sec-websocket-version"))
					}
				}
				e.Untouched()
			},
		},
		{
			ID: "h2/opening/no-version", Rows: []int{61}, RFC: "6455", Section: "4.2.1", Level: Product,
			Title: "a handshake without a version is refused, or gets 13 for the backend",
			Text: Text{
				Sends: "an extended CONNECT without sec-websocket-version",
				Sees:  "a complete 4xx; or Sec-WebSocket-Version: 13 at the backend",
				Rule:  "The field has to be there with the value 13. Firefox leaves it out behind some proxies (haproxy#2244), which is what a repair is for.",
				Why:   "A backend that gets none answers 426, and nobody sees why.",
			},
			run: func(e *Env) {
				m := e.Mux()
				h := e.headOr(m.Send(without(e.connect(m), "sec-websocket-version"), false))
				if h == nil {
					e.Untouched()
				} else if v := h.Fields.Values("Sec-WebSocket-Version"); len(v) != 1 || v[0] != "13" {
					e.Fail("one Sec-WebSocket-Version: 13 at the backend", "%q", v)
				}
			},
		},
		{
			ID: "h2/opening/no-version-refused", Rows: []int{61}, RFC: "6455", Section: "4.2.1", Level: Product, Profile: Strict,
			Title: "told so, the gateway refuses a handshake without a version",
			Text: Text{
				Sends: "an extended CONNECT without sec-websocket-version",
				Sees:  "a complete 4xx; nothing at the backend",
				Rule:  "The field has to be there; where no client is known to leave it out nothing has to be repaired.",
				Why:   "Who runs the clients too wants to see their errors.",
			},
			run: func(e *Env) {
				m := e.Mux()
				if a := e.whole(m.Send(without(e.connect(m), "sec-websocket-version"), false)); a.Status/100 != 4 || !a.End {
					e.Fail("a complete 4xx", "%v", a)
				}
				e.Untouched()
			},
		},
		{
			ID: "h2/opening/426-without-upgrade", Rows: []int{63}, RFC: "9113", Section: "8.2.2", Level: Must,
			Title: "a 426 has neither Upgrade nor Connection on HTTP/2",
			Text: Text{
				Sends: "an extended CONNECT that the backend answers 426 with Upgrade: websocket and Connection: Upgrade",
				Sees:  "426 without upgrade and connection",
				Rule:  "RFC 9110 section 15.5.22 asks for Upgrade in a 426, but on HTTP/2 connection-specific fields make the answer malformed.",
				Why:   "Clients reset a stream with such an answer and never see it.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false)
				b := e.nextOr(s)
				_, err := b.ReadHead()
				e.Must(err)
				e.Must(b.Write([]byte("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n")))
				a := e.whole(s)
				if a.Status/100 < 4 {
					e.Fail("426", "%v", a)
				}
				e.without(a, "upgrade", "connection")
			},
		},
	}...)
}

// without checks that an answer lacks fields.
func (e *Env) without(a *Answer, names ...string) {
	for _, n := range names {
		if v := a.Head.Values(n); v != nil {
			e.Fail("no "+n+" in the answer", "%q", v)
		}
	}
}

// chosenCases: what the backend chooses of what was offered.
func chosenCases() []Case {
	return []Case{
		{
			ID: "h2/opening/subprotocol", Rows: []int{64}, RFC: "6455", Section: "4.1", Level: Must,
			Title: "the subprotocols reach the backend in order, and its choice the client",
			Text: Text{
				Sends: "an extended CONNECT with sec-websocket-protocol: chat, superchat; the backend picks superchat",
				Sees:  "chat, superchat at the backend; exactly one sec-websocket-protocol: superchat in the 200",
				Rule:  "The field is used in request and response as RFC 6455 defines it (RFC 8441 section 5).",
				Why:   "Client libraries close a socket whose subprotocol is not what was agreed.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m, "sec-websocket-protocol", "chat, superchat"), false)
				h, err := e.nextOr(s).AcceptUpgrade(rawpeer.F("Sec-WebSocket-Protocol", "superchat")...)
				e.Must(err)
				if v := h.Fields.Values("Sec-WebSocket-Protocol"); strings.Join(v, "|") != "chat, superchat" {
					e.Fail("Sec-WebSocket-Protocol: chat, superchat", "%q", v)
				}
				a, err := s.WantStatus(200)
				e.Must(err)
				if v := a.Head.Values("sec-websocket-protocol"); strings.Join(v, "|") != "superchat" {
					e.Fail("sec-websocket-protocol: superchat", "%q", v)
				}
			},
		},
		{
			ID: "h2/opening/extension-parameters", Rows: []int{68}, RFC: "6455", Section: "9.1", Level: Must,
			Title: "an extension's parameters pass both ways as they are, and its frames untouched",
			Text: Text{
				Sends: "permessage-deflate; client_max_window_bits, accepted with parameters; then frames with RSV1",
				Sees:  "the same offer at the backend, the same answer at the client, the same octets both ways",
				Rule:  "Extensions are between client and server; a gateway that does not take part changes none of it.",
				Why:   "A parameter that is lost makes every compressed message unreadable.",
			},
			run: extension,
		},
	}
}

func extension(e *Env) {
	const offer, accepted = "permessage-deflate; client_max_window_bits", `permessage-deflate; server_no_context_takeover; client_max_window_bits=10`
	m := e.Mux()
	s := m.Send(e.connect(m, "sec-websocket-extensions", offer), false)
	b := e.nextOr(s)
	h, err := b.AcceptUpgrade(rawpeer.F("Sec-WebSocket-Extensions", accepted)...)
	e.Must(err)
	if v := h.Fields.Values("Sec-WebSocket-Extensions"); len(v) != 1 || v[0] != offer {
		e.Fail("Sec-WebSocket-Extensions: "+offer, "%q", v)
	}
	a, err := s.WantStatus(200)
	e.Must(err)
	if v := a.Head.Values("sec-websocket-extensions"); len(v) != 1 || v[0] != accepted {
		e.Fail("sec-websocket-extensions: "+accepted, "%q", v)
	}
	up, down := wsFrame(0xc1, true, []byte("\xf2\x48\xcd\xc9\xc9\x07\x00")), wsFrame(0xc1, false, []byte("\xf2\x48\xcd\xc9\xc9\x07\x00"))
	e.Must(s.Write(up))
	e.Must(b.WantBytes(up))
	e.Must(b.Write(down))
	e.Must(s.WantBytes(down))
}

// wsFrame builds a frame of RFC 6455 section 5.2, masked with a key of its own or
// not at all.
func wsFrame(first byte, masked bool, payload []byte) []byte {
	b := []byte{first}
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, bit|byte(n))
	case n < 1<<16:
		b = append(b, bit|126, byte(n>>8), byte(n))
	default:
		b = append(b, bit|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	if !masked {
		return append(b, payload...)
	}
	key := []byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, key...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}

// passedCases: what passes through the gateway.
func passedCases() []Case {
	return []Case{
		{
			ID: "h2/opening/credentials", Rows: []int{71}, RFC: "8441", Section: "5", Level: Must,
			Title: "cookie, authorization and origin reach the backend",
			Text: Text{
				Sends: "an extended CONNECT with cookie, authorization and origin",
				Sees:  "the same values at the backend",
				Rule:  "Other request fields, such as those for cookies, may be included as usual.",
				Why:   "Without them no application knows who connects, and from which page.",
			},
			run: func(e *Env) {
				h := e.opened("cookie", "session=1", "authorization", "Bearer abc")
				for name, want := range map[string]string{"Cookie": "session=1", "Authorization": "Bearer abc", "Origin": "https://" + e.Authority()} {
					if v := h.Fields.Values(name); len(v) != 1 || v[0] != want {
						e.Fail(name+": "+want, "%q", v)
					}
				}
			},
		},
		{
			ID: "h2/opening/set-cookie", Rows: []int{71}, RFC: "9110", Section: "5.3", Level: Must,
			Title: "each Set-Cookie line of the 101 reaches the client apart",
			Text: Text{
				Sends: "an extended CONNECT that the backend answers with two Set-Cookie lines",
				Sees:  "two set-cookie lines in the 200",
				Rule:  "Set-Cookie is the field whose lines cannot be joined.",
				Why:   "Joined, the second cookie becomes an attribute of the first.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false)
				_, err := e.nextOr(s).AcceptUpgrade(rawpeer.F("Set-Cookie", "a=1; Path=/", "Set-Cookie", "b=2")...)
				e.Must(err)
				a, err := s.WantStatus(200)
				e.Must(err)
				if v := a.Head.Values("set-cookie"); strings.Join(v, "|") != "a=1; Path=/|b=2" {
					e.Fail("two set-cookie lines", "%q", v)
				}
			},
		},
		{
			ID: "h2/opening/401", Rows: []int{72}, RFC: "6455", Section: "4.1", Level: May,
			Title: "a backend's 401 reaches the client with its challenge and content",
			Text: Text{
				Sends: "an extended CONNECT that the backend answers 401 with WWW-Authenticate and content",
				Sees:  "401 with both, END_STREAM, no tunnel",
				Rule:  "If the status is not 101 the client handles it as HTTP: a 401 may ask for credentials.",
				Why:   "The application's own message is the only one that says what to do.",
			},
			run: func(e *Env) {
				a := e.refusal(answer("401 Unauthorized", "who are you?", rawpeer.F("WWW-Authenticate", `Basic realm="x"`)...))
				if a.Status != 401 || a.Head.Get("www-authenticate") != `Basic realm="x"` || string(a.Body) != "who are you?" || !a.End {
					e.Fail("401 with challenge and content", "%v, %q", a, a.Head)
				}
			},
		},
	}
}

// refusal has the backend give an answer to a handshake, ends its connection, and
// returns what the client saw.
func (e *Env) refusal(octets []byte) *Answer {
	m := e.Mux()
	s := m.Send(e.connect(m), false)
	b := e.nextOr(s)
	_, err := b.ReadHead()
	e.Must(err)
	e.Must(b.Write(octets))
	_ = b.CloseWrite()
	return e.whole(s)
}

// answerFieldCases: what of a 101 may stand in a 200.
func answerFieldCases() []Case {
	with101 := func(id string, row int, rfc, section, title string, fields ...string) Case {
		return Case{
			ID: "h2/opening/" + id, Rows: []int{row}, RFC: rfc, Section: section, Level: Must, Title: title,
			Text: Text{
				Sends: fmt.Sprintf("an extended CONNECT that the backend answers 101 with %q beside what belongs there", rawpeer.F(fields...)),
				Sees:  "200 without connection, upgrade, keep-alive, content-length and transfer-encoding, or a refusal",
				Rule:  "A 2xx to CONNECT has no Content-Length or Transfer-Encoding, and HTTP/2 knows no connection-specific field.",
				Why:   "Clients reset a stream with such an answer: the socket never opens.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false)
				_, err := e.nextOr(s).AcceptUpgrade(rawpeer.F(fields...)...)
				e.Must(err)
				a, err := s.Answer()
				e.Must(err)
				if a.Status != 200 && (row != 74 || a.Status/100 != 5) {
					e.Fail("200", "%v", a)
				}
				e.without(a, "connection", "upgrade", "keep-alive", "proxy-connection", "transfer-encoding")
				if a.Status == 200 {
					e.without(a, "content-length")
				}
			},
		}
	}
	return []Case{
		with101("connection-fields-removed", 73, "9113", "8.2.2", "the connection fields of the 101 do not stand in the 200", "Keep-Alive", "timeout=5"),
		with101("101-with-content-length", 74, "9110", "9.3.6", "Content-Length of a 101 does not stand in the 200", "Content-Length", "0"),
		with101("101-with-transfer-encoding", 74, "9112", "6.1", "Transfer-Encoding of a 101 does not stand in the 200", "Transfer-Encoding", "chunked"),
		{
			ID: "h2/opening/never-101", Rows: []int{75}, RFC: "9113", Section: "8.6", Level: Must,
			Title: "no :status 101 on HTTP/2, whatever the backend says",
			Text: Text{
				Sends: "extended CONNECTs that the backend answers with a right 101, with one for another key, and with a bare one",
				Sees:  "no head with :status 101",
				Rule:  "HTTP/2 has no 101: a head with it is malformed.",
				Why:   "Clients end the connection for it, and all other sockets on it.",
			},
			run: func(e *Env) {
				m := e.Mux()
				for _, x := range []string{
					"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n",
					"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + rawpeer.AcceptFor(rawpeer.Key) + "\r\n", "",
				} {
					s := m.Send(e.connect(m), false)
					b := e.nextOr(s)
					h, err := b.ReadHead()
					e.Must(err)
					e.Must(b.Write([]byte("HTTP/1.1 101 Switching Protocols\r\n" + strings.Replace(x, "%s", rawpeer.AcceptFor(h.Fields.Get("Sec-WebSocket-Key")), 1) + "\r\n")))
					a, err := s.Answer()
					e.Must(err)
					if a.Status == 101 {
						e.Fail("no :status 101", "%v", a)
					}
				}
			},
		},
	}
}
