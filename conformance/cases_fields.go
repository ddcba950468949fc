package conformance

import (
	"fmt"
	"slices"
	"strings"

	"wsgate/internal/rawpeer"
)

// fieldCases are part C, but for the frames that header sections come in.
func fieldCases() []Case {
	return ofRows(map[string]int{
		"name-upper-case": 41, "name-space": 42, "name-cr": 42, "name-lf": 42, "name-crlf": 42, "name-nul": 42, "name-del": 42, "name-high": 42, "name-empty": 42,
		"name-colon": 43,
	}, slices.Concat(nameCases(), valueCases(), pseudoValueCases(), pathCases(), listCases()))
}

func nameCases() []Case {
	return slices.Concat(
		malformed(
			Case{
				ID: "h2/fields/", RFC: "9113", Section: "8.2.1", Level: Must, Rows: []int{41, 42, 43},
				Text: Text{
					Rule: "A field name has no octets 0x00-0x20, no upper case letters, no 0x7f-0xff, and no colon but the first octet of a pseudo-field.",
					Why:  "On HTTP/1.1 such a name ends, splits or hides a line; the backend sees other fields than the gateway has checked.",
				},
			},
			head{"name-upper-case", "upper case in a field name is malformed", "an extended CONNECT with a field X-Upper", add("X-Upper", "1")},
			head{"name-space", "a space in a field name is malformed", `an extended CONNECT with a field "x y"`, add("x y", "1")},
			head{"name-cr", "CR in a field name is malformed", `an extended CONNECT with a field "x\ry"`, add("x\ry", "1")},
			head{"name-lf", "LF in a field name is malformed", `an extended CONNECT with a field "x\ny"`, add("x\ny", "1")},
			head{"name-crlf", "CR LF and a whole line in a field name are malformed", `an extended CONNECT with a field "x: 1\r\ny"`, add("x: 1\r\ny", "1")},
			head{"name-nul", "NUL in a field name is malformed", `an extended CONNECT with a field "x\x00y"`, add("x\x00y", "1")},
			head{"name-del", "0x7f in a field name is malformed", `an extended CONNECT with a field "x\x7fy"`, add("x\x7fy", "1")},
			head{"name-high", "octets above 0x7f in a field name are malformed", `an extended CONNECT with a field "x\xe9y"`, add("x\xe9y", "1")},
			head{"name-colon", "a colon inside a field name is malformed", `an extended CONNECT with a field "x:y"`, add("x:y", "1")},
			head{"name-empty", "an empty field name is malformed", "an extended CONNECT with a field without a name", add("", "1")},
		),
		[]Case{{
			ID: "h2/fields/name-delimiters", Rows: []int{231}, RFC: "9113", Section: "8.2.1", Level: Should,
			Title: "delimiters in a field name are malformed",
			Text: Text{
				Sends: "extended CONNECTs, each with one of \"(),/;<=>?@[\\]{} in a field name",
				Sees:  malformedSees,
				Rule:  "A field name is a token (RFC 9110 section 5.1); what HTTP/2 does not forbid a recipient should treat as malformed.",
				Why:   "What they mean on HTTP/1.1 is anybody's guess.",
			},
			run: func(e *Env) {
				m := e.Mux()
				for _, c := range "\"(),/;<=>?@[\\]{}" {
					a := e.whole(m.Send(after(e.connect(m), fmt.Sprintf("x%cy", c), "1"), false))
					if !a.Malformed() {
						e.Fail(fmt.Sprintf("%c in a field name refused as malformed", c), "%v", a)
					}
				}
				e.Untouched()
			},
		}},
	)
}

func valueCases() []Case {
	const injected = "v\r\nx-injected: y"
	return slices.Concat(
		malformed(
			Case{
				ID: "h2/fields/", RFC: "9113", Section: "8.2.1", Level: Must, Rows: []int{44},
				Text: Text{
					Rule: "A field value has no NUL, CR or LF.",
					Why:  "Each CR LF in a value is a line of its own at an HTTP/1.1 backend: request smuggling by a client.",
				},
			},
			head{"crlf-in-cookie", "CR LF in cookie is malformed", "an extended CONNECT whose cookie holds CR LF and a field line", add("cookie", injected)},
			head{"crlf-in-origin", "CR LF in origin is malformed", "an extended CONNECT whose origin holds CR LF and a field line", set("origin", injected)},
			head{"crlf-in-user-agent", "CR LF in user-agent is malformed", "an extended CONNECT whose user-agent holds CR LF and a field line", add("user-agent", injected)},
			head{"crlf-in-subprotocol", "CR LF in sec-websocket-protocol is malformed", "an extended CONNECT whose sec-websocket-protocol holds CR LF and a field line", add("sec-websocket-protocol", injected)},
		),
		malformed(
			Case{
				ID: "h2/fields/", RFC: "9113", Section: "8.2.1", Level: Must, Rows: []int{45},
				Text: Text{
					Rule: "A field value has no NUL, CR or LF at any position.",
					Why:  "Many HTTP/1.1 servers take a bare LF for the end of a line, some a bare CR.",
				},
			},
			head{"lf-in-value", "a bare LF in a value is malformed", `an extended CONNECT with x: "a\nb"`, add("x", "a\nb")},
			head{"cr-in-value", "a bare CR in a value is malformed", `an extended CONNECT with x: "a\rb"`, add("x", "a\rb")},
			head{"nul-in-value", "NUL in a value is malformed", `an extended CONNECT with x: "a\x00b"`, add("x", "a\x00b")},
		),
		malformed(
			Case{
				ID: "h2/fields/", RFC: "9113", Section: "8.2.1", Level: Must, Rows: []int{46},
				Text: Text{
					Rule: "A field value does not start or end with SP or HTAB.",
					Why:  "HTTP/1.1 takes such spaces away: who compares before and who compares after see two values.",
				},
			},
			head{"leading-space", "a leading space of a value is malformed", `an extended CONNECT with x: " a"`, add("x", " a")},
			head{"trailing-space", "a trailing space of a value is malformed", `an extended CONNECT with x: "a "`, add("x", "a ")},
			head{"leading-tab", "a leading tab of a value is malformed", `an extended CONNECT with x: "\ta"`, add("x", "\ta")},
			head{"trailing-tab", "a trailing tab of a value is malformed", `an extended CONNECT with x: "a\t"`, add("x", "a\t")},
		),
	)
}

func pseudoValueCases() []Case {
	return malformed(
		Case{
			ID: "h2/fields/", RFC: "9113", Section: "8.2.1", Level: Must, Rows: []int{47},
			Text: Text{
				Rule: "Pseudo-fields are field values too, and :method, :path and :authority have their grammar (RFC 9110, RFC 3986). Section 10.3 warns of what passes otherwise.",
				Why:  "They become the request line: a space or CR LF there is a second target, a second version, a second request.",
			},
		},
		head{"crlf-in-path", "CR LF in :path is malformed", "an extended CONNECT whose :path holds CR LF and a field line", func(e *Env, ok rawpeer.Fields) rawpeer.Fields {
			return with(ok, ":path", e.Path("a HTTP/1.1\r\nx-injected: y\r\nx:"))
		}},
		head{"space-in-path", "a space in :path is malformed", "an extended CONNECT whose :path holds a space", func(e *Env, ok rawpeer.Fields) rawpeer.Fields {
			return with(ok, ":path", e.Path("a b"))
		}},
		head{"hash-in-path", "# in :path is malformed", "an extended CONNECT whose :path holds a fragment", func(e *Env, ok rawpeer.Fields) rawpeer.Fields {
			return with(ok, ":path", e.Path("a#b"))
		}},
		head{"space-in-method", "a space in :method is malformed", `a request with :method "GE T"`, func(_ *Env, ok rawpeer.Fields) rawpeer.Fields {
			return with(without(ok, ":protocol"), ":method", "GE T")
		}},
		head{"crlf-in-authority", "CR LF in :authority is malformed", "an extended CONNECT whose :authority holds CR LF and a field line", set(":authority", "a\r\nx-injected: y")},
	)
}

// pathCases are targets that may be refused or forwarded, but only as they are.
func pathCases() []Case {
	var all []Case
	for _, x := range []struct{ id, name, path, plain string }{
		{"path-utf8", "raw UTF-8", "caf\xc3\xa9", ""},
		{"path-backslash", "a backslash", `a\b`, ""},
		{"path-nul-escape", "%00", "a%00b", ""},
		{"path-dot-dot", "a /../", "a/../b", "b"},
		{"path-encoded-dot-dot", "an encoded /../", "a/%2e%2E/b", "b"},
		{"path-double-slash", "//", "/host/a", ""},
		{"path-escapes", "escapes and a query", "a%2fb%20c?q=%zz&r=/../", ""},
	} {
		all = append(all, Case{
			ID: "h2/fields/" + x.id, Rows: []int{48}, RFC: "9110", Section: "4.2", Level: Product,
			Title: "a :path with " + x.name + " is refused, or the same octets reach the backend",
			Text: Text{
				Sends: "an extended CONNECT with " + x.name + " in :path",
				Sees:  "a complete 4xx or a malformed request; or the same octets, or at most dots resolved, in the request line at the backend",
				Rule:  "One documented rule, the same for routing and for forwarding.",
				Why:   "Where rules are checked on one spelling and the backend is sent another, paths that are forbidden can be reached.",
			},
			run: func(e *Env) {
				m := e.Mux()
				h := e.headOr(m.Send(with(e.connect(m), ":path", e.Path(x.path)), false))
				if h == nil {
					e.Untouched()
					return
				}
				want := "GET " + e.Path(x.path) + " HTTP/1.1"
				if h.Line != want && (x.plain == "" || h.Line != "GET "+e.Path(x.plain)+" HTTP/1.1") {
					e.Fail(want, "%q", h.Line)
				}
			},
		})
	}
	return all
}

func listCases() []Case {
	return []Case{
		{
			ID: "h2/fields/cookie-crumbs", Rows: []int{49}, RFC: "9113", Section: "8.2.3", Level: Must,
			Title: "cookies in several lines reach the backend as one, joined by semicolons",
			Text: Text{
				Sends: "an extended CONNECT with three cookie lines",
				Sees:  `one line "Cookie: a=1; b=2; c=3" at the backend`,
				Rule:  "Cookie lines MUST be joined with \"; \" before they pass into a context that is not HTTP/2.",
				Why:   "Browsers split cookies to compress them; HTTP/1.1 servers read one Cookie line and lose the session in another.",
			},
			run: func(e *Env) {
				h := e.opened("cookie", "a=1", "cookie", "b=2", "cookie", "c=3")
				if v := h.Fields.Values("Cookie"); len(v) != 1 || v[0] != "a=1; b=2; c=3" {
					e.Fail(`one Cookie: "a=1; b=2; c=3"`, "%q", v)
				}
			},
		},
		{
			ID: "h2/fields/list-order", Rows: []int{50}, RFC: "9110", Section: "5.3", Level: Must,
			Title: "lines of a list field keep their order",
			Text: Text{
				Sends: "an extended CONNECT with two sec-websocket-protocol lines",
				Sees:  "both at the backend in that order, in two lines or in one",
				Rule:  "A proxy MUST NOT change the order of field lines of one name; they may be joined by a comma.",
				Why:   "The order of subprotocols is the client's preference.",
			},
			run: func(e *Env) {
				h := e.opened("sec-websocket-protocol", "chat", "sec-websocket-protocol", "superchat")
				if got := strings.Join(h.Fields.Values("Sec-WebSocket-Protocol"), ", "); strings.ReplaceAll(got, " ", "") != "chat,superchat" {
					e.Fail("chat, superchat", "%q", got)
				}
			},
		},
	}
}
