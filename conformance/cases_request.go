package conformance

import (
	"fmt"
	"slices"
	"strings"

	"wsgate/internal/rawpeer"
)

// requestCases are part K: ordinary requests to the HTTP/1.1 backend, on HTTP/2
// and on HTTP/1.1.
func requestCases() []Case {
	return slices.Concat(forwardedCases(), uploadCases(), responseCases(), cutCases(), expectCases(), trustCases())
}

func forwardedCases() []Case {
	all := []Case{
		{
			ID: "h2/request/authority-and-host", Rows: []int{181}, RFC: "9113", Section: "8.3.1", Level: Must,
			Title: "of :authority and a host field that differ, :authority is the Host, or the request is refused",
			Text: Text{
				Sends: "GET with :authority a.example and host: b.example",
				Sees:  "Host: a.example at the backend, or a refusal",
				Rule:  "An intermediary makes Host of :authority.",
				Why:   "Checks on one of the two are passed with the other.",
			},
			run: func(e *Env) {
				m := e.anyMux()
				s := m.Send(after(with(e.get(m.Scheme()), ":authority", "a.example"), "host", "b.example"), true)
				b, a := e.either(s)
				if b == nil {
					if !a.Refused() {
						e.Fail("a refusal", "%v", a)
					}
					return
				}
				h, err := b.ReadHead()
				e.Must(err)
				if v := h.Fields.Values("Host"); len(v) != 1 || v[0] != "a.example" {
					e.Fail("Host: a.example", "%q", v)
				}
			},
		},
		{
			ID: "h1/request/named-in-connection", Rows: []int{188}, RFC: "9110", Section: "7.6.1", Level: Must,
			Title: "a field that Connection names is not forwarded",
			Text: Text{
				Sends: "GET with Connection: x-auth-user, keep-alive and X-Auth-User: admin",
				Sees:  "no X-Auth-User at the backend",
				Rule:  "Intermediaries remove each field that a connection option names, and Connection itself.",
				Why:   "It is a field for the gateway alone, by the client's word.",
			},
			run: func(e *Env) {
				h := e.forwarded("Connection", "x-auth-user, keep-alive", "X-Auth-User", "admin", "Keep-Alive", "5", "Proxy-Connection", "keep-alive")
				for _, n := range []string{"X-Auth-User", "Keep-Alive", "Proxy-Connection"} {
					if v := h.Fields.Values(n); v != nil {
						e.Fail("no "+n+" at the backend", "%q", v)
					}
				}
			},
		},
		{
			ID: "h1/request/connection-cannot-remove", Rows: []int{188}, RFC: "9110", Section: "7.6.1", Level: Must,
			Title: "Connection cannot remove what the gateway itself adds",
			Text: Text{
				Sends: "a plain GET; then one whose Connection names x-forwarded-for, x-forwarded-proto, x-forwarded-host and via",
				Sees:  "of these fields the backend sees as many the second time as the first",
				Rule:  "Fields that are named are removed from what was received, before the gateway adds its own.",
				Why:   "A client that removes X-Forwarded-For comes from nowhere, and passes rules by address (CVE-2022-31813).",
			},
			run: func(e *Env) {
				first := e.forwarded()
				second := e.forwarded("Connection", "x-forwarded-for, x-forwarded-proto, x-forwarded-host, via")
				for _, n := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Via"} {
					if len(first.Fields.Values(n)) > 0 && len(second.Fields.Values(n)) == 0 {
						e.Fail(n+" at the backend", "%q", second.Raw)
					}
				}
			},
		},
	}
	for _, c := range []Case{
		{
			ID: "request/line-and-host", Rows: []int{182}, RFC: "9112", Section: "3.2", Level: Must,
			Title: "a forwarded request has an origin-form target, HTTP/1.1, and one Host",
			Text: Text{
				Sends: "GET with escapes and a query",
				Sees:  "\"GET /… HTTP/1.1\" with the same octets at the backend, one Host of the authority",
				Rule:  "A client of an origin server sends the origin form, its own highest version, and exactly one Host.",
				Why:   "Backends route by it.",
			},
			run: func(e *Env) {
				path := e.Path("a%20b?c=%20d&e")
				a := e.Ask("GET", path, false)
				b, h := e.NextHead()
				e.Must(b.Write(answer("200 OK", "ok")))
				e.WantAnswer(a, 200, "ok")
				if h.Line != "GET "+path+" HTTP/1.1" {
					e.Fail("GET "+path+" HTTP/1.1", "%q", h.Line)
				}
				if v := h.Fields.Values("Host"); len(v) != 1 || v[0] != e.Authority() {
					e.Fail("one Host: "+e.Authority(), "%q", v)
				}
			},
		},
		{
			ID: "request/via", Rows: []int{199}, RFC: "9110", Section: "7.6.3", Level: Must,
			Title: "a forwarded request has a Via with the version that the gateway received",
			Text: Text{
				Sends: "GET with Via: 1.1 edge",
				Sees:  "at the backend a Via that the gateway added to, with the version of the request",
				Rule:  "A gateway MUST send a Via on each inbound request that it forwards.",
				Why:   "It is how loops are found.",
			},
			run: func(e *Env) {
				v := strings.Join(e.forwarded("Via", "1.1 edge").Fields.Values("Via"), ", ")
				want := map[string]string{h3: "3", h2: "2", h1: "1.1"}[e.version()]
				all := strings.Split(v, ",")
				if last := strings.TrimPrefix(strings.TrimSpace(all[len(all)-1]), "HTTP/"); len(all) != 2 || !strings.HasPrefix(last, want) {
					e.Fail("Via: 1.1 edge, "+want+" and a name", "%q", v)
				}
			},
		},
		{
			ID: "request/loop", Rows: []int{199}, RFC: "9110", Section: "7.6.3", Level: Product,
			Title: "a request that carries the gateway's own Via has come back, and is refused",
			Text: Text{
				Sends: "GET with the Via that the gateway sent before",
				Sees:  "502 or 508; nothing at the backend",
				Rule:  "Via is there to find request loops.",
				Why:   "Two gateways that point at each other send a request round until all connections are gone.",
			},
			run: func(e *Env) {
				via := strings.Join(e.forwarded().Fields.Values("Via"), ", ")
				if via == "" {
					e.Fail("a Via", "none")
				}
				a := e.Ask("GET", e.Path("again"), false, "Via", via)
				e.Behind(func(b *rawpeer.BackendConn) { _ = b.Write(answer("200 OK", "ok")) })
				if out := e.answered(a); out.Status != 502 && out.Status != 508 {
					e.Fail("502 or 508", "%v", out)
				}
			},
		},
		{
			ID: "request/max-forwards-options", Rows: []int{200}, RFC: "9110", Section: "7.6.2", Level: Must,
			Title: "OPTIONS with Max-Forwards: 0 is answered by the gateway",
			Text: Text{
				Sends: "OPTIONS with Max-Forwards: 0",
				Sees:  "an answer; nothing at the backend",
				Rule:  "An intermediary that gets OPTIONS or TRACE with Max-Forwards: 0 MUST NOT forward it.",
				Why:   "It is how a path of gateways is asked one by one.",
			},
			run: func(e *Env) {
				e.Serve()
				e.answered(e.Ask("OPTIONS", e.Path("x"), false, "Max-Forwards", "0"))
				if seen := e.Seen(); len(seen) > 0 {
					e.Fail("nothing at the backend", "%q", seen[0].Line)
				}
			},
		},
		{
			ID: "request/max-forwards-counts", Rows: []int{200}, RFC: "9110", Section: "7.6.2", Level: Must,
			Title: "Max-Forwards of a forwarded OPTIONS is one less",
			Text: Text{
				Sends: "OPTIONS with Max-Forwards: 3",
				Sees:  "Max-Forwards: 2 at the backend",
				Rule:  "Who forwards it MUST send a value that is one less, or its own maximum.",
				Why:   "Without it a loop never ends.",
			},
			run: func(e *Env) {
				a := e.Ask("OPTIONS", e.Path("x"), false, "Max-Forwards", "3")
				b, h := e.NextHead()
				e.Must(b.Write(answer("200 OK", "ok")))
				e.WantAnswer(a, 200, "ok")
				if v := h.Fields.Get("Max-Forwards"); v != "2" {
					e.Fail("Max-Forwards: 2", "%q", v)
				}
			},
		},
		{
			ID: "request/trace", Rows: []int{200}, RFC: "9110", Section: "9.3.8", Level: Product,
			Title: "TRACE is off",
			Text: Text{
				Sends: "TRACE",
				Sees:  "405 or 501; nothing at the backend",
				Rule:  "Nobody needs it, and it repeats what it was sent.",
				Why:   "It shows a page's script the cookies that it may not read.",
			},
			run: func(e *Env) {
				e.Serve()
				if out := e.answered(e.Ask("TRACE", e.Path("x"), false)); out.Status != 405 && out.Status != 501 {
					e.Fail("405 or 501", "%v", out)
				}
			},
		},
	} {
		all = append(all, bothVersions(c)...)
	}
	return all
}

// forwarded sends a GET and returns the head that the backend saw.
func (e *Env) forwarded(fields ...string) *rawpeer.Head {
	a := e.Ask("GET", e.Path("x"), false, fields...)
	b, h := e.NextHead()
	e.Must(b.Write(answer("200 OK", "ok")))
	e.WantAnswer(a, 200, "ok")
	return h
}

// uploadCases: content on its way to the backend.
func uploadCases() []Case {
	all := []Case{
		badLength("content-length-short", "fewer octets than content-length says are a stream error, and the backend's request is not completed", func(s Stream) error { return s.CloseWrite() }),
		badLength("content-length-long", "more octets than content-length says are a stream error, and the backend's request is not completed", func(s Stream) error {
			return s.Data([]byte(strings.Repeat("x", 10001)), true)
		}),
	}
	for _, v := range []struct{ id, value string }{{"plus", "+5"}, {"list", "5,6"}, {"hex", "0x5"}, {"space", "5 5"}, {"huge", "99999999999999999999"}, {"empty", ""}} {
		all = append(all, Case{
			ID: "h2/request/content-length-" + v.id, Rows: []int{204}, RFC: "9110", Section: "8.6", Level: Must,
			Title: fmt.Sprintf("content-length %q is malformed", v.value),
			Text: Text{
				Sends: fmt.Sprintf("POST with content-length: %q", v.value),
				Sees:  malformedSees,
				Rule:  "Content-Length is digits and nothing else; a message with another value is invalid.",
				Why:   "Every reader makes another number of it, and another end of the request.",
			},
			run: func(e *Env) {
				m := e.anyMux()
				s := m.Send(after(with(e.get(m.Scheme()), ":method", "POST"), "content-length", v.value), false)
				_ = s.Data([]byte("hello"), true)
				e.WantMalformed(s)
			},
		})
	}
	for _, c := range []Case{
		{
			ID: "request/chunked-upload", Rows: []int{184}, RFC: "9112", Section: "7.1", Level: Must,
			Title: "content without a length is chunked to the backend, and ends only when it has ended",
			Text: Text{
				Sends: "POST without Content-Length, in two pieces, then its end",
				Sees:  "at the backend Transfer-Encoding: chunked; or a Content-Length, once all has come. No end before the client's",
				Rule:  "HTTP/1.1 needs a framing for content of unknown length (RFC 9113 section 8.1 has none).",
				Why:   "A request that looks complete before it is gets half a file stored.",
			},
			run: chunkedUpload,
		},
		{
			ID: "request/one-framing", Rows: []int{185}, RFC: "9112", Section: "6.1", Level: Must,
			Title: "a request with a length has it at the backend, and never Transfer-Encoding beside it",
			Text: Text{
				Sends: "POST with Content-Length: 5 and 5 octets",
				Sees:  "one of Content-Length: 5 and chunked at the backend, and the content",
				Rule:  "A sender MUST NOT send Content-Length in a message that has Transfer-Encoding.",
				Why:   "With both, every reader picks one: request smuggling.",
			},
			run: func(e *Env) {
				a := e.Ask("POST", e.Path("x"), true, "Content-Length", "5")
				e.Must(a.Data("hello"))
				e.Must(a.End())
				b, h := e.NextHead()
				content, err := b.ReadContent(h)
				e.Must(err)
				e.Must(b.Write(answer("200 OK", "ok")))
				e.WantAnswer(a, 200, "ok")
				if string(content) != "hello" || len(h.Fields.Values("Content-Length"))+len(h.Fields.Values("Transfer-Encoding")) != 1 {
					e.Fail("one framing, and hello", "%q with %q", h.Raw, content)
				}
			},
		},
		{
			ID: "request/upload-cut", Rows: []int{186}, RFC: "9113", Section: "5.4.2", Level: Must,
			Title: "an upload that its client gives up never looks complete to the backend",
			Text: Text{
				Sends: "POST without a length, some content, then the client goes away",
				Sees:  "the end of the backend's connection, without a last chunk",
				Rule:  "A request that was not received whole is not completed by who forwards it (RFC 9112 section 8).",
				Why:   "Half a file would be stored as a whole one.",
			},
			run: uploadCut,
		},
	} {
		all = append(all, bothVersions(c)...)
	}
	return all
}

// badLength is content that is not as long as announced.
func badLength(id, title string, then func(Stream) error) Case {
	return Case{
		ID: "h2/request/" + id, Rows: []int{183}, RFC: "9113", Section: "8.1.1", Level: Must, Title: title,
		Text: Text{
			Sends: "POST with content-length: 20000, 10,000 octets, and then an end or too much",
			Sees:  "RST_STREAM, or a 4xx; at the backend no complete request",
			Rule:  "A request whose content-length is not the sum of its DATA is malformed.",
			Why:   "A backend that believes the length waits for the next request's octets.",
		},
		run: func(e *Env) {
			m := e.anyMux()
			s := m.Send(after(with(e.get(m.Scheme()), ":method", "POST"), "content-length", "20000"), false)
			e.Must(s.Write([]byte(strings.Repeat("x", 10000))))
			whole := make(chan bool, 1)
			e.Behind(func(b *rawpeer.BackendConn) {
				h, err := b.ReadHead()
				if err == nil {
					_, err = b.ReadContent(h)
				}
				whole <- err == nil
				_ = b.Write(answer("200 OK", "stored"))
			})
			_ = then(s) // a reset at the sight of the first octet too many comes before our end
			a := e.whole(s)
			if !a.Malformed() && a.Reset == "" {
				e.Fail("a reset, or a complete 4xx", "%v", a)
			}
			select {
			case complete := <-whole:
				if complete {
					e.Fail("no complete request at the backend", "one")
				}
			default:
			}
		},
	}
}

func chunkedUpload(e *Env) {
	a := e.Ask("POST", e.Path("x"), true)
	e.Must(a.Data("hello"))
	var b *rawpeer.BackendConn
	select { // a gateway may wait for the whole
	case b = <-e.claim.conns:
	case <-e.after(e.patience / 4):
		e.Note("nothing at the backend before the end of the content")
	}
	if b != nil {
		h, err := b.ReadHead()
		e.Must(err)
		if te := h.Fields.Values("Transfer-Encoding"); len(te) != 1 || !strings.EqualFold(te[0], "chunked") || h.Fields.Values("Content-Length") != nil {
			e.Fail("Transfer-Encoding: chunked, no Content-Length", "%q", h.Raw)
		}
		e.Must(b.WantBytes([]byte("5\r\nhello\r\n")))
		e.Must(b.WantSilence(e.Short()))
		e.Must(a.Data("again"))
		e.Must(a.End())
		e.Must(b.WantBytes([]byte("5\r\nagain\r\n0\r\n\r\n")))
	} else {
		e.Must(a.Data("again"))
		e.Must(a.End())
		b = e.Next()
		h, err := b.ReadHead()
		e.Must(err)
		if p, err := b.ReadContent(h); err != nil || string(p) != "helloagain" {
			e.Fail("helloagain", "%q %v", p, err)
		}
	}
	e.Must(b.Write(answer("200 OK", "ok")))
	e.WantAnswer(a, 200, "ok")
}

func uploadCut(e *Env) {
	a := e.Ask("POST", e.Path("x"), true)
	e.Must(a.Data(strings.Repeat("x", 10000)))
	var b *rawpeer.BackendConn
	select {
	case b = <-e.claim.conns:
	case <-e.after(e.patience / 4):
		e.Must(a.Leave())
		e.Untouched() // it waits for the whole
		return
	}
	_, err := b.ReadHead()
	e.Must(err)
	_, err = b.Read(make([]byte, 1)) // content is under way
	e.Must(err)
	e.Must(a.Leave())
	var all []byte
	p := make([]byte, 32<<10)
	for {
		n, err := b.Read(p)
		all = append(all, p[:n]...)
		if isTimeout(err) {
			e.Fail("the end of the backend's connection", "none in %v", b.Patience)
		}
		if err != nil {
			break
		}
	}
	if strings.HasSuffix(string(all), "0\r\n\r\n") {
		e.Fail("no last chunk", "one, after %d octets", len(all))
	}
}

// trustCases: what the gateway says of its client.
func trustCases() []Case {
	var all []Case
	for _, c := range []Case{
		{
			ID: "request/forwarded-for-replaced", Rows: []int{202}, Level: Product,
			Title: "X-Forwarded-For of a client that is not trusted is replaced",
			Text: Text{
				Sends: "GET with X-Forwarded-For: 192.0.2.1 and X-Forwarded-Proto: gopher",
				Sees:  "at the backend an X-Forwarded-For without 192.0.2.1, an X-Forwarded-Proto that is none of the client's",
				Rule:  "No RFC speaks of it: what a client says of itself is no evidence.",
				Why:   "Backends grant access by address, and log it.",
			},
			run: func(e *Env) {
				h := e.forwarded("X-Forwarded-For", "192.0.2.1", "X-Forwarded-Proto", "gopher")
				if v := strings.Join(h.Fields.Values("X-Forwarded-For"), ", "); strings.Contains(v, "192.0.2.1") || v == "" {
					e.Fail("X-Forwarded-For: 127.0.0.1", "%q", v)
				}
				if v := strings.Join(h.Fields.Values("X-Forwarded-Proto"), ", "); strings.Contains(v, "gopher") {
					e.Fail("X-Forwarded-Proto of the gateway", "%q", v)
				}
			},
		},
		{
			ID: "request/forwarded-for-appended", Rows: []int{202}, Level: Product, Profile: Trusted,
			Title: "X-Forwarded-For of a trusted proxy is added to",
			Text: Text{
				Sends: "GET with X-Forwarded-For: 192.0.2.1 and X-Forwarded-Proto: https, from a trusted address",
				Sees:  "X-Forwarded-For: 192.0.2.1, 127.0.0.1 and X-Forwarded-Proto: https at the backend",
				Rule:  "No RFC speaks of it: a proxy that is known is believed.",
				Why:   "Otherwise every client behind it has its address.",
			},
			run: func(e *Env) {
				h := e.forwarded("X-Forwarded-For", "192.0.2.1", "X-Forwarded-Proto", "https")
				if v := strings.Join(h.Fields.Values("X-Forwarded-For"), ", "); v != "192.0.2.1, 127.0.0.1" {
					e.Fail("X-Forwarded-For: 192.0.2.1, 127.0.0.1", "%q", v)
				}
				if v := h.Fields.Values("X-Forwarded-Proto"); len(v) != 1 || v[0] != "https" {
					e.Fail("X-Forwarded-Proto: https", "%q", v)
				}
			},
		},
	} {
		all = append(all, bothVersions(c)...)
	}
	return append(all, Case{
		ID: "h2/connect/trusted-scheme", Rows: []int{30}, RFC: "9110", Section: "7.4", Level: Product, Profile: Trusted,
		Title: ":scheme https that a trusted proxy claims in cleartext is served as https",
		Text: Text{
			Sends: "an extended CONNECT with :scheme https in cleartext, from a trusted address",
			Sees:  "200; X-Forwarded-Proto: https at the backend",
			Rule:  "A trusted gateway may say that the request came to it secured.",
			Why:   "Behind something that ends TLS everything comes in cleartext.",
		},
		run: func(e *Env) {
			e.needTunnels()
			m := h2Mux{e.H2C()}
			s := m.Send(with(e.connect(m), ":scheme", "https"), false)
			h, err := e.nextOr(s).AcceptUpgrade()
			e.Must(err)
			_, err = s.WantStatus(200)
			e.Must(err)
			if v := h.Fields.Values("X-Forwarded-Proto"); len(v) != 1 || v[0] != "https" {
				e.Fail("X-Forwarded-Proto: https", "%q", v)
			}
		},
	})
}
