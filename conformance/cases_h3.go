package conformance

import (
	"fmt"
	"slices"
	"strings"

	"wsgate/internal/rawpeer"
)

// http3Cases are part I, but for what again makes of other parts: what is HTTP/3's
// own.
func http3Cases() []Case {
	return slices.Concat(settings3Cases(), request3Cases(), ends3Cases(), stream3Cases(), control3Cases(), qpackCases(),
		early3Cases(), path3Cases(), flow3Cases(), drain3Cases())
}

// settings3Cases are what part A is on HTTP/2 (rows 138 and 139).
func settings3Cases() []Case {
	return slices.Concat(announce3Cases(), []Case{
		client3Setting("silent", "a client that did not send the setting itself", "none of its own"),
		client3Setting("one", "a client that sent the setting as 1", "1", rawpeer.H3Setting{ID: settingConnectOnH3, Value: 1}),
		client3Setting("zero", "a client that sent the setting as 0", "0", rawpeer.H3Setting{ID: settingConnectOnH3}),
		client3Setting("unknown", "a client that sent settings nobody knows", "two reserved ones", rawpeer.H3Setting{ID: 0x21, Value: 1}, rawpeer.H3Setting{ID: 0x1f*1000 + 0x21, Value: 1 << 40}),
		{
			ID: "h3/settings/client-two", Rows: []int{139}, RFC: "9220", Section: "3", Level: Product,
			Title: "a client's SETTINGS_ENABLE_CONNECT_PROTOCOL of 2 is H3_SETTINGS_ERROR or is ignored",
			Text: Text{
				Sends: "client SETTINGS with 0x08 = 2, then an extended CONNECT",
				Sees:  "CONNECTION_CLOSE H3_SETTINGS_ERROR, or a working handshake",
				Rule:  "The value has to be 0 or 1 (RFC 8441 section 3). Receipt has no impact on a server, so that it may be ignored.",
				Why:   "A crash or a connection that hangs is a way to take a gateway down.",
			},
			run: func(e *Env) {
				e.needTunnels()
				c := e.H3Quiet()
				e.Must(c.Greet(rawpeer.H3Setting{ID: settingConnectOnH3, Value: 2}))
				s := h3Mux{c, e}.Send(e.connect(h3Mux{c, e}), false)
				e.Behind(accepts)
				// The control stream may be read behind the request.
				if a, err := s.Answer(); err == nil && a.Status == 200 && (h3Mux{c, e}).WantAlive() == nil {
					return
				}
				e.WantH3Closed(c, h3SettingsError)
			},
		},
		{
			ID: "h3/settings/twice", Rows: []int{139}, RFC: "9114", Section: "7.2.4", Level: May,
			Title: "a setting that comes twice is H3_SETTINGS_ERROR, or ignored",
			Text: Text{
				Sends: "client SETTINGS with 0x08 = 1 twice",
				Sees:  "CONNECTION_CLOSE H3_SETTINGS_ERROR, or a connection that serves",
				Rule:  "An identifier must not occur more than once; a receiver may take it for an error of the connection.",
				Why:   "Another code tells the client that something else was wrong.",
			},
			run: func(e *Env) {
				c := e.H3Quiet()
				e.Must(c.Greet(rawpeer.H3Setting{ID: settingConnectOnH3, Value: 1}, rawpeer.H3Setting{ID: settingConnectOnH3, Value: 1}))
				if (h3Mux{c, e}).WantAlive() != nil {
					e.WantH3Closed(c, h3SettingsError)
				}
			},
		},
	})
}

func announce3Cases() []Case {
	announce := Text{
		Sends: "a QUIC connection with h3 in ALPN, and SETTINGS",
		Sees:  "SETTINGS as the first frame of the server's control stream, with 0x08 = 1 where WebSocket is on",
		Rule:  "SETTINGS is the first frame of the control stream (RFC 9114 section 6.2.1); a client uses extended CONNECT only after it saw the setting as 1.",
		Why:   "Without it no browser opens a WebSocket over HTTP/3.",
	}
	return []Case{
		{
			ID: "h3/settings/first-frame", Rows: []int{138}, RFC: "9114", Section: "6.2.1", Level: Must, Text: announce,
			Title: "the first frame of the server's control stream is SETTINGS",
			run: func(e *Env) {
				if t, err := e.H3().WantFirst(); err != nil || t != 0x04 {
					e.Fail("SETTINGS as the first frame", "frame %#x, %v", t, err)
				}
			},
		},
		{
			ID: "h3/settings/enable-connect-protocol", Rows: []int{138}, RFC: "9220", Section: "3", Level: Must, Text: announce,
			Title: "SETTINGS_ENABLE_CONNECT_PROTOCOL is announced as 1 on HTTP/3",
			run: func(e *Env) {
				if v, ok := e.H3().Setting(settingConnectOnH3); v != 1 {
					e.Fail("0x08 = 1", "%d, announced %v", v, ok)
				}
			},
		},
		{
			ID: "h3/settings/off-not-announced", Rows: []int{138}, RFC: "9220", Section: "3", Level: Product, Profile: NoWebSocket, Text: announce,
			Title: "without WebSocket the setting is absent on HTTP/3, or 0",
			run: func(e *Env) {
				if v, _ := e.H3().Setting(settingConnectOnH3); v != 0 {
					e.Fail("no 0x08, or 0", "%d", v)
				}
			},
		},
		{
			ID: "h3/settings/off-connect", Rows: []int{138}, RFC: "9114", Section: "4.4", Level: Must, Profile: NoWebSocket,
			Title: "without WebSocket an extended CONNECT on HTTP/3 is malformed",
			Text: Text{
				Sends: "an extended CONNECT to a front that did not announce it",
				Sees:  "RESET_STREAM H3_MESSAGE_ERROR or a complete 4xx; nothing at the backend",
				Rule:  "A CONNECT has no :scheme and no :path; with them, and without the extension, it is malformed.",
				Why:   "A client that guesses must not reach a backend that is not meant for it.",
			},
			run: func(e *Env) {
				m := h3Mux{e.H3(), e}
				e.WantMalformed(m.Send(e.connect(m), false))
			},
		},
		{
			ID: "h3/settings/no-datagrams", Rows: []int{163}, RFC: "9297", Section: "2.1.1", Level: Product,
			Title: "neither SETTINGS_H3_DATAGRAM nor WebTransport is announced",
			Text: Text{
				Sends: "a QUIC connection and SETTINGS",
				Sees:  "no 0x33 with 1, and none of the settings of WebTransport",
				Rule:  "What is announced has to be served: datagrams belong to protocols that a WebSocket gateway does not bridge.",
				Why:   "Clients that see it try WebTransport here, and do not fall back.",
			},
			run: func(e *Env) {
				c := e.H3()
				for _, id := range []uint64{settingH3Datagram, 0x2b603742, 0xc671706a, 0x2c7cf000} {
					if v, _ := c.Setting(id); v != 0 {
						e.Fail(fmt.Sprintf("no setting %#x, or 0", id), "%d", v)
					}
				}
			},
		},
		{
			ID: "h3/front/alt-svc", Rows: []int{162}, RFC: "7838", Section: "3", Level: Product,
			Title: "answers on HTTP/1.1 and HTTP/2 say by Alt-Svc that HTTP/3 is here",
			Text: Text{
				Sends: "GET by TLS on HTTP/1.1 and on HTTP/2, to a gateway that serves HTTP/3",
				Sees:  "alt-svc with h3 and the UDP port in both answers",
				Rule:  "Browsers learn of HTTP/3 by Alt-Svc, or by DNS, which is none of a gateway's.",
				Why:   "Without it nobody comes by HTTP/3.",
			},
			run: altSvc,
		},
	}
}

func altSvc(e *Env) {
	e.needH3()
	e.Serve()
	_, port, _ := strings.Cut(e.run.front3[strings.LastIndexByte(e.run.front3, ']')+1:], ":")
	want := `h3=":` + port + `"`
	c := e.H1TLS()
	e.Must(c.WriteString("GET " + e.Path("x") + " HTTP/1.1\r\nHost: " + e.Authority() + "\r\n\r\n"))
	r, err := c.WantStatus("GET", 200)
	e.Must(err)
	if v := r.Fields.Get("Alt-Svc"); !strings.Contains(v, want) {
		e.Fail("Alt-Svc: "+want+" on HTTP/1.1", "%q", v)
	}
	m := h2Mux{e.H2()}
	if v := e.whole(m.Send(e.get(m.Scheme()), true)).Head.Get("alt-svc"); !strings.Contains(v, want) {
		e.Fail("alt-svc: "+want+" on HTTP/2", "%q", v)
	}
}

func client3Setting(id, who, sent string, settings ...rawpeer.H3Setting) Case {
	return Case{
		ID: "h3/settings/client-" + id, Rows: []int{138}, RFC: "9220", Section: "3", Level: Must,
		Title: "extended CONNECT works on HTTP/3 for " + who,
		Text: Text{
			Sends: "client SETTINGS with " + sent + ", then an extended CONNECT",
			Sees:  "the handshake at the backend, 200 at the client",
			Rule:  "The setting is the server's word to clients, and has no impact on a server (RFC 8441 section 3); settings that are not known are ignored (RFC 9114 section 7.2.4).",
			Why:   "Browsers send reserved settings on purpose, and not this one.",
		},
		run: func(e *Env) {
			_, s, b := e.tunnel3(settings...)
			e.echo(s, b)
		},
	}
}

// request3Cases are the heads of ordinary requests (rows 143 to 145).
func request3Cases() []Case {
	heads3 := func(row int, id, title, sends, rule, why string, f func(*Env) rawpeer.Fields) Case {
		return Case{
			ID: "h3/request/" + id, Rows: []int{row}, RFC: "9114", Section: "4.3.1", Level: Must, Title: title,
			Text: Text{Sends: sends, Sees: words3().Replace(malformedSees), Rule: rule, Why: why},
			run:  func(e *Env) { e.WantMalformed(h3Mux{e.H3(), e}.Send(f(e), true)) },
		}
	}
	const (
		all     = "All requests have exactly one value for :method, :scheme and :path, but for CONNECT."
		whyAll  = "A gateway that makes up what is missing serves something else than what was asked for."
		host    = "A request of http or https has :authority or Host; they are not empty, and if both are there they are the same."
		whyHost = "Rules that look at one of the two are passed with the other; with none of them the backend gets the gateway's own idea of a host."
	)
	get := func(e *Env) rawpeer.Fields { return e.get("https") }
	return []Case{
		heads3(143, "no-scheme", "GET without :scheme is malformed", "GET without :scheme", all, whyAll, func(e *Env) rawpeer.Fields { return without(get(e), ":scheme") }),
		heads3(143, "no-path", "GET without :path is malformed", "GET without :path", all, whyAll, func(e *Env) rawpeer.Fields { return without(get(e), ":path") }),
		heads3(143, "no-method", "a request without :method is malformed", "a request without :method", all, whyAll, func(e *Env) rawpeer.Fields { return without(get(e), ":method") }),
		heads3(143, "empty-path", "GET with an empty :path is malformed", "GET with an empty :path", ":path is not empty for http and https.", whyAll, func(e *Env) rawpeer.Fields { return with(get(e), ":path", "") }),
		heads3(144, "no-authority", "GET with neither :authority nor host is malformed", "GET without :authority and host", host, whyHost, func(e *Env) rawpeer.Fields { return without(get(e), ":authority") }),
		heads3(144, "host-differs", "GET with :authority and another host is malformed", "GET with :authority and host: other.example", host, whyHost, func(e *Env) rawpeer.Fields { return after(get(e), "host", "other.example") }),
		heads3(144, "empty-authority", "GET with an empty :authority is malformed", "GET with an empty :authority", host, whyHost, func(e *Env) rawpeer.Fields { return with(get(e), ":authority", "") }),
		heads3(144, "empty-host", "GET with an empty host and no :authority is malformed", "GET with an empty host and no :authority", host, whyHost, func(e *Env) rawpeer.Fields { return after(without(get(e), ":authority"), "host", "") }),
		{
			ID: "h3/request/host-only", Rows: []int{145}, RFC: "9114", Section: "4.3.1", Level: Must,
			Title: "GET with host and without :authority is served",
			Text: Text{
				Sends: "GET with a host field and no :authority",
				Sees:  "the request at the backend, with that Host",
				Rule:  "A request has :authority or Host. Clients that convert HTTP/1.1 leave :authority out.",
				Why:   "quic-go refuses it, and with it every gateway that is made of its server.",
			},
			run: func(e *Env) {
				m := h3Mux{e.H3(), e}
				s := m.Send(after(without(e.get("https"), ":authority"), "host", e.Authority()), true)
				b := e.nextOr(s)
				h, err := b.ReadHead()
				e.Must(err)
				e.Must(b.Write(answer("200 OK", "ok")))
				if v := h.Fields.Values("Host"); len(v) != 1 || v[0] != e.Authority() {
					e.Fail("one Host: "+e.Authority(), "%q", v)
				}
				_, err = s.WantStatus(200)
				e.Must(err)
			},
		},
		{
			ID: "h3/fields/section-too-large", Rows: []int{51, 158}, RFC: "9114", Section: "4.2.2", Level: Should,
			Title: "a field section over the limit is answered 431 or reset, and the next stream works",
			Text: Text{
				Sends: "an extended CONNECT with more octets of fields than SETTINGS_MAX_FIELD_SECTION_SIZE says, 70,000 if it says nothing, and then a right one",
				Sees:  "431, or a reset of the stream; then a tunnel on the same connection",
				Rule:  "What is over the limit may be refused with 431 (RFC 6585 section 5).",
				Why:   "A browser with a large cookie gets a page that says so; one whose connection ends tries for ever.",
			},
			run: func(e *Env) {
				m := h3Mux{e.H3(), e}
				e.needTunnels()
				size := 70000
				if v, ok := m.Setting(settingMaxSectionSize); ok && v < 1<<20 {
					size = int(v) + int(v)/10
				}
				b, a := e.either(m.Send(bulky(e.connect(m), size), false))
				if b != nil {
					accepts(b)
					e.Note("a section of that size is served")
				} else if a.Status != 431 && a.Reset == "" {
					e.Fail("431, or a reset of the stream", "%v", a)
				}
				t, tb := e.openOn(m)
				e.echo(t, tb)
			},
		},
	}
}

// bulky adds size octets of fields.
func bulky(f rawpeer.Fields, size int) rawpeer.Fields {
	for i := 0; size > 0; i++ {
		n := min(size, 4000)
		f = after(f, fmt.Sprintf("x-big-%d", i), strings.Repeat("a", n))
		size -= n
	}
	return f
}

const closure3 = "An orderly end of TCP is a FIN on the stream, an exception is a stream error of type H3_REQUEST_CANCELLED, and the other way round."

// ends3Cases are ends that HTTP/2 has no like of.
func ends3Cases() []Case {
	why := "A peer that takes a crash for an orderly end believes that it has all of a message, or of a file."
	return []Case{
		{
			ID: "h3/end/backend-reset-cancelled", Rows: []int{106, 148}, RFC: "9220", Section: "3", Level: Must,
			Title: "the code for a backend's RST is H3_REQUEST_CANCELLED",
			Text:  Text{Sends: "the backend resets its connection", Sees: "RESET_STREAM H3_REQUEST_CANCELLED", Rule: closure3, Why: why},
			run: func(e *Env) {
				c, s, b := e.tunnel3()
				e.echo(s, b)
				b.Reset()
				e.Must(c.WantReset(s.id, h3RequestCancelled))
			},
		},
		{
			ID: "h3/end/backend-reset-stops", Rows: []int{148}, RFC: "9114", Section: "4.4", Level: Should,
			Title: "a backend's RST ends both directions of the stream",
			Text: Text{
				Sends: "the backend resets its connection", Sees: "RESET_STREAM and STOP_SENDING, each H3_REQUEST_CANCELLED or H3_CONNECT_ERROR",
				Rule: "An error of the TCP connection is an error of the stream, which has two directions; none of them should be left open.",
				Why:  "A client that is not told to stop sends into the void until its window is full.",
			},
			run: func(e *Env) {
				c, s, b := e.tunnel3()
				b.Reset()
				e.Must(s.WantReset())
				e.Must(c.WantStop(s.id, h3RequestCancelled, h3ConnectError))
			},
		},
		stop3("client-stop", Must, "the client's STOP_SENDING ends the backend's connection", "the end of the backend's connection", (*rawpeer.BackendConn).WantEnded),
		stop3("client-stop-rst", Should, "the client's STOP_SENDING is a TCP RST at the backend", "a TCP RST at the backend", (*rawpeer.BackendConn).WantRST),
		{
			ID: "h3/end/client-reset-both", Rows: []int{149}, RFC: "9114", Section: "4.4", Level: Should,
			Title: "the client's RESET_STREAM ends the other direction too",
			Text: Text{
				Sends: "RESET_STREAM H3_REQUEST_CANCELLED on an open tunnel", Sees: "RESET_STREAM from the gateway; the end of the backend's connection",
				Rule: "A proxy that detects that the client has reset the stream closes the TCP connection, and should do the same in the other direction.",
				Why:  "A stream that stays half open takes one of the few that the client may have.",
			},
			run: func(e *Env) {
				_, s, b := e.tunnel3()
				e.echo(s, b)
				e.Must(s.Reset())
				e.Must(b.WantEnded())
				if a := e.whole(s); a.Reset == "" {
					e.Fail("RESET_STREAM", "%v", a)
				}
			},
		},
		gone3("client-closes", Must, "the end of a QUIC connection ends all its tunnels at their backends", "the end of both backends' connections", (*rawpeer.BackendConn).WantEnded),
		gone3("client-closes-rst", Product, "the end of a QUIC connection is a TCP RST at its backends", "a TCP RST at both", (*rawpeer.BackendConn).WantRST),
		{
			ID: "h3/end/refused-early", Rows: []int{112}, RFC: "9114", Section: "4.1", Level: Should,
			Title: "a handshake that is refused while the client still sends gets a whole answer, and STOP_SENDING H3_NO_ERROR at the most",
			Text: Text{
				Sends: "an extended CONNECT that the backend refuses while the client sends DATA and no FIN",
				Sees:  "403 with its content and FIN; STOP_SENDING H3_NO_ERROR, or none",
				Rule:  "A server that does not need the rest of a request may stop it; the code should be H3_NO_ERROR, and the answer must not be dropped for it.",
				Why:   "Any other code makes clients drop the answer.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false).(*h3Stream)
				b := e.nextOr(s)
				_, err := b.ReadHead()
				e.Must(err)
				e.Must(b.Write(answer("403 Forbidden", "not you")))
				a := e.whole(s)
				_ = s.Data([]byte("more"), false)
				e.Must(m.WantAlive())
				if a.Status != 403 || !a.End || string(a.Body) != "not you" {
					e.Fail("403, complete", "%v", a)
				}
				if st := s.c.Stream(s.id); st.Stopped && st.StopFor != h3NoError {
					e.Fail("STOP_SENDING H3_NO_ERROR, or none", "STOP_SENDING %s", nameH3(st.StopFor))
				}
			},
		},
	}
}

func stop3(id string, level Level, title, sees string, want func(*rawpeer.BackendConn) error) Case {
	return Case{
		ID: "h3/end/" + id, Rows: []int{149}, RFC: "9114", Section: "4.4", Level: level, Title: title,
		Text: Text{
			Sends: "STOP_SENDING H3_REQUEST_CANCELLED on an open tunnel", Sees: sees, Rule: "A stream whose reading part is aborted by the client is aborted: the proxy ends the TCP connection, by RST if it can.",
			Why: "Backends keep sessions, subscriptions and locks for sockets that are gone.",
		},
		run: func(e *Env) {
			c, s, b := e.tunnel3()
			e.echo(s, b)
			c.StopSending(s.id, h3RequestCancelled)
			e.Must(want(b))
		},
	}
}

func gone3(id string, level Level, title, sees string, want func(*rawpeer.BackendConn) error) Case {
	return Case{
		ID: "h3/end/" + id, Rows: []int{108}, RFC: "9114", Section: "5.3", Level: level, Title: title,
		Text: Text{
			Sends: "CONNECTION_CLOSE on a connection with two tunnels", Sees: sees, Rule: "The end of the connection is the end of each of its streams.",
			Why: "A browser that is closed ends all its sockets so.",
		},
		run: func(e *Env) {
			m := e.Mux()
			s, b := e.openOn(m)
			_, b2 := e.openOn(m)
			e.echo(s, b)
			m.Cut()
			e.Must(want(b))
			e.Must(want(b2))
		},
	}
}
