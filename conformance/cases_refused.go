package conformance

import (
	"slices"
	"strings"

	"wsgate/internal/rawpeer"
)

// malformedSees is what a malformed request has to be answered with.
const malformedSees = "RST_STREAM PROTOCOL_ERROR, or a complete 4xx with or without a reset behind it (RFC 9113 section 8.1.1); nothing at the backend"

// head is a variant of a request head: a right one, spoilt.
type head struct {
	id, title string
	sends     string
	spoil     func(e *Env, ok rawpeer.Fields) rawpeer.Fields
}

// heads makes a case of each variant of a right extended CONNECT. What they have
// in common is in base, whose ID is what theirs begin with.
func heads(base Case, judge func(*Env, Stream), all ...head) []Case {
	cases := make([]Case, len(all))
	for i, h := range all {
		c := base
		c.ID += h.id
		c.Title = h.title
		c.Text.Sends = h.sends
		c.run = func(e *Env) {
			m := e.Mux()
			judge(e, m.Send(h.spoil(e, e.connect(m)), false))
		}
		cases[i] = c
	}
	return cases
}

// ofRows gives cases, by the ends of their ids, rows of their own.
func ofRows(rows map[string]int, cases []Case) []Case {
	for i := range cases {
		if row := rows[cases[i].ID[strings.LastIndexByte(cases[i].ID, '/')+1:]]; row != 0 {
			cases[i].Rows = []int{row}
		}
	}
	return cases
}

// malformed makes cases of heads that are malformed.
func malformed(base Case, all ...head) []Case {
	if base.Text.Sees == "" {
		base.Text.Sees = malformedSees
	}
	return heads(base, (*Env).WantMalformed, all...)
}

// Ways to spoil a head.

func drop(name string) func(*Env, rawpeer.Fields) rawpeer.Fields {
	return func(_ *Env, ok rawpeer.Fields) rawpeer.Fields { return without(ok, name) }
}

func set(name, value string) func(*Env, rawpeer.Fields) rawpeer.Fields {
	return func(_ *Env, ok rawpeer.Fields) rawpeer.Fields { return with(ok, name, value) }
}

func add(pairs ...string) func(*Env, rawpeer.Fields) rawpeer.Fields {
	return func(_ *Env, ok rawpeer.Fields) rawpeer.Fields { return after(ok, pairs...) }
}

func prefix(pairs ...string) func(*Env, rawpeer.Fields) rawpeer.Fields {
	return func(_ *Env, ok rawpeer.Fields) rawpeer.Fields { return before(ok, pairs...) }
}

// refusedCases are the heads of part B that no backend may ever see.
func refusedCases() []Case {
	return ofRows(map[string]int{
		"empty-path": 16, "path-without-slash": 17, "path-asterisk": 17, "path-absolute": 17,
		"pseudo-after-field": 20, "unknown-pseudo": 21, "status-in-request": 21,
		"connection-field": 31, "upgrade-field": 32, "keep-alive-field": 33, "proxy-connection-field": 33, "transfer-encoding-field": 33, "te-gzip": 34,
	}, slices.Concat(missingCases(), pseudoCases(), protocolCases(), specificCases(), otherRefusals()))
}

func missingCases() []Case {
	return slices.Concat(
		malformed(
			Case{
				ID: "h2/connect/", RFC: "8441", Section: "4", Level: Must, Rows: []int{12},
				Text: Text{
					Rule: "A request with :protocol MUST have :scheme and :path of its target, and :authority with its meaning for requests.",
					Why:  "A gateway that makes up what is missing serves something else than what was asked for; Go's net/http lets it pass.",
				},
			},
			head{"no-scheme", "extended CONNECT without :scheme is malformed", "CONNECT with :protocol and without :scheme", drop(":scheme")},
		),
		malformed(
			Case{
				ID: "h2/connect/", RFC: "8441", Section: "4", Level: Must, Rows: []int{13},
				Text: Text{
					Rule: "A request with :protocol MUST have :scheme and :path of its target.",
					Why:  "Without a path there is nothing to route by.",
				},
			},
			head{"no-path", "extended CONNECT without :path is malformed", "CONNECT with :protocol and without :path", drop(":path")},
		),
		malformed(
			Case{
				ID: "h2/connect/", RFC: "8441", Section: "4", Level: Must, Rows: []int{14},
				Text: Text{
					Rule: "With :protocol, :authority has the meaning that it has for other requests: there is no target without it.",
					Why:  "Behind a gateway that lets it pass the backend gets an empty Host, or the gateway's own idea of one.",
				},
			},
			head{"no-authority", "extended CONNECT with neither :authority nor host is malformed", "CONNECT with :protocol and without :authority", drop(":authority")},
		),
		malformed(
			Case{
				ID: "h2/connect/", RFC: "9113", Section: "8.3.1", Level: Product, Rows: []int{15},
				Text: Text{
					Rule: "CONNECT has :authority in place of Host; RFC 8441 section 5 says that the host is in :authority.",
					Why:  "Two ways to say one thing are a way to say two.",
				},
			},
			head{"host-instead-of-authority", "extended CONNECT with a host field in place of :authority is malformed", "CONNECT with :protocol, a host field and no :authority", func(e *Env, ok rawpeer.Fields) rawpeer.Fields {
				return after(without(ok, ":authority"), "host", e.Authority())
			}},
		),
		malformed(
			Case{
				ID: "h2/connect/", RFC: "9113", Section: "8.3.1", Level: Must, Rows: []int{16, 17},
				Text: Text{
					Rule: ":path is the path and query of the target: never empty for http and https, and it begins with a slash. The asterisk is for OPTIONS.",
					Why:  "It becomes the target of a request line. \"GET chat HTTP/1.1\" is what smuggling is made of; an absolute URL there names another host.",
				},
			},
			head{"empty-path", "an empty :path is malformed", "an extended CONNECT with an empty :path", set(":path", "")},
			head{"path-without-slash", "a :path without a slash in front is malformed", "an extended CONNECT with :path chat", set(":path", "chat")},
			head{"path-asterisk", "a :path of * is malformed but for OPTIONS", "an extended CONNECT with :path *", set(":path", "*")},
			head{"path-absolute", "a URL in place of a :path is malformed", "an extended CONNECT with :path http://evil.example/", set(":path", "http://evil.example/")},
		),
	)
}

func pseudoCases() []Case {
	get := head{"get-with-protocol", ":protocol on a GET is malformed", "GET with :protocol websocket", func(e *Env, ok rawpeer.Fields) rawpeer.Fields { return with(ok, ":method", "GET") }}
	return slices.Concat(
		malformed(Case{
			ID: "h2/connect/", RFC: "9113", Section: "8.3", Level: Must, Rows: []int{18},
			Text: Text{
				Rule: "RFC 8441 defines :protocol for CONNECT alone; pseudo-fields where they are not defined are malformed.",
				Why:  "A GET that opens a tunnel passes every rule that is written for CONNECT.",
			},
		}, get),
		malformed(
			Case{
				ID: "h2/connect/", RFC: "9113", Section: "8.3", Level: Must, Rows: []int{19},
				Text: Text{
					Rule: "The same pseudo-field must not appear more than once.",
					Why:  "Who checks the first and forwards the second can be led past the check.",
				},
			},
			head{"protocol-twice", ":protocol twice is malformed", "an extended CONNECT with two :protocol", prefix(":protocol", "websocket")},
			head{"protocol-twice-first-empty", ":protocol twice is malformed, also when the first is empty", "an extended CONNECT with an empty :protocol and a right one", prefix(":protocol", "")},
			head{"path-twice", ":path twice is malformed", "an extended CONNECT with two :path", prefix(":path", "/")},
			head{"method-twice", ":method twice is malformed", "an extended CONNECT with two :method", prefix(":method", "CONNECT")},
			head{"scheme-twice", ":scheme twice is malformed", "an extended CONNECT with two :scheme", prefix(":scheme", "https")},
			head{"authority-twice", ":authority twice is malformed", "an extended CONNECT with two :authority", prefix(":authority", "first.example")},
		),
		malformed(
			Case{
				ID: "h2/connect/", RFC: "9113", Section: "8.3", Level: Must, Rows: []int{20, 21},
				Text: Text{
					Rule: "Pseudo-fields come before all other fields, and only those that are defined for requests may appear.",
					Why:  "A parser that has passed the pseudo-fields does not look at what comes late.",
				},
			},
			head{"pseudo-after-field", "a pseudo-field behind another field is malformed", "an extended CONNECT with :path behind its other fields", func(_ *Env, ok rawpeer.Fields) rawpeer.Fields {
				return after(without(ok, ":path"), ":path", ok.Get(":path"))
			}},
			head{"unknown-pseudo", "a pseudo-field that nobody defined is malformed", "an extended CONNECT with :foo", prefix(":foo", "x")},
			head{"status-in-request", ":status in a request is malformed", "an extended CONNECT with :status 200", prefix(":status", "200")},
		),
		malformed(
			Case{
				ID: "h2/connect/", RFC: "8441", Section: "5", Level: Must, Rows: []int{29},
				Text: Text{
					Rule: "The scheme of the target has to be https for wss and http for ws.",
					Why:  "A gateway that forwards ws sends its backend a scheme that no rule is written for.",
				},
			},
			head{"scheme-wss", ":scheme wss is refused", "an extended CONNECT with :scheme wss", set(":scheme", "wss")},
			head{"scheme-ws", ":scheme ws is refused", "an extended CONNECT with :scheme ws", set(":scheme", "ws")},
		),
	)
}

func protocolCases() []Case {
	refused := func(e *Env, s Stream) {
		a := e.whole(s)
		if !a.Malformed() && (a.Status != 501 || !a.End) {
			e.Fail("501, or a malformed request", "%v", a)
		}
		e.Untouched()
	}
	return slices.Concat(
		heads(
			Case{
				ID: "h2/connect/", RFC: "8441", Section: "4", Level: Should, Rows: []int{22},
				Text: Text{
					Sees: "501 with END_STREAM; nothing at the backend; the connection goes on",
					Rule: "A protocol that the server does not know is a method that it has not implemented: 501 (RFC 9220 section 3, RFC 9110 section 15.6.2).",
					Why:  "Clients that try WebTransport or MASQUE tell from 501 that they may not try again; a gateway that takes it for a WebSocket sends datagrams to a chat server.",
				},
			},
			func(e *Env, s Stream) {
				if a := e.whole(s); a.Status != 501 || !a.End {
					e.Fail("501 with END_STREAM", "%v", a)
				}
				e.Untouched()
			},
			head{"unknown-protocol", ":protocol connect-udp is answered 501", "an extended CONNECT with :protocol connect-udp", set(":protocol", "connect-udp")},
			head{"unknown-protocol-webtransport", ":protocol webtransport is answered 501", "an extended CONNECT with :protocol webtransport", set(":protocol", "webtransport")},
			head{"unknown-protocol-connect-tcp", ":protocol connect-tcp is answered 501", "an extended CONNECT with :protocol connect-tcp", set(":protocol", "connect-tcp")},
		),
		heads(
			Case{
				ID: "h2/connect/protocol-", RFC: "9113", Section: "8.6", Level: Product, Rows: []int{23},
				Text: Text{
					Sees: "501, or a malformed request; nothing at the backend",
					Rule: "Only websocket is bridged. What else stands in :protocol never becomes an Upgrade.",
					Why:  "\"Upgrade: h2c\" at a backend opens a connection on which the gateway sees no request any more (HAProxy 7a5a30d28).",
				},
			}, refused,
			head{"h2c", ":protocol h2c never becomes an Upgrade", "an extended CONNECT with :protocol h2c", set(":protocol", "h2c")},
			head{"h2", ":protocol h2 never becomes an Upgrade", "an extended CONNECT with :protocol h2", set(":protocol", "h2")},
			head{"http2", ":protocol http/2.0 never becomes an Upgrade", "an extended CONNECT with :protocol http/2.0", set(":protocol", "http/2.0")},
			head{"tls", ":protocol tls/1.2 never becomes an Upgrade", "an extended CONNECT with :protocol tls/1.2", set(":protocol", "tls/1.2")},
		),
		heads(
			Case{
				ID: "h2/connect/protocol-", RFC: "8441", Section: "4", Level: Must, Rows: []int{25},
				Text: Text{
					Sees: "501, or a malformed request; nothing at the backend",
					Rule: ":protocol is single valued and holds one token of the Upgrade registry.",
					Why:  "What is no token becomes an Upgrade field that backends read in different ways.",
				},
			}, refused,
			head{"list", "a list in :protocol is refused", `an extended CONNECT with :protocol "websocket, foo"`, set(":protocol", "websocket, foo")},
			head{"version", "a version in :protocol is refused", "an extended CONNECT with :protocol websocket/13", set(":protocol", "websocket/13")},
			head{"empty", "an empty :protocol is refused", "an extended CONNECT with an empty :protocol", set(":protocol", "")},
			head{"space", "a space in :protocol is refused", `an extended CONNECT with :protocol "web socket"`, set(":protocol", "web socket")},
		),
	)
}

// specificCases are connection-specific fields.
func specificCases() []Case {
	return malformed(
		Case{
			ID: "h2/connect/", RFC: "9113", Section: "8.2.2", Level: Must, Rows: []int{31, 32, 33, 34},
			Text: Text{
				Rule: "Fields that speak of a connection have no place in HTTP/2; a message that has one is malformed. RFC 8441 section 5 says it again of Connection and Upgrade.",
				Why:  "Forwarded, they switch the backend's connection into a state that the gateway does not know of.",
			},
		},
		head{"connection-field", "a connection field is malformed", "an extended CONNECT with connection: Upgrade", add("connection", "Upgrade")},
		head{"upgrade-field", "an upgrade field is malformed", "an extended CONNECT with upgrade: websocket", add("upgrade", "websocket")},
		head{"keep-alive-field", "a keep-alive field is malformed", "an extended CONNECT with keep-alive: 5", add("keep-alive", "5")},
		head{"proxy-connection-field", "a proxy-connection field is malformed", "an extended CONNECT with proxy-connection: keep-alive", add("proxy-connection", "keep-alive")},
		head{"transfer-encoding-field", "a transfer-encoding field is malformed", "an extended CONNECT with transfer-encoding: chunked", add("transfer-encoding", "chunked")},
		head{"te-gzip", "te with anything but trailers is malformed", "an extended CONNECT with te: gzip", add("te", "gzip")},
	)
}

func otherRefusals() []Case {
	plain := func(pairs ...string) func(*Env, rawpeer.Fields) rawpeer.Fields {
		return func(e *Env, _ rawpeer.Fields) rawpeer.Fields {
			return append(rawpeer.F(append([]string{":method", "CONNECT", ":authority", e.Authority()}, pairs...)...), e.Tag())
		}
	}
	return slices.Concat(
		malformed(
			Case{
				ID: "h2/connect/", RFC: "9113", Section: "8.5", Level: Must, Rows: []int{28},
				Text: Text{
					Rule: "In a CONNECT without :protocol, :scheme and :path MUST be omitted.",
					Why:  "It is neither of the two kinds of CONNECT; who guesses which guesses wrong.",
				},
			},
			head{"plain-with-scheme", "a CONNECT without :protocol and with :scheme is malformed", "CONNECT with :scheme and without :protocol", plain(":scheme", "https")},
			head{"plain-with-path", "a CONNECT without :protocol and with :path is malformed", "CONNECT with :path and without :protocol", plain(":path", "/")},
		),
		malformed(
			Case{
				ID: "h2/connect/", RFC: "9113", Section: "8.3.1", Level: Must, Rows: []int{38},
				Text: Text{
					Rule: ":authority MUST NOT have the userinfo of http and https URLs.",
					Why:  "A Host of user:pw@host is read by some as host, by others as user.",
				},
			},
			head{"userinfo", "userinfo in :authority is malformed", "an extended CONNECT with :authority user:pw@host", func(e *Env, ok rawpeer.Fields) rawpeer.Fields {
				return with(ok, ":authority", "user:pw@"+e.Authority())
			}},
		),
		malformed(
			Case{
				ID: "h2/connect/", RFC: "9113", Section: "8.3.1", Level: Should, Rows: []int{39},
				Text: Text{
					Rule: "A server should treat a request as malformed whose Host names another entity than its :authority.",
					Why:  "Rules that look at one of the two are passed with the other.",
				},
			},
			head{"host-differs", "a host field that differs from :authority is malformed", "an extended CONNECT with host: other.example", add("host", "other.example")},
		),
		[]Case{
			{
				ID: "h2/connect/scheme-https-on-cleartext", Rows: []int{30}, RFC: "9110", Section: "7.4", Level: Must,
				Title: ":scheme https on a cleartext connection is refused",
				Text: Text{
					Sends: "an extended CONNECT with :scheme https in cleartext, with prior knowledge",
					Sees:  "421 or another refusal; nothing at the backend",
					Rule:  "A request for an https resource that did not come over a secured connection has to be rejected, unless a trusted gateway says how it came.",
					Why:   "Whoever believes the claim hands out secure cookies in the clear.",
				},
				run: func(e *Env) {
					e.needTunnels()
					m := h2Mux{e.H2C()}
					if a := e.whole(m.Send(with(e.connect(m), ":scheme", "https"), false)); !a.Refused() {
						e.Fail("a refusal", "%v", a)
					}
					e.Untouched()
				},
			},
			{
				ID: "h2/connect/connection-lives", Rows: []int{12, 13, 18, 22, 31}, RFC: "9113", Section: "5.4.2", Level: Product,
				Title: "malformed and refused requests leave their connection usable",
				Text: Text{
					Sends: "extended CONNECTs without :scheme, without :path, with a connection field and with an unknown :protocol, a GET with :protocol, all on a connection with a tunnel",
					Sees:  "each refused; the tunnel still echoes, PING is answered, no GOAWAY",
					Rule:  "A stream error does not affect other streams. A connection error is allowed, but it costs all.",
					Why:   "On HTTP/2 all sockets and requests of a page share a connection.",
				},
				run: func(e *Env) {
					m := e.Mux()
					t, b := e.openOn(m)
					ok := e.connect(m)
					for _, f := range []rawpeer.Fields{
						without(ok, ":scheme"), without(ok, ":path"), after(ok, "connection", "x"), with(ok, ":protocol", "foo"), with(ok, ":method", "GET"),
					} {
						if a := e.whole(m.Send(f, false)); !a.Refused() {
							e.Fail("a refusal", "%v", a)
						}
					}
					e.echo(t, b)
					e.Must(m.WantAlive())
				},
			},
		},
	)
}
