package conformance

import (
	"slices"
	"strings"

	"wsgate/internal/rawpeer"
)

// responseCases: a backend's answers on their way to the client.
func responseCases() []Case {
	var all []Case
	for _, c := range []Case{
		{
			ID: "response/hop-by-hop", Rows: []int{187}, RFC: "9110", Section: "7.6.1", Level: Must,
			Title: "fields of the backend's connection do not reach the client, nor those that Connection names",
			Text: Text{
				Sends: "GET that the backend answers with Connection: close, x-hop, X-Hop, Keep-Alive, Upgrade, Proxy-Connection and a chunked content",
				Sees:  "the content and none of these fields, but for the HTTP/1.1 front's own framing and Connection",
				Rule:  "Connection-specific fields are removed; on HTTP/2 an answer that has one is malformed (RFC 9113 section 8.2.2).",
				Why:   "Clients of HTTP/2 reset the stream and show nothing.",
			},
			run: func(e *Env) {
				out := e.exchange("GET", "HTTP/1.1 200 OK\nConnection: close, x-hop\nX-Hop: 1\nKeep-Alive: 5\nUpgrade: h2c\nProxy-Connection: x\nX-Stays: 1\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n")
				if out.Status != 200 || string(out.Body) != "ok" || out.Head.Get("x-stays") != "1" {
					e.Fail("200 with ok and X-Stays", "%v, %q", out, out.Head)
				}
				e.without(out, "x-hop", "upgrade", "proxy-connection")
				if e.version() != h1 {
					e.without(out, "connection", "keep-alive", "transfer-encoding")
				} else if v := strings.Join(out.Head.Values("Connection"), ","); strings.Contains(v, "x-hop") {
					e.Fail("no x-hop in Connection", "%q", v)
				}
			},
		},
		{
			ID: "response/early-hints", Rows: []int{189}, RFC: "9110", Section: "15.2", Level: Must,
			Title: "a 103 of the backend reaches the client before the final answer",
			Text: Text{
				Sends: "GET that the backend answers 103 with Link, then 200",
				Sees:  "103 with the Link, then 200",
				Rule:  "A proxy MUST forward 1xx responses unless it asked for them itself.",
				Why:   "A browser loads what the hints name while the page is made.",
			},
			run: func(e *Env) {
				out := e.exchange("GET", "HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\nok")
				if out.Status != 200 || string(out.Body) != "ok" || !slices.Equal(out.Interim, []int{103}) || out.First.Get("link") != "</a>" {
					e.Fail("103 with Link, then 200", "%v after %v %q", out, out.Interim, out.First)
				}
			},
		},
		{
			ID: "response/unasked-100", Rows: []int{189}, RFC: "9110", Section: "10.1.1", Level: Product,
			Title: "a 100 that nobody asked for holds nothing up",
			Text: Text{
				Sends: "GET that the backend answers 100, then 200",
				Sees:  "200, with or without a 100 before it",
				Rule:  "A client has to be able to parse 1xx that it did not expect.",
				Why:   "Some servers send it always.",
			},
			run: func(e *Env) {
				out := e.exchange("GET", "HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\nok")
				if out.Status != 200 || string(out.Body) != "ok" {
					e.Fail("200 with ok", "%v", out)
				}
			},
		},
		trailers(),
		bodiless("response/head", "HEAD", "the answer to HEAD has no content and keeps its Content-Length", "HTTP/1.1 200 OK\nContent-Length: 77\nConnection: close\n\n", 200, "77"),
		bodiless("response/204", "GET", "a 204 has no content and no framing", "HTTP/1.1 204 No Content\nConnection: close\n\n", 204, ""),
		bodiless("response/304", "GET", "a 304 has no content and may have a Content-Length", "HTTP/1.1 304 Not Modified\nETag: \"a\"\nContent-Length: 77\nConnection: close\n\n", 304, "77"),
		bodiless("response/205", "GET", "a 205 has no content", "HTTP/1.1 205 Reset Content\nContent-Length: 0\nConnection: close\n\n", 205, "0"),
	} {
		all = append(all, bothVersions(c)...)
	}
	return all
}

func trailers() Case {
	return Case{
		ID: "response/trailers", Rows: []int{190}, RFC: "9110", Section: "6.5.1", Level: May,
		Title: "trailers stay trailers, or are dropped; they never become part of a head",
		Text: Text{
			Sends: "POST with a trailer X-Up, that the backend answers with a trailer X-Down",
			Sees:  "X-Up not in the head at the backend, X-Down not in the head at the client",
			Rule:  "Trailers may be forwarded or discarded, and MUST NOT be merged into the head unless their field allows it.",
			Why:   "A field that comes behind the content has passed no check that was made before it.",
		},
		run: func(e *Env) {
			a := e.Ask("POST", e.Path("x"), true, "Trailer", "X-Up", "TE", "trailers")
			e.Must(a.Data("hello"))
			if s, ok := a.(*askedStream); ok {
				e.Must(s.Trailers(rawpeer.F("x-up", "1")))
			} else {
				e.Must(a.(*askedH1).c.WriteString("0\r\nX-Up: 1\r\n\r\n"))
			}
			b, h := e.NextHead()
			if h.Fields.Get("X-Up") != "" {
				e.Fail("no X-Up in the head", "%q", h.Raw)
			}
			if p, err := b.ReadContent(h); err != nil || string(p) != "hello" {
				e.Fail("hello at the backend", "%q %v", p, err)
			}
			e.Must(b.Write([]byte(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-Down\nConnection: close\n\n2\nok\n0\nX-Down: 2\n\n"))))
			out := e.WantAnswer(a, 200, "ok")
			if out.Head.Get("x-down") != "" {
				e.Fail("no X-Down in the head", "%q", out.Head)
			}
		},
	}
}

// bodiless is an answer without content; length is the Content-Length that it may
// have.
func bodiless(id, method, title, octets string, status int, length string) Case {
	return Case{
		ID: id, Rows: []int{191}, RFC: "9110", Section: "6.4.1", Level: Must, Title: title,
		Text: Text{
			Sends: method + " that the backend answers with a head alone",
			Sees:  "the status, no content, an end at once; no Transfer-Encoding on a 204, and a Content-Length only if the backend sent it",
			Rule:  "Answers to HEAD, 1xx, 204 and 304 have no content, whatever their fields say; a 204 has no framing field (RFC 9112 section 6.1).",
			Why:   "A client that waits for content that never comes hangs; one that reads the next answer for it is lost.",
		},
		run: func(e *Env) {
			out := e.exchange(method, octets)
			if out.Status != status || len(out.Body) > 0 || !out.End {
				e.Fail("the status, no content, an end", "%v", out)
			}
			if v := strings.Join(out.Head.Values("Content-Length"), "|"); v != "" && v != length {
				e.Fail("Content-Length "+length+", or none", "%q", v)
			}
			if status == 204 {
				e.without(out, "transfer-encoding")
			}
		},
	}
}

// cutCases: answers that are not whole, or that nobody can frame.
func cutCases() []Case {
	cut := func(id string, row int, section, title, octets string) Case {
		return Case{
			ID: id, Rows: []int{row}, RFC: "9112", Section: section, Level: Must, Title: title,
			Text: Text{
				Sends: "GET that the backend answers with content that is cut, broken or of two lengths, and ends its connection",
				Sees:  "a 5xx; or content that does not end in order: RST_STREAM, a cut connection",
				Rule:  "An answer that was cut is incomplete, and is not to look complete to who gets it forwarded (section 8).",
				Why:   "Half a download that looks whole is stored, and cached.",
			},
			run: func(e *Env) {
				if out := e.exchange("GET", octets); out.Status/100 != 5 && out.End {
					e.Fail("no orderly end", "%v", out)
				}
			},
		}
	}
	refused := func(id, title, octets string) Case {
		return Case{
			ID: id, Rows: []int{194}, RFC: "9112", Section: "6.3", Level: Must, Title: title,
			Text: Text{
				Sends: "GET that the backend answers with framing that cannot be trusted, and ends its connection",
				Sees:  "502, or a cut answer; never \"evil\" as an answer of its own",
				Rule:  "Content-Length that is invalid or differs is unrecoverable: a proxy closes the backend's connection and answers 502. Transfer-Encoding wins over Content-Length, and its connection is closed.",
				Why:   "Response smuggling: two readers find different ends.",
			},
			run: func(e *Env) {
				out := e.exchange("GET", octets)
				if out.Status/100 == 2 && out.End && string(out.Body) != "ok" {
					e.Fail("502", "%v", out)
				}
				if out.Status/100 == 2 {
					e.Note("taken as %v", out)
				}
			},
		}
	}
	var all []Case
	for _, c := range []Case{
		cut("response/short", 192, "6.3", "content that is shorter than its Content-Length does not end in order", "HTTP/1.1 200 OK\nContent-Length: 100\n\nshort"),
		cut("response/no-last-chunk", 193, "7.1", "chunks without the last do not end in order", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nshort\n"),
		cut("response/cut-in-chunk", 193, "7.1", "a chunk that is cut does not end in order", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n50\nshort"),
		cut("response/bad-chunk-size", 193, "7.1", "a chunk size that is none does not end in order", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nshort\nxyz\n\n"),
		cut("response/huge-chunk-size", 193, "7.1", "a chunk size of 18 digits does not end in order", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nshort\nffffffffffffffffff\n\n"),
		cut("response/two-lengths", 194, "6.3", "two Content-Lengths that differ are 502", "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok"),
		cut("response/length-list", 194, "6.3", "a list of two lengths is 502", "HTTP/1.1 200 OK\nContent-Length: 2, 3\n\nok"),
		refused("response/gzip-chunked", "a coding that the gateway does not know is 502, or passed on as chunks", "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n2\nok\n0\n\n"),
		refused("response/xchunked", "a coding that is not chunked is 502, or read to the end", "HTTP/1.1 200 OK\nTransfer-Encoding: xchunked\n\nok"),
		refused("response/both-framings", "with Content-Length and Transfer-Encoding the chunks count, or it is 502", "HTTP/1.1 200 OK\nContent-Length: 40\nTransfer-Encoding: chunked\n\n2\nok\n0\n\nHTTP/1.1 200 OK\nContent-Length: 4\n\nevil"),
	} {
		all = append(all, bothVersions(c)...)
	}
	return append(all, pooledCases()...)
}

// pooledCases: backend connections that are used again. They run alone, since what
// they leave in a pool is anybody's.
func pooledCases() []Case {
	kept := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	begin := func(e *Env, octets []byte) *rawpeer.BackendConn {
		a := e.Ask("GET", e.Path("first"), false)
		b, _ := e.NextHead()
		e.Must(b.Write(octets))
		e.WantAnswer(a, 200, "ok")
		return b
	}
	// again sends a request that comes on the same connection, or ends the case.
	again := func(e *Env, b *rawpeer.BackendConn, method string) Asked {
		a := e.Ask(method, e.Path("again"), method == "POST")
		if method == "POST" {
			e.Must(a.Data("x"))
			e.Must(a.End())
		}
		head := make(chan error, 1)
		go func() {
			_, err := b.ReadHead()
			head <- err
		}()
		select {
		case other := <-e.claim.conns:
			_ = other.Write(answer("200 OK", "ok"))
			e.Skip("the gateway does not use backend connections again")
		case err := <-head:
			if err != nil {
				e.Skip("the gateway does not use backend connections again")
			}
		}
		return a
	}
	var all []Case
	for _, c := range []Case{
		{
			ID: "pool/extra-octets", Rows: []int{195}, RFC: "9112", Section: "9.2", Level: Must,
			Title: "octets behind an answer end the connection and are nobody's answer",
			Text: Text{
				Sends: "GET that the backend answers with two answers at once; then requests",
				Sees:  "the first answer; the requests behind it get answers of their own",
				Rule:  "A client that receives data on a connection without outstanding requests MUST NOT take it for an answer, and should close.",
				Why:   "The next client is served what a backend, or an attacker by way of it, left there.",
			},
			run: func(e *Env) {
				begin(e, append(slices.Clone(kept), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"...))
				e.Serve()
				for range 5 {
					e.WantAnswer(e.Ask("GET", e.Path("next"), false), 200, "ok")
				}
			},
		},
		{
			ID: "pool/answer-while-idle", Rows: []int{196}, RFC: "9112", Section: "9.2", Level: Should,
			Title: "an answer that nobody asked for ends an idle connection",
			Text: Text{
				Sends: "GET that is answered and kept alive; then an answer without a request",
				Sees:  "the end of the backend's connection; the next requests get answers of their own",
				Rule:  "The same rule: it is not an answer, and the connection should be closed.",
				Why:   "It would be the next client's answer.",
			},
			run: func(e *Env) {
				b := begin(e, kept)
				_ = b.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
				e.Must(b.WantEnded())
				e.Serve()
				for range 5 {
					e.WantAnswer(e.Ask("GET", e.Path("next"), false), 200, "ok")
				}
			},
		},
		{
			ID: "pool/post-not-repeated", Rows: []int{197}, RFC: "9110", Section: "9.2.2", Level: Must,
			Title: "a POST whose connection dies before an answer is not sent again",
			Text: Text{
				Sends: "POST on a backend connection that is used again; the backend closes it without an answer",
				Sees:  "a 5xx or a reset; no second POST at the backend",
				Rule:  "A proxy MUST NOT automatically retry a request with a method that is not idempotent.",
				Why:   "Orders would be placed twice.",
			},
			run: func(e *Env) {
				b := begin(e, kept)
				a := again(e, b, "POST")
				b.Close()
				e.Behind(func(b *rawpeer.BackendConn) { _ = b.Write(answer("200 OK", "twice")) })
				if out := e.answered(a); out.Status/100 == 2 {
					e.Fail("no second POST", "%v", out)
				}
			},
		},
		{
			ID: "pool/get-repeated", Rows: []int{197}, RFC: "9110", Section: "9.2.2", Level: Product,
			Title: "a GET whose reused connection dies before an answer is sent again once",
			Text: Text{
				Sends: "GET on a backend connection that is used again; the backend closes it without an answer",
				Sees:  "the GET again on a new connection, and its answer at the client",
				Rule:  "Idempotent requests may be repeated.",
				Why:   "Every keep-alive timeout of a backend would be an error for somebody.",
			},
			run: func(e *Env) {
				b := begin(e, kept)
				a := again(e, b, "GET")
				b.Close()
				next, _ := e.NextHead()
				e.Must(next.Write(answer("200 OK", "second")))
				e.WantAnswer(a, 200, "second")
			},
		},
	} {
		c.alone = true
		all = append(all, bothVersions(c)...)
	}
	return all
}

// expectCases are row 201.
func expectCases() []Case {
	var all []Case
	for _, c := range []Case{
		{
			ID: "request/expect-100", Rows: []int{201}, RFC: "9110", Section: "10.1.1", Level: Must,
			Title: "Expect: 100-continue is answered 100, by the backend or by the gateway",
			Text: Text{
				Sends: "POST with Expect: 100-continue; the backend answers 100 if it is asked",
				Sees:  "100 at the client, before it sent content; then the content at the backend and the final answer",
				Rule:  "A proxy forwards the expectation, or answers 100 itself if it knows that the content will be taken.",
				Why:   "A client that waits for the 100 waits in vain.",
			},
			run: func(e *Env) {
				a := e.Ask("POST", e.Path("x"), true, "Expect", "100-continue")
				e.Behind(func(b *rawpeer.BackendConn) {
					h, err := b.ReadHead()
					if err == nil && h.Fields.Get("Expect") != "" {
						_ = b.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
					}
					if err == nil {
						_, err = b.ReadContent(h)
					}
					if err == nil {
						_ = b.Write(answer("200 OK", "ok"))
					}
				})
				e.wait100(a)
				e.Must(a.Data("hello"))
				e.Must(a.End())
				e.WantAnswer(a, 200, "ok")
			},
		},
		{
			ID: "request/expect-417", Rows: []int{201}, RFC: "9110", Section: "10.1.1", Level: Must,
			Title: "a 417 of the backend reaches the client",
			Text: Text{
				Sends: "POST with Expect: 100-continue that the backend answers 417",
				Sees:  "417 at the client; or a 100 of the gateway's own, and then 417",
				Rule:  "A final answer in place of 100 is forwarded as any.",
				Why:   "It spares sending what nobody takes.",
			},
			run: func(e *Env) {
				a := e.Ask("POST", e.Path("x"), true, "Expect", "100-continue")
				var b *rawpeer.BackendConn
				select {
				case b = <-e.claim.conns:
				case <-e.after(e.patience / 4): // it made a 100 and waits for content
					e.Must(a.Data("hello"))
					e.Must(a.End())
					b = e.Next()
				}
				_, err := b.ReadHead()
				e.Must(err)
				e.Must(b.Write(answer("417 Expectation Failed", "no")))
				e.WantAnswer(a, 417, "no")
			},
		},
	} {
		all = append(all, bothVersions(c)...)
	}
	return all
}

// wait100 waits for a 100.
func (e *Env) wait100(a Asked) {
	if s, ok := a.(*askedStream); ok {
		head, err := s.First()
		e.Must(err)
		if head.Get(":status") != "100" {
			e.Fail("100", "%q", head)
		}
		return
	}
	r, err := a.(*askedH1).c.ReadResponse("POST")
	e.Must(err)
	if r.Status != 100 {
		e.Fail("100", "%q", r.Line)
	}
}
