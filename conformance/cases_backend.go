package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"wsgate/internal/rawpeer"
)

// backendCases are part E, but for the answers that open a tunnel or must not.
func backendCases() []Case {
	return slices.Concat(seenCases(), hostCases(), interimCases(), earlyCases(), refusalCases(), failingCases(), tlsCases())
}

func seenCases() []Case {
	return []Case{
		{
			ID: "h2/backend/request-head", Rows: []int{76}, RFC: "6455", Section: "4.1", Level: Must,
			Title: "the backend sees one right opening handshake and nothing of HTTP/2",
			Text: Text{
				Sends: "an extended CONNECT with a query and escapes in its path",
				Sees:  "GET, the same path, HTTP/1.1; one Host as :authority; Upgrade: websocket; Connection with Upgrade; version 13; one key; no TE, no Content-Length, no Transfer-Encoding, no HTTP2-Settings, no name with a colon",
				Rule:  "The handshake is a GET of HTTP/1.1 with these fields.",
				Why:   "It is what every WebSocket server checks.",
			},
			run: requestHead,
		},
		{
			ID: "h2/backend/spelling", Rows: []int{77}, Level: Interop,
			Title: "the fields of the handshake are spelled as in RFC 6455",
			Text: Text{
				Sends: "an extended CONNECT",
				Sees:  "the octets \"Sec-WebSocket-Key:\", \"Sec-WebSocket-Version:\", \"Upgrade:\", \"Connection:\" and \"Host:\" at the backend",
				Rule:  "Field names compare without regard to case, so that no RFC asks for it.",
				Why:   "Old WebSocket servers look for Sec-WebSocket-Key and do not find Sec-Websocket-Key (Caddy#6621).",
			},
			run: func(e *Env) {
				h := e.opened()
				for _, name := range []string{"Sec-WebSocket-Key:", "Sec-WebSocket-Version:", "Upgrade:", "Connection:", "Host:"} {
					if !strings.Contains(h.Raw, "\r\n"+name) {
						e.Fail(name, "%q", h.Raw)
					}
				}
			},
		},
		{
			ID: "h2/backend/via", Rows: []int{78, 199}, RFC: "9110", Section: "7.6.3", Level: Must,
			Title: "the handshake has a Via with the version that the gateway received",
			Text: Text{
				Sends: "an extended CONNECT",
				Sees:  "a Via that begins with 2 or HTTP/2 at the backend",
				Rule:  "A gateway MUST send a Via on each inbound request that it forwards, with the version it received.",
				Why:   "It is how a loop between gateways is found, and how a backend learns what its clients speak.",
			},
			run: func(e *Env) {
				v := strings.Join(e.opened().Fields.Values("Via"), ", ")
				last := strings.TrimSpace(v[strings.LastIndexByte(v, ',')+1:])
				if want := e.version()[1:]; !strings.HasPrefix(strings.TrimPrefix(last, "HTTP/"), want) {
					e.Fail("Via: "+want+" and a name", "%q", v)
				}
			},
		},
	}
}

func requestHead(e *Env) {
	m := e.Mux()
	path := e.Path("a%20b?q=1&r")
	s := m.Send(with(e.connect(m), ":path", path), false)
	h, err := e.nextOr(s).AcceptUpgrade()
	e.Must(err)
	if want := "GET " + path + " HTTP/1.1"; h.Line != want {
		e.Fail(want, "%q", h.Line)
	}
	one := func(name, want string) {
		if v := h.Fields.Values(name); len(v) != 1 || !strings.EqualFold(v[0], want) {
			e.Fail(fmt.Sprintf("one %s: %s", name, want), "%q", v)
		}
	}
	one("Host", e.Authority())
	one("Upgrade", "websocket")
	one("Sec-WebSocket-Version", "13")
	e.key(h)
	if !hasToken(h.Fields.Values("Connection"), "upgrade") {
		e.Fail("Connection with Upgrade", "%q", h.Fields.Values("Connection"))
	}
	for _, name := range []string{"TE", "Content-Length", "Transfer-Encoding", "HTTP2-Settings"} {
		if v := h.Fields.Values(name); v != nil {
			e.Fail("no "+name, "%q", v)
		}
	}
	for line := range strings.Lines(h.Raw) {
		if strings.HasPrefix(line, ":") {
			e.Fail("no pseudo-field", "%q", line)
		}
	}
}

func hostCases() []Case {
	host := func(id, what, authority string, hosts ...string) Case {
		return Case{
			ID: "h2/backend/" + id, Rows: []int{225}, RFC: "9110", Section: "7.2", Level: Must,
			Title: ":authority " + what + " becomes a Host that names the same host",
			Text: Text{
				Sends: "an extended CONNECT with :authority " + authority,
				Sees:  "one Host at the backend, which is " + strings.Join(hosts, " or "),
				Rule:  "Host is the authority of the target; IPv6 stands in brackets, letter case and the default port may be normalised (RFC 3986 section 6.2).",
				Why:   "A backend with several names serves the wrong one, or none.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(with(e.connect(m), ":authority", authority), false)
				h, err := e.nextOr(s).AcceptUpgrade()
				e.Must(err)
				if v := h.Fields.Values("Host"); len(v) != 1 || !slices.Contains(hosts, v[0]) {
					e.Fail("one Host: "+strings.Join(hosts, " or "), "%q", v)
				}
			},
		}
	}
	return []Case{
		host("host-ipv6", "as an IPv6 literal", "[::1]:8443", "[::1]:8443"),
		host("host-upper-case", "in upper case", "LOCALHOST:8443", "LOCALHOST:8443", "localhost:8443"),
		host("host-default-port", "with the default port", "localhost:443", "localhost:443", "localhost"),
	}
}

func interimCases() []Case {
	return []Case{
		{
			ID: "h2/backend/interim-before-101", Rows: []int{87}, RFC: "9110", Section: "15.2", Level: Must,
			Title: "interim answers before the 101 do not hold the tunnel up",
			Text: Text{
				Sends: "an extended CONNECT that the backend answers with 100, 102 and 103, then 101",
				Sees:  "200 at the client, interim heads before it or not; then octets both ways",
				Rule:  "A client has to be able to parse any number of 1xx before the final answer; a proxy forwards them, unless it asked for them itself.",
				Why:   "Frameworks send 103 for every route.",
			},
			run: func(e *Env) {
				e.gate(func(key string) string {
					return "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + right(key) + "\r\n"
				}, true)
			},
		},
		{
			ID: "h2/backend/unasked-101", Rows: []int{88}, RFC: "9110", Section: "7.8", Level: Must,
			Title: "a 101 to an ordinary GET is an error, and its connection is not used again",
			Text: Text{
				Sends: "a GET without Upgrade that the backend answers with a whole 101",
				Sees:  "502 at the client; the backend's connection ends",
				Rule:  "A server MUST NOT switch to a protocol that the client did not ask for.",
				Why:   "What comes behind on that connection is no HTTP any more; the next request on it gets it for an answer.",
			},
			run: func(e *Env) {
				m := e.anyMux()
				s := m.Send(e.get(m.Scheme()), true)
				b := e.nextOr(s)
				_, err := b.ReadHead()
				e.Must(err)
				e.Must(b.Write([]byte(right(rawpeer.Key) + "\r\n")))
				if a := e.whole(s); a.Status/100 != 5 && a.Reset == "" {
					e.Fail("502", "%v", a)
				}
				e.Must(b.WantEnded())
			},
		},
		{
			ID: "h2/backend/glued-octets", Rows: []int{89}, RFC: "6455", Section: "4.2.2", Level: Must,
			Title: "octets that come in one segment with the 101 are the first of the tunnel",
			Text: Text{
				Sends: "an extended CONNECT; the backend writes 101 and a frame at once",
				Sees:  "200, then the frame as DATA, without anything more from the client",
				Rule:  "Once the handshake is complete the server may send data.",
				Why:   "Servers that greet lose their greeting (Caddy#6273), or it comes with the client's first message (httpd).",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false)
				b := e.nextOr(s)
				h, err := b.ReadHead()
				e.Must(err)
				frame := wsFrame(0x81, false, []byte("hello"))
				e.Must(b.Write([]byte(right(h.Fields.Get("Sec-WebSocket-Key")) + "\r\n" + string(frame))))
				_, err = s.WantStatus(200)
				e.Must(err)
				e.Must(s.WantBytes(frame))
			},
		},
	}
}

// earlyCases: what the client sends before it was answered.
func earlyCases() []Case {
	return []Case{
		{
			ID: "h2/backend/early-data-waits", Rows: []int{90}, RFC: "6455", Section: "4.1", Level: Must,
			Title: "no octet of the client reaches the backend before its 101",
			Text: Text{
				Sends: "an extended CONNECT and DATA at once; the backend answers late",
				Sees:  "silence at the backend behind the handshake, until its 101; or a refusal",
				Rule:  "A client waits for the answer before it sends data; what a gateway's client sends earlier is not the backend's yet.",
				Why:   "Octets behind a handshake that the backend refuses are its next request: smuggling (CVE-2026-2833).",
			},
			run: func(e *Env) {
				e.early(true)
			},
		},
		{
			ID: "h2/backend/early-data-dropped", Rows: []int{90}, RFC: "6455", Section: "4.1", Level: Must,
			Title: "early octets never reach a backend that refuses the handshake",
			Text: Text{
				Sends: "an extended CONNECT and DATA at once; the backend answers 403 and keeps its connection",
				Sees:  "403; the end of the backend's connection, or nothing on it",
				Rule:  "Without a 101 there is no tunnel, and nothing that could be sent through it.",
				Why:   "They would be read as the next request.",
			},
			alone: true, // its backend keeps the connection
			run:   func(e *Env) { e.early(false) },
		},
		{
			ID: "h2/backend/early-data-delivered", Rows: []int{90}, Level: Interop,
			Title: "early octets are delivered once the tunnel is open, END_STREAM too",
			Text: Text{
				Sends: "an extended CONNECT, DATA, and DATA with END_STREAM at once",
				Sees:  "after the 101 all octets at the backend, then FIN",
				Rule:  "No RFC asks for it.",
				Why:   "Clients that know the server save a round trip so; some send their first message at once.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false)
				e.Must(s.Data([]byte("early"), false))
				e.Must(s.Data([]byte(" bird"), true))
				b := e.nextOr(s)
				accepts(b)
				_, err := s.WantStatus(200)
				e.Must(err)
				e.Must(b.WantBytes([]byte("early bird")))
				e.Must(b.WantFIN())
			},
		},
		{
			ID: "h2/backend/early-data-bounded", Rows: []int{90}, RFC: "9113", Section: "10.5", Level: DoS,
			Title: "what is held back before the 101 is bounded",
			Text: Text{
				Sends: "an extended CONNECT that the backend does not answer, and DATA as long as the windows allow, 16 MiB at the most",
				Sees:  "the windows close, or the stream is reset, before 16 MiB",
				Rule:  "Flow control is there to bound what a peer has to hold.",
				Why:   "A slow backend and a few clients fill the memory otherwise.",
			},
			alone: true,
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false)
				e.Next()
				m.Wait(e.Wait(300 * time.Millisecond))
				for sent := 0; s.Write(make([]byte, 16384)) == nil; sent += 16384 {
					if sent > 16<<20 {
						e.Fail("at most 16 MiB taken before the 101", "%d octets", sent)
					}
				}
			},
		},
	}
}

// early sends DATA behind a handshake and looks when it arrives.
func (e *Env) early(accepted bool) {
	m := e.Mux()
	s := m.Send(e.connect(m), false)
	e.Must(s.Data([]byte("early"), false))
	b, a := e.either(s)
	if b == nil {
		if !a.Refused() {
			e.Fail("a handshake at the backend, or a refusal", "%v", a)
		}
		e.Note("refused: %v", a)
		return
	}
	h, err := b.ReadHead()
	e.Must(err)
	e.Must(m.WantAlive()) // the gateway has the early octets by now
	e.Must(b.WantSilence(e.Short()))
	if accepted {
		e.Must(b.Answer101(h))
		_, err = s.WantStatus(200)
		e.Must(err)
		return
	}
	e.Must(b.Write([]byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")))
	a, err = s.Answer()
	e.Must(err)
	if a.Open() {
		e.Fail("403", "%v", a)
	}
	p := make([]byte, 64)
	b.Patience = e.Short()
	if n, _ := b.Read(p); n > 0 {
		e.Fail("no octet at the backend that refused", "%q", p[:n])
	}
}

// refusalCases are backends' own answers.
func refusalCases() []Case {
	var all []Case
	for _, status := range []int{301, 302, 307, 401, 403, 404, 426, 429, 500, 503} {
		all = append(all, Case{
			ID: fmt.Sprintf("h2/backend/refusal-%d", status), Rows: []int{93}, RFC: "9110", Section: "15", Level: Should,
			Title: fmt.Sprintf("a backend's %d reaches the client with fields and content", status),
			Text: Text{
				Sends: fmt.Sprintf("an extended CONNECT that the backend answers %d with Location, Retry-After, a field of its own, and content", status),
				Sees:  "the same status, fields and content, END_STREAM; nothing of HTTP/1.1's connection",
				Rule:  "A refusal is an ordinary answer and is forwarded as one.",
				Why:   "503 with Retry-After, 401, a redirect to the login: they tell a client what to do, which a 502 does not.",
			},
			run: func(e *Env) {
				a := e.refusal(fmt.Appendf(nil, "HTTP/1.1 %d Whatever\r\nX-App: 1\r\nRetry-After: 7\r\nLocation: /elsewhere\r\nKeep-Alive: 5\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nContent-Length: 7\r\n\r\ncontent", status))
				if a.Status != status || a.Head.Get("x-app") != "1" || a.Head.Get("retry-after") != "7" || string(a.Body) != "content" || !a.End {
					e.Fail(fmt.Sprintf("%d with X-App, Retry-After and its content", status), "%v, %q", a, a.Head)
				}
				e.without(a, "connection", "keep-alive", "x-hop", "upgrade", "transfer-encoding")
			},
		})
	}
	for _, x := range []struct{ id, what, framed string }{
		{"length", "a length", "Content-Length: 7\r\n\r\ncontent"},
		{"chunked", "chunks", "Transfer-Encoding: chunked\r\n\r\n3\r\ncon\r\n4\r\ntent\r\n0\r\n\r\n"},
		{"close", "the end of the connection", "\r\ncontent"},
	} {
		all = append(all, Case{
			ID: "h2/backend/refusal-framed-by-" + x.id, Rows: []int{94}, RFC: "9112", Section: "6.3", Level: Must,
			Title: "the content of a refusal that is framed by " + x.what + " arrives whole and ends in order",
			Text: Text{
				Sends: "an extended CONNECT that the backend answers 404 with content framed by " + x.what,
				Sees:  "404, the content, END_STREAM; the backend's connection ends or is drained",
				Rule:  "The framing of the answer says where its content ends; a refusal is never a tunnel.",
				Why:   "Content that is cut, or chunk sizes in it, make an error page unreadable; a connection that stays is lost.",
			},
			run: func(e *Env) {
				a := e.refusal([]byte("HTTP/1.1 404 Not Found\r\nConnection: close\r\n" + x.framed))
				if a.Status != 404 || string(a.Body) != "content" || !a.End {
					e.Fail("404 with its content, complete", "%v", a)
				}
			},
		})
	}
	return append(all, Case{
		ID: "h2/backend/refusal-not-reused", Rows: []int{95}, RFC: "9112", Section: "9.3", Level: Product,
		Title: "what a backend sends behind a refusal is never another client's answer",
		Text: Text{
			Sends: "an extended CONNECT that the backend answers 404, kept alive, with another answer right behind; then ordinary requests",
			Sees:  "404; the ordinary requests get their own answers",
			Rule:  "A connection that was used for a handshake is not put into a pool unless it was parsed to its end and nothing is left.",
			Why:   "One client would be served what was meant for another.",
		},
		alone: true,
		run: func(e *Env) {
			m := e.Mux()
			s := m.Send(e.connect(m), false)
			b := e.nextOr(s)
			_, err := b.ReadHead()
			e.Must(err)
			e.Must(b.Write([]byte("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")))
			if a := e.whole(s); a.Status != 404 || string(a.Body) != "no" {
				e.Fail("404 and its content", "%v", a)
			}
			e.Serve()
			for range 5 {
				if a := e.whole(m.Send(e.get(m.Scheme()), true)); a.Status != 200 || string(a.Body) != "ok" {
					e.Fail("an answer of its own", "%v", a)
				}
			}
		},
	})
}

// failingCases: backends that are none.
func failingCases() []Case {
	text := func(sends, sees string) Text {
		return Text{
			Sends: sends, Sees: sees + " with END_STREAM, a tunnel never",
			Rule: "502 for an answer that is none, 504 for one that does not come, 503 or 502 for a server that is not there.",
			Why:  "Clients and monitors tell by it whose fault it is, and whether to try again.",
		}
	}
	failing := func(id, title, sends string, status int, meet func(*Env, *rawpeer.BackendConn)) Case {
		return Case{
			ID: "h2/backend/" + id, Rows: []int{96}, RFC: "9110", Section: fmt.Sprintf("15.6.%d", status-499), Level: Should, Title: title,
			Text: text(sends, fmt.Sprint(status)),
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false)
				meet(e, e.nextOr(s))
				if a := e.whole(s); a.Status != status || !a.End {
					e.Fail(fmt.Sprintf("%d, complete", status), "%v", a)
				}
			},
		}
	}
	silent := failing("silent", "a backend that does not answer is 504", "an extended CONNECT that the backend does not answer", 504, func(e *Env, b *rawpeer.BackendConn) {
		b.Patience = e.Wait(5 * time.Second)
		_, err := b.ReadHead()
		e.Must(err)
		e.Must(b.WantEnded())
	})
	silent.Profile = ShortTimes
	return []Case{
		failing("closes-in-head", "a backend that ends inside its head is 502", "an extended CONNECT; the backend writes half a status line and ends", 502, func(e *Env, b *rawpeer.BackendConn) {
			_, err := b.ReadHead()
			e.Must(err)
			e.Must(b.Write([]byte("HTTP/1.1 101 Switch")))
			b.Close()
		}),
		failing("garbage", "a backend that does not speak HTTP is 502", "an extended CONNECT that the backend answers with a line that is no status line", 502, func(e *Env, b *rawpeer.BackendConn) {
			_, err := b.ReadHead()
			e.Must(err)
			e.Must(b.Write([]byte("hello, this is no HTTP\r\n\r\n")))
		}),
		silent,
		{
			ID: "h2/backend/never-refused-stream", Rows: []int{125, 198}, RFC: "9113", Section: "8.7", Level: Must,
			Title: "a handshake that reached a backend is never answered REFUSED_STREAM",
			Text: Text{
				Sends: "an extended CONNECT whose backend reads the handshake and ends",
				Sees:  "any answer or reset but REFUSED_STREAM",
				Rule:  "REFUSED_STREAM says that the request was not processed in any way, so that it may be sent again.",
				Why:   "Clients send it again by themselves: what the first did is done twice.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false)
				b := e.nextOr(s)
				_, err := b.ReadHead()
				e.Must(err)
				b.Close()
				e.Behind(func(b *rawpeer.BackendConn) { b.Close() }) // of a gateway that tries again
				if a := e.whole(s); a.unprocessed || a.Open() {
					e.Fail("any refusal but REFUSED_STREAM", "%v", a)
				}
			},
		},
		{
			ID: "h2/backend/refuses-connection", Rows: []int{96}, RFC: "9110", Section: "15.6.3", Level: Should, Profile: BackendDown,
			Title: "a backend that does not accept connections is 502 or 503",
			Text:  text("an extended CONNECT; nobody listens at the backend's address", "502 or 503"),
			run: func(e *Env) {
				m := e.patientMux()
				if a := e.whole(m.Send(e.connect(m), false)); a.Status != 502 && a.Status != 503 || !a.End {
					e.Fail("502 or 503, complete", "%v", a)
				}
			},
		},
		{
			ID: "h2/backend/pending-limit", Rows: []int{98}, RFC: "9110", Section: "15.6.4", Level: Product, Profile: Limits,
			Title: "more handshakes than may be pending are answered 503 with Retry-After",
			Text: Text{
				Sends: "five extended CONNECTs to a gateway with four handshakes in flight at most; the backend answers none",
				Sees:  "503 with retry-after for one; the other four open when the backend answers",
				Rule:  "What a slow backend cannot take is refused early and said to be temporary.",
				Why:   "A crowd that reconnects after a restart holds every place of the gateway otherwise.",
			},
			alone: true, // the limit is of the backend
			run:   pendingLimit,
		},
	}
}

// patientMux is a Mux that waits for a gateway which tries its backend again.
func (e *Env) patientMux() Mux {
	m := e.Mux()
	m.Wait(e.Wait(8 * time.Second))
	return m
}

func pendingLimit(e *Env) {
	m := e.Mux()
	var pending []Stream
	var backends []*rawpeer.BackendConn
	for range 4 {
		s := m.Send(e.connect(m), false)
		pending, backends = append(pending, s), append(backends, e.nextOr(s))
	}
	if a := e.whole(m.Send(e.connect(m), false)); a.Status != 503 || a.Head.Get("retry-after") == "" {
		e.Fail("503 with retry-after", "%v, retry-after %q", a, a.Head.Get("retry-after"))
	}
	for i, b := range backends {
		accepts(b)
		_, err := pending[i].WantStatus(200)
		e.Must(err)
	}
	e.openOn(m)
}

// tlsCases: a backend by TLS (row 99).
func tlsCases() []Case {
	tls := func(id, mode, title string, opens bool) Case {
		c := Case{
			ID: "h2/backend/tls-" + id, Rows: []int{99}, RFC: "9110", Section: "4.3.4", Level: Must, Profile: TLSBackend, Title: title,
			alone: true,
			Text: Text{
				Sends: "an extended CONNECT to a gateway whose backend's certificate is: " + mode,
				Sees:  "502 and no request at the backend",
				Rule:  "A client of an https server checks its certificate and its name.",
				Why:   "Whoever stands between gateway and backend reads every message otherwise.",
			},
			run: func(e *Env) {
				e.run.hub.tls.set(mode)
				m := e.patientMux()
				s := m.Send(e.connect(m), false)
				if opens {
					b := e.nextOr(s)
					accepts(b)
					_, err := s.WantStatus(200)
					e.Must(err)
					e.echo(s, b)
					return
				}
				b, a := e.either(s)
				if b != nil {
					e.Fail("no request at the backend", "one")
				}
				if a.Status/100 != 5 && a.Reset == "" {
					e.Fail("502", "%v", a)
				}
			},
		}
		if opens {
			c.Text.Sees = "200, and octets both ways"
		}
		return c
	}
	return []Case{
		tls("right", tlsRight, "a backend by TLS with the right certificate is served", true),
		tls("client-certificate", tlsClient, "a backend that asks for a client certificate gets the configured one", true),
		// Behind those that are served: a gateway may leave a backend alone that failed.
		tls("name", tlsName, "a backend whose certificate has another name is not served", false),
		tls("expired", tlsExpired, "a backend whose certificate has expired is not served", false),
		tls("authority", tlsUnknown, "a backend whose certificate an unknown authority signed is not served", false),
	}
}
