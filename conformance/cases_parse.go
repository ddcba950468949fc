package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"wsgate/internal/rawpeer"
)

// parseCases are part L, and what of part K is about an HTTP/1.1 request's own
// octets.
func parseCases() []Case {
	return slices.Concat(headSyntax(), requestLines(), framings(), chunkSyntax(), servedRequests(), slowCases())
}

// spoken is what a client of HTTP/1.1 says and what may come of it.
type spoken struct {
	id, title string
	octets    string // \n is CR LF, \x01 is LF alone; see fill
	statuses  []int  // that it may be refused with; none: any 4xx, 500, 501 or 505, or the end of the connection
	closes    bool   // the connection has to end behind a refusal
	// served judges what reached the backend where the request was served: "" is
	// well, anything else is what was wanted. nil: it may not be served.
	served func(r *rawpeer.Response, seen []Recorded) string
}

// fill puts the case's own words into octets.
func (e *Env) fill(octets string) string {
	octets = strings.NewReplacer("{3000 fields}", strings.Repeat("X-Many: 1234567890\n", 3000)).Replace(octets)
	return strings.NewReplacer(
		"{300k}", strings.Repeat("a", 300000), "{1M}", strings.Repeat("a", 1<<20),
		"{x}", e.Path("x"), "{smuggled}", "GET "+e.Path("smuggled")+" HTTP/1.1\r\nHost: a\r\n\r\n",
		"{length}", fmt.Sprint(len("GET "+e.Path("smuggled")+" HTTP/1.1\r\nHost: a\r\n\r\n")), "{tag}", "X-Case: "+e.token, "{host}", e.Authority(), "\n", "\r\n", "\x01", "\n",
	).Replace(octets)
}

// parse makes cases of what is said.
func parse(base Case, all ...spoken) []Case {
	cases := make([]Case, len(all))
	for i, s := range all {
		c := base
		c.ID = "h1/parse/" + s.id
		c.Title = s.title
		shown := strings.NewReplacer("{300k}", "aaa (300,000 octets)", "{1M}", "aaa (1 MiB)", "{3000 fields}", "X-Many: 1234567890\n (3,000 times)", "{x}", "/x", "{smuggled}", "GET /smuggled …", "{tag}\n", "", "{host}", "host", "\n", "\r\n", "\x01", "\n").Replace(s.octets)
		if len(shown) > 160 {
			shown = shown[:120] + "…"
		}
		c.Text.Sends = fmt.Sprintf("%q", shown)
		c.Text.Sees = "a refusal, and nothing at the backend"
		if s.statuses != nil {
			c.Text.Sees = fmt.Sprintf("%v, and nothing at the backend", s.statuses)
		}
		if s.closes {
			c.Text.Sees += "; the connection ends"
		}
		if s.served != nil {
			c.Text.Sees += "; or a request that nobody can read in two ways"
		}
		c.run = func(e *Env) { e.speak(s) }
		cases[i] = c
	}
	return cases
}

// speak says it and judges what comes of it.
func (e *Env) speak(s spoken) {
	e.Serve()
	c := e.H1()
	go func() { _ = c.WriteString(e.fill(s.octets)) }() // long ones may be refused in the middle
	method, _, _ := strings.Cut(strings.TrimLeft(s.octets, "\n"), " ")
	r, err := c.WantStatus(method, 200)
	refused := false
	switch {
	case err != nil && (r == nil || r.Status == 0):
		if strings.Contains(mismatchOf(err), "timeout") {
			e.Fail("an answer", "%s", mismatchOf(err))
		}
		if s.statuses != nil && s.served == nil {
			e.Note("the connection ended without an answer")
		}
		refused = true
	case r.Status != 200:
		if refused = true; s.statuses != nil && !slices.Contains(s.statuses, r.Status) {
			e.Fail(fmt.Sprintf("status %v", s.statuses), "%q", r.Line)
		}
	}
	if refused && s.closes {
		e.Must(c.WantClosed())
	}
	seen := e.Seen()
	for _, q := range seen {
		if strings.Contains(q.Line, "smuggled") {
			e.Fail("no second request at the backend", "%s", lines(seen))
		}
	}
	switch {
	case refused && len(seen) > 0:
		e.Fail("nothing at the backend", "%s", lines(seen))
	case !refused && s.served == nil:
		e.Fail("a refusal", "%q; %s", r.Line, lines(seen))
	case !refused:
		if want := s.served(r, seen); want != "" {
			e.Fail(want, "%s", raws(seen))
		}
	}
}

// raws are heads and contents whole, for messages.
func raws(all []Recorded) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%q with %.60q; ", r.Raw, r.Content)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// one is the judge of a request that has to reach the backend with this line and
// content.
func one(line, content string) func(*rawpeer.Response, []Recorded) string {
	return func(_ *rawpeer.Response, seen []Recorded) string {
		if len(seen) == 1 && seen[0].Content == content && strings.HasPrefix(seen[0].Line, line) && strings.HasSuffix(seen[0].Line, " HTTP/1.1") {
			return ""
		}
		return fmt.Sprintf("one request %s…HTTP/1.1 with %q", line, content)
	}
}

// anyhow is the judge of a request that may be served.
func anyhow(*rawpeer.Response, []Recorded) string { return "" }

var bad400 = []int{400}

func headSyntax() []Case {
	host := Case{RFC: "9112", Section: "3.2", Level: Must, Rows: []int{206}, Text: Text{
		Rule: "A server MUST answer 400 to a request of HTTP/1.1 without Host, with more than one, or with a Host that is no host.",
		Why:  "Host chooses the site: with two of them, or a strange one, gateway and backend choose different ones.",
	}}
	name := Case{RFC: "9112", Section: "5.1", Level: Must, Rows: []int{207}, Text: Text{
		Rule: "A server MUST reject, with 400, whitespace between a field name and its colon; a line without a name or a colon is no field line.",
		Why:  "Readers differ whether \"Content-Length : 5\" is a length: request smuggling.",
	}}
	fold := Case{RFC: "9112", Section: "5.2", Level: Must, Rows: []int{208}, Text: Text{
		Rule: "A server that gets a folded line rejects it with 400, or replaces the fold by SP.",
		Why:  "Some readers take the second line for a field, some for a value.",
	}}
	first := Case{RFC: "9112", Section: "2.2", Level: Must, Rows: []int{209}, Text: Text{
		Rule: "Whitespace before the first field line is rejected, or the line is dropped.",
		Why:  "A line that one reader drops and one does not is a field that only one of them sees.",
	}}
	bare := Case{RFC: "9112", Section: "2.2", Level: Must, Rows: []int{210}, Text: Text{
		Rule: "A bare CR makes an element invalid, or is replaced by SP. A bare LF may be taken for a line end, by one rule for all lines.",
		Why:  "Where gateway and backend see other lines, they see other requests.",
	}}
	noFold := func(_ *rawpeer.Response, seen []Recorded) string {
		if len(seen) == 1 && !strings.Contains(seen[0].Raw, "\r\n ") && !strings.Contains(seen[0].Raw, "\r\n\t") && strings.Join(strings.Fields(seen[0].Fields.Get("Foo")), " ") == "a b" {
			return ""
		}
		return "Foo: a b in one line"
	}
	noCR := func(_ *rawpeer.Response, seen []Recorded) string {
		if len(seen) == 1 && !strings.Contains(strings.ReplaceAll(seen[0].Raw, "\r\n", ""), "\r") {
			return ""
		}
		return "no bare CR at the backend"
	}
	return slices.Concat(
		parse(
			host,
			spoken{id: "host-missing", title: "a request without Host is 400", octets: "GET {x} HTTP/1.1\n{tag}\n\n", statuses: bad400},
			spoken{id: "host-twice", title: "a request with two Hosts is 400", octets: "GET {x} HTTP/1.1\nHost: a\nHost: b\n\n", statuses: bad400},
			spoken{id: "host-same-twice", title: "a request with the same Host twice is 400", octets: "GET {x} HTTP/1.1\nHost: a\nHost: a\n\n", statuses: bad400},
			spoken{id: "host-space", title: "a Host with a space is 400", octets: "GET {x} HTTP/1.1\nHost: a b\n\n", statuses: bad400},
			spoken{id: "host-list", title: "a Host that is a list is 400", octets: "GET {x} HTTP/1.1\nHost: a, b\n\n", statuses: bad400},
			spoken{id: "host-path", title: "a Host with a path is 400", octets: "GET {x} HTTP/1.1\nHost: a/b\n\n", statuses: bad400},
			spoken{id: "host-userinfo", title: "a Host with userinfo is 400", octets: "GET {x} HTTP/1.1\nHost: u@a\n\n", statuses: bad400},
		),
		parse(
			name,
			spoken{id: "space-before-colon", title: "a space between name and colon is 400", octets: "GET {x} HTTP/1.1\nHost: a\nFoo : bar\n\n", statuses: bad400},
			spoken{id: "tab-before-colon", title: "a tab between name and colon is 400", octets: "POST {x} HTTP/1.1\nHost: a\nContent-Length\t: 5\n\nhello{smuggled}", statuses: bad400},
			spoken{id: "no-colon", title: "a field line without a colon is refused", octets: "GET {x} HTTP/1.1\nHost: a\nFoo\n\n"},
			spoken{id: "no-name", title: "a field line without a name is refused", octets: "GET {x} HTTP/1.1\nHost: a\n: b\n\n"},
		),
		parse(
			Case{RFC: "9110", Section: "5.1", Level: Should, Rows: []int{231}, Text: Text{
				Rule: "A field name is a token, which has no delimiters.",
				Why:  "What they mean is anybody's guess.",
			}},
			spoken{id: "name-delimiter", title: "a delimiter in a field name is refused", octets: "GET {x} HTTP/1.1\nHost: a\nF(o: b\n\n"},
		),
		parse(
			fold,
			spoken{id: "obs-fold", title: "a folded line is 400, or unfolded", octets: "GET {x} HTTP/1.1\nHost: a\nFoo: a\n b\n\n", statuses: bad400, served: noFold},
			spoken{id: "obs-fold-tab", title: "a line that is folded by a tab is 400, or unfolded", octets: "GET {x} HTTP/1.1\nHost: a\nFoo: a\n\tb\n\n", statuses: bad400, served: noFold},
		),
		parse(
			first,
			spoken{id: "space-before-first-field", title: "whitespace before the first field line is refused, or its line dropped", octets: "GET {x} HTTP/1.1\n X-First: 1\nHost: a\n\n", served: func(_ *rawpeer.Response, seen []Recorded) string {
				if len(seen) == 1 && seen[0].Fields.Get("X-First") == "" && !strings.Contains(seen[0].Raw, "\r\n ") {
					return ""
				}
				return "no X-First at the backend"
			}},
		),
		parse(
			bare,
			spoken{id: "bare-cr-in-value", title: "a bare CR in a value is refused, or replaced by SP", octets: "GET {x} HTTP/1.1\nHost: a\nFoo: a\rb\n\n", served: noCR},
			spoken{id: "bare-cr-in-line", title: "a bare CR in the request line is refused, or replaced", octets: "GET {x}\r HTTP/1.1\nHost: a\n\n", served: noCR},
			spoken{id: "nul-in-value", title: "NUL in a value is refused, or replaced by SP", octets: "GET {x} HTTP/1.1\nHost: a\nFoo: a\x00b\n\n", served: func(_ *rawpeer.Response, seen []Recorded) string {
				if len(seen) == 1 && !strings.Contains(seen[0].Raw, "\x00") {
					return ""
				}
				return "no NUL at the backend"
			}},
			spoken{id: "bare-lf", title: "a bare LF is refused, or is a line end for the backend too", octets: "GET {x} HTTP/1.1\nHost: a\x01Foo: b\n\n", served: func(_ *rawpeer.Response, seen []Recorded) string {
				if len(seen) == 1 && !strings.Contains(strings.ReplaceAll(seen[0].Raw, "\r\n", ""), "\n") {
					return ""
				}
				return "no bare LF at the backend"
			}},
			spoken{id: "bare-lf-in-chunk", title: "a bare LF behind a chunk size is refused, or is a line end", octets: "POST {x} HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\x01hello\n0\n\n", served: one("POST", "hello")},
		),
	)
}

func requestLines() []Case {
	line := Case{RFC: "9112", Section: "3", Level: Should, Rows: []int{213}, Text: Text{
		Rule: "Method, target and version stand apart by one SP each; a recipient should answer 400 to anything else.",
		Why:  "Who is lenient here reads another target, or another version, than who is not.",
	}}
	version := Case{RFC: "9112", Section: "2.3", Level: Must, Rows: []int{212}, Text: Text{
		Rule: "The version is HTTP/1.1 in these letters. An unknown major version is 505 or 400; what goes to a backend is the gateway's own version.",
		Why:  "A gateway that passes HTTP/0.9 on gets an answer without a head.",
	}}
	long := Case{RFC: "9112", Section: "3", Level: Must, Rows: []int{214}, Text: Text{
		Rule: "A target that is longer than a server takes MUST be answered 414.",
		Why:  "It says what is wrong; the end of the connection does not.",
	}}
	fields := Case{RFC: "6585", Section: "5", Level: Should, Rows: []int{214}, Text: Text{
		Rule: "Fields that are too large are 431 (RFC 9110 section 5.4 asks for a 4xx).",
		Why:  "A user with a large cookie sees what to do.",
	}}
	get11 := one("GET", "")
	return slices.Concat(
		parse(
			version,
			spoken{id: "http-20", title: "HTTP/2.0 in a request line is 505 or 400", octets: "GET {x} HTTP/2.0\nHost: a\n\n", statuses: []int{400, 505}},
			spoken{id: "http-09", title: "HTTP/0.9 in a request line is 505 or 400", octets: "GET {x} HTTP/0.9\nHost: a\n\n", statuses: []int{400, 505}},
			spoken{id: "no-version", title: "a request line without a version is refused", octets: "GET {x}\n\n", statuses: []int{400, 505}},
			spoken{id: "version-lower-case", title: "http/1.1 in lower case is refused", octets: "GET {x} http/1.1\nHost: a\n\n", statuses: []int{400, 505}},
			spoken{id: "version-two-digits", title: "HTTP/1.10 is refused", octets: "GET {x} HTTP/1.10\nHost: a\n\n", statuses: []int{400, 505}},
			spoken{id: "http-10", title: "a request of HTTP/1.0 is served, and is HTTP/1.1 at the backend", octets: "GET {x} HTTP/1.0\nHost: a\n\n", statuses: []int{505, 426}, served: get11},
		),
		parse(
			Case{RFC: "9110", Section: "2.5", Level: Should, Rows: []int{212}, Text: Text{
				Rule: "A higher minor version is processed as the highest that the recipient knows.",
				Why:  "It is what minor versions are for.",
			}},
			spoken{id: "http-12", title: "HTTP/1.2 is served as HTTP/1.1", octets: "GET {x} HTTP/1.2\nHost: a\n\n", statuses: []int{200}, served: get11},
		),
		parse(
			line,
			spoken{id: "two-spaces", title: "two spaces behind the method are 400", octets: "GET  {x} HTTP/1.1\nHost: a\n\n", statuses: bad400},
			spoken{id: "two-spaces-behind", title: "two spaces before the version are 400", octets: "GET {x}  HTTP/1.1\nHost: a\n\n", statuses: bad400},
			spoken{id: "tab", title: "a tab behind the method is 400", octets: "GET\t{x} HTTP/1.1\nHost: a\n\n", statuses: bad400},
			spoken{id: "vertical-tab", title: "a vertical tab behind the method is 400", octets: "GET\x0b{x} HTTP/1.1\nHost: a\n\n", statuses: bad400},
			spoken{id: "space-at-the-end", title: "a space behind the version is 400", octets: "GET {x} HTTP/1.1 \nHost: a\n\n", statuses: bad400},
		),
		parse(long, spoken{id: "long-target", title: "a target of 300,000 octets is 414, if it is not served", octets: "GET {x}{300k} HTTP/1.1\nHost: a\n\n", statuses: []int{414}, served: anyhow}),
		parse(
			fields,
			spoken{id: "long-field", title: "a field of 300,000 octets is 431, if it is not served", octets: "GET {x} HTTP/1.1\nHost: a\nFoo: {300k}\n\n", statuses: []int{431}, served: anyhow},
			spoken{id: "many-fields", title: "3000 fields are 431, if they are not served", octets: "GET {x} HTTP/1.1\nHost: a\n{3000 fields}\n", statuses: []int{431}, served: anyhow},
		),
		parse(
			Case{RFC: "9112", Section: "2.2", Level: Should, Rows: []int{211}, Text: Text{
				Rule: "A server should ignore at least one empty line before a request line.",
				Why:  "Old clients send one behind the content of a POST.",
			}},
			spoken{id: "leading-crlf", title: "an empty line before the request line is ignored", octets: "\nGET {x} HTTP/1.1\nHost: a\n\n", statuses: []int{200}, served: get11},
		),
		parse(
			Case{RFC: "9112", Section: "3.2.3", Level: Must, Rows: []int{220}, Text: Text{
				Rule: "A server that is no forward proxy does not act on CONNECT.",
				Why:  "It is a way into the network behind the gateway.",
			}},
			spoken{id: "connect", title: "CONNECT is refused and connects to nobody", octets: "CONNECT localhost:443 HTTP/1.1\nHost: localhost:443\n{tag}\n\n{smuggled}"},
		),
	)
}

func framings() []Case {
	te := Case{RFC: "9112", Section: "6.1", Level: Must, Rows: []int{216}, Text: Text{
		Rule: "Transfer-Encoding overrides Content-Length, may be rejected, and in any case the connection is closed behind the answer; a final coding that is not chunked is 400.",
		Why:  "CL.TE, TE.CL and TE.TE: where two readers frame a request in two ways, its rest is a request that nobody has checked.",
	}}
	length := Case{RFC: "9110", Section: "8.6", Level: Must, Rows: []int{204}, Text: Text{
		Rule: "Content-Length is digits; several that are the same may collapse, anything else is 400 and the end of the connection.",
		Why:  "Every reader makes another number of it.",
	}}
	hello := func(r *rawpeer.Response, seen []Recorded) string { return one("POST", "hello")(r, seen) }
	post := "POST {x} HTTP/1.1\nHost: a\n"
	return slices.Concat(
		parse(
			te,
			spoken{id: "cl-te", title: "Content-Length before chunked is no second request", octets: post + "Content-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n{smuggled}", closes: true, served: oneEmpty},
			spoken{id: "te-cl", title: "chunked before Content-Length is no second request", octets: post + "Transfer-Encoding: chunked\nContent-Length: 3\n\n8\nSMUGGLED\n0\n\n", closes: true, served: one("POST", "SMUGGLED")},
			spoken{id: "te-unknown", title: "a coding that looks like chunked is refused", octets: post + "Transfer-Encoding: xchunked\n\n0\n\n{smuggled}", closes: true},
			spoken{id: "te-vertical-tab", title: "chunked behind a vertical tab is refused", octets: post + "Transfer-Encoding: \x0bchunked\n\n0\n\n{smuggled}", closes: true},
			spoken{id: "te-identity", title: "chunked, identity is refused", octets: post + "Transfer-Encoding: chunked, identity\n\n0\n\n{smuggled}", closes: true},
			spoken{id: "te-two-lines-unknown", title: "chunked and then another coding is refused", octets: post + "Transfer-Encoding: chunked\nTransfer-Encoding: x\n\n0\n\n{smuggled}", closes: true},
			spoken{id: "te-twice", title: "chunked twice is refused, or no second request", octets: post + "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n{smuggled}", closes: true},
		),
		parse(
			Case{RFC: "9112", Section: "6.1", Level: Must, Rows: []int{215}, Text: Text{
				Rule: "A request of HTTP/1.0 with Transfer-Encoding is faulty: what it means is not known, and the connection ends behind it.",
				Why:  "A proxy of HTTP/1.0 on the way has passed on what it did not understand.",
			}},
			spoken{id: "te-http-10", title: "Transfer-Encoding in HTTP/1.0 is refused, or ends the connection", octets: "POST {x} HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n\n0\n\n{smuggled}", closes: true, served: oneEmpty},
		),
		parse(
			Case{RFC: "9112", Section: "6.3", Level: Must, Rows: []int{217}, Text: Text{
				Rule: "A request whose last coding is not chunked cannot be framed: 400 and the end of the connection. A coding that is not known is 501.",
				Why:  "Without a length its end is anybody's guess.",
			}},
			spoken{id: "te-gzip", title: "gzip as the last coding is refused and ends the connection", octets: post + "Transfer-Encoding: gzip\n\nxx{smuggled}", closes: true},
			spoken{id: "te-gzip-chunked", title: "gzip, chunked is refused, or passed on as chunks", octets: post + "Transfer-Encoding: gzip, chunked\n\n0\n\n", served: oneEmpty},
		),
		parse(
			length,
			spoken{id: "length-plus", title: "Content-Length: +5 is 400 and ends the connection", octets: post + "Content-Length: +5\n\nhello{smuggled}", statuses: bad400, closes: true},
			spoken{id: "length-same-twice", title: "Content-Length: 5,5 is refused, or is 5", octets: post + "Content-Length: 5,5\n\nhello", statuses: bad400, served: hello},
			spoken{id: "length-list", title: "Content-Length: 5,6 is 400 and ends the connection", octets: post + "Content-Length: 5,6\n\nhello{smuggled}", statuses: bad400, closes: true},
			spoken{id: "length-two-lines", title: "two Content-Lengths that differ are 400 and end the connection", octets: post + "Content-Length: 5\nContent-Length: 34\n\nhello{smuggled}", statuses: bad400, closes: true},
			spoken{id: "length-hex", title: "Content-Length: 0x5 is 400 and ends the connection", octets: post + "Content-Length: 0x5\n\nhello{smuggled}", statuses: bad400, closes: true},
			spoken{id: "length-space", title: "Content-Length: 5 5 is 400 and ends the connection", octets: post + "Content-Length: 5 5\n\nhello{smuggled}", statuses: bad400, closes: true},
			spoken{id: "length-huge", title: "a Content-Length of 20 digits is refused and ends the connection", octets: post + "Content-Length: 99999999999999999999\n\nhello{smuggled}", statuses: []int{400, 413}, closes: true},
			spoken{id: "length-empty", title: "an empty Content-Length is 400 and ends the connection", octets: post + "Content-Length:\n\n{smuggled}", statuses: bad400, closes: true},
		),
		parse(
			Case{RFC: "9112", Section: "9.3", Level: Must, Rows: []int{221}, Text: Text{
				Rule: "Content that is not read is drained, or the connection ends behind the answer.",
				Why:  "Content that stays is read as the next request.",
			}},
			spoken{id: "refused-with-content", title: "content of a refused request is never a request", octets: "CONNECT localhost:443 HTTP/1.1\nHost: localhost:443\n{tag}\nContent-Length: {length}\n\n{smuggled}"},
		),
	)
}

// oneEmpty is one POST without content.
func oneEmpty(r *rawpeer.Response, seen []Recorded) string { return one("POST", "")(r, seen) }

func chunkSyntax() []Case {
	chunk := Case{RFC: "9112", Section: "7.1", Level: Must, Rows: []int{218}, Text: Text{
		Rule: "A chunk is its size in hexadecimal digits, CR LF, its octets, CR LF. A size that overflows is to be detected.",
		Why:  "A size that two readers take for two numbers is two ends of a request.",
	}}
	post := "POST {x} HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n"
	return slices.Concat(
		parse(
			chunk,
			spoken{id: "chunk-underscore", title: "a chunk size of 1_0 is refused", octets: post + "1_0\n0123456789abcdef\n0\n\n{smuggled}"},
			spoken{id: "chunk-0x", title: "a chunk size of 0x5 is refused", octets: post + "0x5\nhello\n0\n\n{smuggled}"},
			spoken{id: "chunk-plus", title: "a chunk size of +5 is refused", octets: post + "+5\nhello\n0\n\n{smuggled}"},
			spoken{id: "chunk-minus", title: "a chunk size of -5 is refused", octets: post + "-5\nhello\n0\n\n{smuggled}"},
			spoken{id: "chunk-empty", title: "an empty chunk size is refused", octets: post + "\nhello\n0\n\n{smuggled}"},
			spoken{id: "chunk-overflow", title: "a chunk size of 17 digits is refused", octets: post + "10000000000000005\nhello\n0\n\n{smuggled}"},
			spoken{id: "chunk-no-crlf", title: "a chunk without CR LF behind its octets is refused", octets: post + "5\nhello0\n\n{smuggled}"},
			spoken{id: "chunk-extension", title: "a chunk extension is ignored", octets: post + "5;ext=\"a\"\nhello\n0\n\n", statuses: []int{200}, served: one("POST", "hello")},
		),
		parse(
			Case{RFC: "9112", Section: "7.1.1", Level: Should, Rows: []int{219}, Text: Text{
				Rule: "A recipient limits the length of chunk extensions and answers with a 4xx.",
				Why:  "They are content that no limit of content counts.",
			}},
			spoken{id: "chunk-extension-long", title: "a chunk extension of 1 MiB is refused", octets: post + "5;ext={1M}\nhello\n0\n\n"},
		),
	)
}

// servedRequests have to be served, in one way.
func servedRequests() []Case {
	pipelined := func(id, title, octets string, want ...string) Case {
		return Case{
			ID: "h1/parse/" + id, Rows: []int{221}, RFC: "9112", Section: "9.3.2", Level: Must, Title: title,
			Text: Text{
				Sends: title,
				Sees:  "200 for each, in order; each at the backend once, with its own content",
				Rule:  "Requests that come before earlier ones are answered are answered in order, unless the connection ends behind one.",
				Why:   "A request that is lost, or read with the content of another, is somebody's order.",
			},
			run: func(e *Env) {
				e.Serve()
				c := e.H1()
				e.Must(c.WriteString(e.fill(octets)))
				answers := 0
				for range want {
					r, err := c.ReadResponse("GET")
					if err != nil || r.Status != 200 {
						break
					}
					if answers++; hasToken(r.Fields.Values("Connection"), "close") {
						break
					}
				}
				seen := e.Seen()
				if answers == 0 || answers > len(seen) || len(seen) > len(want) {
					e.Fail(fmt.Sprintf("%d requests and answers", len(want)), "%d answers, %s", answers, lines(seen))
				}
				for _, q := range seen {
					if !slices.Contains(want, strings.TrimSpace(q.Line[:4])+" "+q.Content) {
						e.Fail(fmt.Sprintf("%q", want), "%s", lines(seen))
					}
				}
			},
		}
	}
	get := "GET {x} HTTP/1.1\nHost: a\n\n"
	return []Case{
		pipelined("pipelined", "three GETs in one segment", get+get+get, "GET ", "GET ", "GET "),
		pipelined("pipelined-behind-content", "a POST with content and a GET in one segment", "POST {x} HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello"+get, "POST hello", "GET "),
		pipelined("pipelined-behind-chunks", "a chunked POST and a GET in one segment", "POST {x} HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n"+get, "POST hello", "GET "),
		{
			ID: "h1/parse/behind-close", Rows: []int{221}, RFC: "9112", Section: "9.6", Level: Must,
			Title: "what follows a request with Connection: close is not processed",
			Text: Text{
				Sends: "GET with Connection: close and another GET in one segment",
				Sees:  "200 for the first, and the end of the connection; the other not at the backend",
				Rule:  "A server that gets close MUST NOT process further requests on that connection.",
				Why:   "The client does not wait for their answers.",
			},
			run: func(e *Env) {
				e.Serve()
				c := e.H1()
				e.Must(c.WriteString(e.fill("GET {x} HTTP/1.1\nHost: a\nConnection: close\n\n{smuggled}")))
				_, err := c.WantStatus("GET", 200)
				e.Must(err)
				e.Must(c.WantClosed())
				if seen := e.Seen(); len(seen) != 1 {
					e.Fail("one request at the backend", "%s", lines(seen))
				}
			},
		},
		{
			ID: "h1/parse/h2c-upgrade", Rows: []int{222}, RFC: "9110", Section: "7.8", Level: Must,
			Title: "Upgrade: h2c and HTTP2-Settings do not reach the backend",
			Text: Text{
				Sends: "GET with Upgrade: h2c, HTTP2-Settings and Connection: Upgrade, HTTP2-Settings",
				Sees:  "an ordinary answer, or a switch of the gateway's own; neither field at the backend",
				Rule:  "Both are of one connection, and the upgrade to h2c is obsolete (RFC 9113 section 3.1).",
				Why:   "A backend that takes it speaks HTTP/2 past the gateway: h2c smuggling.",
			},
			run: func(e *Env) {
				e.Serve()
				c := e.H1()
				e.Must(c.WriteString(e.fill("GET {x} HTTP/1.1\nHost: a\nUpgrade: h2c\nHTTP2-Settings: AAMAAABk\nConnection: Upgrade, HTTP2-Settings\n\n")))
				r, err := c.ReadResponse("GET")
				e.Must(err)
				if r.Status == 101 { // its own, which RFC 7540 allowed
					e.Note("the gateway itself switches to h2c")
				}
				for _, q := range e.Seen() {
					if q.Fields.Get("Upgrade") != "" || q.Fields.Get("HTTP2-Settings") != "" {
						e.Fail("neither Upgrade nor HTTP2-Settings at the backend", "%q", q.Raw)
					}
				}
			},
		},
	}
}

// slowCases are row 223, and of row 129 what is HTTP/1.1's.
func slowCases() []Case {
	slow := func(id, title, octets string) Case {
		return Case{
			ID: "h1/slow/" + id, Rows: []int{223}, RFC: "9112", Section: "9.5", Level: Should, Profile: ShortTimes, Title: title,
			Text: Text{
				Sends: fmt.Sprintf("%.60q and then nothing, to a gateway with 1 s for a head", octets),
				Sees:  "408, or the end of the connection",
				Rule:  "A server that has waited long enough may close, and should answer 408 where a request has begun.",
				Why:   "A few thousand connections that say a word now and then hold every place of a server (Slowloris).",
			},
			run: func(e *Env) {
				c := e.H1()
				e.Must(c.WriteString(e.fill(octets)))
				c.Patience = e.Wait(6 * time.Second)
				r, err := c.ReadResponse("GET")
				if err != nil {
					if strings.Contains(mismatchOf(err), "timeout") {
						e.Fail("408", "nothing")
					}
					e.Note("the connection ended without an answer")
				} else if r.Status != 408 {
					e.Fail("408", "%q", r.Line)
				}
				e.Must(c.WantClosed())
			},
		}
	}
	return []Case{
		slow("half-line", "half a request line is given up", "GE"),
		slow("half-head", "half a head is given up", "GET {x} HTTP/1.1\nHost: a\n"),
		slow("half-handshake", "half a handshake is given up", "GET {x} HTTP/1.1\nHost: a\nUpgrade: websocket\nConnection: Upgrade\n"),
		{
			ID: "h1/slow/tunnel-is-exempt", Rows: []int{223}, RFC: "9112", Section: "9.5", Level: Should, Profile: ShortTimes,
			Title: "a tunnel is no slow request",
			Text: Text{
				Sends: "a tunnel over HTTP/1.1 that is silent for 2 s, to a gateway with 1 s for a head and for idle connections",
				Sees:  "octets both ways afterwards",
				Rule:  "After the 101 there is no request to wait for.",
				Why:   "Sockets are silent most of the time.",
			},
			run: func(e *Env) {
				t, b := e.Open()
				e.echo(t, b)
				<-e.after(2 * time.Second)
				e.echo(t, b)
			},
		},
		{
			ID: "h1/slow/idle-connection", Rows: []int{129}, RFC: "9112", Section: "9.5", Level: DoS, Profile: ShortTimes,
			Title: "a connection without a request is closed in order",
			Text: Text{
				Sends: "a request, and then nothing for longer than the idle time of 1 s",
				Sees:  "FIN",
				Rule:  "Servers usually have a time after which they close an idle connection.",
				Why:   "Connections that do nothing hold memory and descriptors.",
			},
			run: func(e *Env) {
				e.Serve()
				c := e.H1()
				e.Must(c.WriteString(e.fill("GET {x} HTTP/1.1\nHost: a\n\n")))
				_, err := c.WantStatus("GET", 200)
				e.Must(err)
				c.Patience = e.Wait(6 * time.Second)
				e.Must(c.WantFIN())
			},
		},
	}
}
