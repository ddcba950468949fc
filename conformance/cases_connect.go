package conformance

import (
	"net"
	"slices"
	"strings"

	"wsgate/internal/rawpeer"
)

// connectCases are the accepted heads of part B, and those that may be either.
func connectCases() []Case {
	return slices.Concat(served(), eitherCases(), targetCases())
}

func served() []Case {
	return []Case{
		{
			ID: "h2/connect/open", Rows: []int{11}, RFC: "8441", Section: "4", Level: Must,
			Title: "a right extended CONNECT becomes an HTTP/1.1 handshake and is answered 200",
			Text: Text{
				Sends: "CONNECT with :protocol websocket, :scheme, :path, :authority, sec-websocket-version 13 and origin, no END_STREAM",
				Sees:  "GET of the same path with Upgrade and Connection at the backend; 200 without END_STREAM at the client; octets both ways",
				Rule:  "The server establishes a tunnel to a service of the protocol that :protocol names.",
				Why:   "It is what browsers send.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false)
				b := e.Next()
				h, err := b.AcceptUpgrade()
				e.Must(err)
				if want := "GET " + e.Path("chat") + " HTTP/1.1"; h.Line != want || !strings.EqualFold(h.Fields.Get("Upgrade"), "websocket") {
					e.Fail(want+" with Upgrade: websocket", "%q", h.Raw)
				}
				a, err := s.WantStatus(200)
				e.Must(err)
				if a.End {
					e.Fail("an open stream", "END_STREAM on the 200")
				}
				e.echo(s, b)
			},
		},
		{
			ID: "h2/connect/protocol-indexed", Rows: []int{224}, RFC: "7541", Section: "6.2.1", Level: Must,
			Title: "a :protocol that comes as an indexed field opens a tunnel as one that is spelled out",
			Text: Text{
				Sends: "two extended CONNECTs on a connection, the first with its fields put into the HPACK table, the second out of it",
				Sees:  "two tunnels",
				Rule:  "A field line has the same meaning in each of its representations.",
				Why:   "Browsers index :protocol; a second socket on a connection looks so.",
			},
			run: func(e *Env) {
				m := e.Mux()
				for range 2 {
					s, b := e.openOn(m)
					e.echo(s, b)
				}
			},
		},
		{
			ID: "h2/connect/te-trailers", Rows: []int{34}, RFC: "9113", Section: "8.2.2", Level: Must,
			Title: "te: trailers is allowed and is not forwarded as it is",
			Text: Text{
				Sends: "an extended CONNECT with te: trailers",
				Sees:  "200; at the backend no TE, or one that Connection names",
				Rule:  "TE is the one connection-specific field that HTTP/2 may carry, with the value trailers. A TE that is forwarded on HTTP/1.1 has to be named in Connection (RFC 9110 section 10.1.4).",
				Why:   "gRPC libraries put it on every request.",
			},
			run: func(e *Env) {
				h := e.opened("te", "trailers")
				if h.Fields.Get("TE") != "" && !hasToken(h.Fields.Values("Connection"), "te") {
					e.Fail("no TE, or one that Connection names", "%q", h.Raw)
				}
			},
		},
		{
			ID: "h2/connect/host-equal", Rows: []int{40}, RFC: "9113", Section: "8.3.1", Level: Must,
			Title: "a host field that says the same as :authority but for letter case and default port is accepted",
			Text: Text{
				Sends: ":authority localhost with host: LOCALHOST:443",
				Sees:  "200; one Host at the backend",
				Rule:  "Host and :authority have to name the same entity, compared after scheme-based normalisation (RFC 3986 section 6.2).",
				Why:   "Clients that come through an HTTP/1.1 hop bring both.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(after(with(e.connect(m), ":authority", "localhost"), "host", "LOCALHOST:443"), false)
				b := e.nextOr(s)
				h, err := b.AcceptUpgrade()
				e.Must(err)
				_, err = s.WantStatus(200)
				e.Must(err)
				if v := h.Fields.Values("Host"); len(v) != 1 {
					e.Fail("one Host at the backend", "%q", v)
				}
			},
		},
		{
			ID: "h2/connect/host-never-wins", Rows: []int{39}, RFC: "9113", Section: "8.3.1", Level: Must,
			Title: "the Host at the backend is never that of a host field which differs from :authority",
			Text: Text{
				Sends: "an extended CONNECT with host: other.example",
				Sees:  "a refusal, or at the backend the Host of :authority",
				Rule:  "An intermediary that turns the request into HTTP/1.1 makes Host of :authority.",
				Why:   "Who checks one and serves the other can be led past the check.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(after(e.connect(m), "host", "other.example"), false)
				if h := e.headOr(s); h != nil && strings.Contains(strings.Join(h.Fields.Values("Host"), " "), "other.example") {
					e.Fail("Host: "+e.Authority(), "%q", h.Fields.Values("Host"))
				}
			},
		},
		{
			ID: "h2/connect/scheme-http-on-tls", Rows: []int{30}, RFC: "9113", Section: "8.3.1", Level: Product,
			Title: ":scheme http on a TLS connection is served, and X-Forwarded-Proto follows the transport",
			Text: Text{
				Sends: "an extended CONNECT with :scheme http by TLS",
				Sees:  "200; X-Forwarded-Proto, if there is one, https",
				Rule:  "The scheme that a client claims says nothing of how it came.",
				Why:   "A backend that is told http redirects in circles; one that is told what the client claims can be lied to.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(with(e.connect(m), ":scheme", "http"), false)
				b := e.nextOr(s)
				h, err := b.AcceptUpgrade()
				e.Must(err)
				_, err = s.WantStatus(200)
				e.Must(err)
				if v := h.Fields.Values("X-Forwarded-Proto"); len(v) > 1 || len(v) == 1 && v[0] != "https" && v[0] != "wss" {
					e.Fail("X-Forwarded-Proto: https", "%q", v)
				}
			},
		},
	}
}

// eitherCases are heads that may be refused, or served in one way.
func eitherCases() []Case {
	return []Case{
		{
			ID: "h2/connect/protocol-case-WebSocket", Rows: []int{24}, RFC: "9110", Section: "7.8", Level: Product,
			Title: ":protocol WebSocket is taken for websocket, or turned down, and never half-handled",
			Text:  protocolCase, run: func(e *Env) { e.eitherCase("WebSocket") },
		},
		{
			ID: "h2/connect/protocol-case-WEBSOCKET", Rows: []int{24}, RFC: "9110", Section: "7.8", Level: Product,
			Title: ":protocol WEBSOCKET is taken for websocket, or turned down, and never half-handled",
			Text:  protocolCase, run: func(e *Env) { e.eitherCase("WEBSOCKET") },
		},
		{
			ID: "h2/connect/end-stream", Rows: []int{35}, RFC: "9113", Section: "8.1", Level: Must,
			Title: "END_STREAM on the CONNECT is a refusal, or a tunnel whose client has ended",
			Text: Text{
				Sends: "an extended CONNECT with END_STREAM",
				Sees:  "a refusal; or a handshake at the backend, 200, then FIN at the backend and what it says at the client",
				Rule:  "A stream whose client has ended is half-closed; nothing may wait for more of it.",
				Why:   "A tunnel that nobody can use must not stay open for ever.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), true)
				e.Behind(func(b *rawpeer.BackendConn) {
					_, _ = b.AcceptUpgrade()
					if b.WantFIN() == nil {
						_ = b.Write([]byte("ended"))
						_ = b.CloseWrite()
					}
				})
				a := e.whole(s)
				if !a.Refused() && (a.Status != 200 || string(a.Body) != "ended" || !a.End) {
					e.Fail("a refusal, or a tunnel whose backend saw FIN and answered", "%v", a)
				}
			},
		},
		{
			ID: "h2/connect/content-length", Rows: []int{36}, RFC: "9110", Section: "9.3.6", Level: Must,
			Title: "content-length on the CONNECT never reaches the backend",
			Text: Text{
				Sends: "an extended CONNECT with content-length: 5",
				Sees:  "a refusal, or a handshake without Content-Length at the backend",
				Rule:  "A CONNECT request has no content; RFC 6455 section 4.1 knows none in a handshake either.",
				Why:   "A backend that waits for 5 octets of content takes the first WebSocket frame for them.",
			},
			run: func(e *Env) {
				m := e.Mux()
				if h := e.headOr(m.Send(e.connect(m, "content-length", "5"), false)); h != nil && h.Fields.Values("Content-Length") != nil {
					e.Fail("no Content-Length at the backend", "%q", h.Raw)
				}
			},
		},
		{
			ID: "h2/connect/expect", Rows: []int{37}, RFC: "9110", Section: "10.1.1", Level: Product,
			Title: "expect: 100-continue is dropped or refused; it does not reach the backend beside Upgrade",
			Text: Text{
				Sends: "an extended CONNECT with expect: 100-continue",
				Sees:  "a refusal, or a handshake without Expect at the backend",
				Rule:  "There is no content to wait for; a 100 in front of a 101 is one more thing to go wrong.",
				Why:   "Many WebSocket servers take a handshake with Expect for a broken one.",
			},
			run: func(e *Env) {
				m := e.Mux()
				if h := e.headOr(m.Send(e.connect(m, "expect", "100-continue"), false)); h != nil && h.Fields.Values("Expect") != nil {
					e.Fail("no Expect at the backend", "%q", h.Raw)
				}
			},
		},
	}
}

var protocolCase = Text{
	Sends: "an extended CONNECT whose :protocol has other letter case",
	Sees:  "a handshake with Upgrade: websocket at the backend and 200; or a 501 or a malformed request, and nothing at the backend",
	Rule:  "Upgrade tokens compare without regard to case, and the registry's name is websocket. Either answer is defensible; the backend gets the registry's spelling.",
	Why:   "Half a tunnel is a socket that opens and never speaks.",
}

// eitherCase is a :protocol that may be served or turned down.
func (e *Env) eitherCase(protocol string) {
	m := e.Mux()
	s := m.Send(with(e.connect(m), ":protocol", protocol), false)
	h := e.headOr(s)
	if h != nil && h.Fields.Get("Upgrade") != "websocket" {
		e.Fail("Upgrade: websocket at the backend", "%q", h.Raw)
	}
	if h == nil {
		e.Untouched()
	}
}

// targetCases: no client names the address that the gateway connects to.
func targetCases() []Case {
	return []Case{
		{
			ID: "h2/connect/plain", Rows: []int{26}, RFC: "9113", Section: "8.5", Level: Must,
			Title: "a CONNECT without :protocol is turned down and connects to nobody",
			Text: Text{
				Sends: "CONNECT with :authority of a listening socket and no :protocol",
				Sees:  "a refusal; no connection at that socket and nothing at the backend",
				Rule:  "A server that is no forward proxy does not act on CONNECT.",
				Why:   "It is a way into the network behind the gateway. Several gateways hand it to the backend, whose 200 then opens a tunnel.",
			},
			run: func(e *Env) {
				m := e.Mux()
				bait := e.bait()
				s := m.Send(append(rawpeer.F(":method", "CONNECT", ":authority", bait.Addr().String()), e.Tag()), false)
				e.Behind(func(b *rawpeer.BackendConn) {
					h, _ := b.ReadHead()
					_ = b.Write(answer("200 OK", ""))
					e.Note("the backend was asked: %q", h.Raw)
				})
				a, err := s.Answer()
				e.Must(err)
				if a.Open() || a.Status/100 == 3 {
					e.Fail("a refusal", "%v", a)
				}
				e.untaken(bait)
				e.Untouched()
			},
		},
		{
			ID: "h2/connect/authority-is-no-target", Rows: []int{27}, RFC: "8441", Section: "4", Level: Must,
			Title: "the :authority of an extended CONNECT never chooses whom the gateway connects to",
			Text: Text{
				Sends: "an extended CONNECT with :authority of a listening socket",
				Sees:  "no connection at that socket: the configured backend serves it, or it is refused",
				Rule:  "The server MUST NOT create a tunnel to the host in :authority.",
				Why:   "Otherwise every client reaches every address that the gateway reaches (GHSA-c4j6-fc7j-m34r).",
			},
			run: func(e *Env) {
				m := e.Mux()
				bait := e.bait()
				e.headOr(m.Send(with(e.connect(m), ":authority", bait.Addr().String()), false))
				e.untaken(bait)
			},
		},
	}
}

// bait is a socket that nobody is to connect to.
func (e *Env) bait() *net.TCPListener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		e.broken("a listening socket", err)
	}
	e.later(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// untaken checks that nobody connected to the bait. A connection is made by the
// kernel before an answer can come.
func (e *Env) untaken(ln *net.TCPListener) {
	e.Must(ln.SetDeadline(soon(e.Short())))
	if c, err := ln.Accept(); err == nil {
		c.Close()
		e.Fail("no connection to the :authority", "one from %v", c.RemoteAddr())
	}
}

// echo carries octets both ways.
func (e *Env) echo(t Tunnel, b *rawpeer.BackendConn) {
	e.Must(t.Write([]byte("ping")))
	e.On("upwards", b.WantBytes([]byte("ping")))
	e.Must(b.Write([]byte("pong")))
	e.On("downwards", t.WantBytes([]byte("pong")))
}

// opened opens a tunnel with more fields and returns the head that the backend
// saw.
func (e *Env) opened(more ...string) *rawpeer.Head {
	m := e.Mux()
	s := m.Send(e.connect(m, more...), false)
	b := e.nextOr(s)
	h, err := b.AcceptUpgrade()
	e.Must(err)
	_, err = s.WantStatus(200)
	e.Must(err)
	return h
}

// hasToken looks for a token in lists, without regard to case.
func hasToken(lists []string, token string) bool {
	for _, l := range lists {
		for t := range strings.SplitSeq(l, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}
