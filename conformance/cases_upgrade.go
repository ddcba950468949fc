package conformance

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"

	"wsgate/internal/rawpeer"
)

// upgradeH1Cases are part J: the gateway as the WebSocket server of an HTTP/1.1
// client.
func upgradeH1Cases() []Case {
	return slices.Concat(upgraded(), notUpgraded(), badKeyCases(), upgradeContent(), notSwitched(), upgradeEnds())
}

// handshake sends an opening handshake; lines are replaced by what edit makes.
func (e *Env) handshake(edit func(string) string) (*rawpeer.H1, string) {
	c := e.H1()
	s := edit(e.upgrade())
	e.Must(c.WriteString(s))
	return c, s
}

// swap replaces a text, which has to be there.
func swap(old, by string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic("no " + old + " in the handshake")
		}
		return strings.Replace(s, old, by, 1)
	}
}

// opens is a handshake that has to open a tunnel.
func opens(id string, rows []int, rfc, section string, level Level, title, sends, rule, why string, edit func(string) string, judge func(*Env, *rawpeer.Head, *rawpeer.Response)) Case {
	return Case{
		ID: "h1/upgrade/" + id, Rows: rows, RFC: rfc, Section: section, Level: level, Title: title,
		Text: Text{Sends: sends, Sees: "a handshake at the backend, 101 at the client, octets both ways", Rule: rule, Why: why},
		run: func(e *Env) {
			c, _ := e.handshake(edit)
			b := e.nextOrH1(c)
			h, err := b.AcceptUpgrade()
			e.Must(err)
			r, err := c.WantStatus("GET", 101)
			e.Must(err)
			if judge != nil {
				judge(e, h, r)
			}
			e.echo(h1Tunnel{c}, b)
		},
	}
}

func upgraded() []Case {
	same := func(s string) string { return s }
	list := "Connection is a list of tokens that compare without regard to letter case."
	whyList := "Firefox sends keep-alive, Upgrade; proxies put their own in front."
	return []Case{
		opens("open", []int{164}, "6455", "4.2.2", Must, "a right handshake is answered 101 with the Accept for its key", "a handshake with the key of RFC 6455 section 1.3",
			"The answer is 101 with Upgrade: websocket, Connection: Upgrade and the digest of the key, which for this key is s3pPLMBiTxaQ9kYGzzhZRbK+xOo=.", "Every client compares it.",
			same, func(e *Env, _ *rawpeer.Head, r *rawpeer.Response) {
				if v := r.Fields.Values("Sec-WebSocket-Accept"); strings.Join(v, "|") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
					e.Fail("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "%q", v)
				}
				if !strings.EqualFold(r.Fields.Get("Upgrade"), "websocket") || !hasToken(r.Fields.Values("Connection"), "upgrade") {
					e.Fail("Upgrade: websocket and Connection: Upgrade", "%q", r.Fields)
				}
			}),
		opens("accept-of-own-key", []int{176}, "6455", "4.2.2", Must, "the Accept is that of the client's own key, whatever the backend was sent", "a handshake with a key of its own",
			"The client compares the Accept with the key that it sent.", "A gateway that makes keys for its backends has to make Accepts for its clients.",
			swap(rawpeer.Key, "AAECAwQFBgcICQoLDA0ODw=="), func(e *Env, h *rawpeer.Head, r *rawpeer.Response) {
				e.key(h)
				if got, want := r.Fields.Get("Sec-WebSocket-Accept"), rawpeer.AcceptFor("AAECAwQFBgcICQoLDA0ODw=="); got != want {
					e.Fail("Sec-WebSocket-Accept: "+want, "%q", got)
				}
			}),
		opens("connection-list", []int{167}, "6455", "4.2.1", Must, "Connection: keep-alive, Upgrade is an upgrade", "Connection: keep-alive, Upgrade", list, whyList, swap("Connection: Upgrade", "Connection: keep-alive, Upgrade"), nil),
		opens("connection-lower-case", []int{167}, "6455", "4.2.1", Must, "connection: upgrade is an upgrade", "connection: upgrade", list, whyList, swap("Connection: Upgrade", "connection: upgrade"), nil),
		opens("connection-two-lines", []int{167}, "6455", "4.2.1", Must, "Upgrade in the second of two Connection lines is an upgrade", "Connection: keep-alive and Connection: UPGRADE", list, whyList, swap("Connection: Upgrade", "Connection: keep-alive\r\nConnection: UPGRADE"), nil),
		opens("upgrade-letter-case", []int{169}, "9110", "7.8", May, "Upgrade: WebSocket is an upgrade", "Upgrade: WebSocket", "Upgrade tokens compare without regard to letter case.", "Old clients write it so.", swap("Upgrade: websocket", "Upgrade: WebSocket"), nil),
		opens("h2c-and-websocket", []int{169}, "9110", "7.8", May, "of h2c and websocket, websocket alone is taken and sent on", "Upgrade: h2c, websocket", "A server may take any of the offered protocols, and what it does not take it does not forward: Upgrade is hop-by-hop.",
			"An h2c at the backend opens a connection that the gateway cannot read.", swap("Upgrade: websocket", "Upgrade: h2c, websocket"), func(e *Env, h *rawpeer.Head, _ *rawpeer.Response) {
				if v := strings.Join(h.Fields.Values("Upgrade"), ", "); strings.Contains(v, "h2c") {
					e.Fail("Upgrade: websocket at the backend", "%q", v)
				}
			}),
		opens("content-length-zero", []int{226}, "", "", Interop, "Content-Length: 0 on a handshake is no content", "a handshake with Content-Length: 0", "No content is no content, however it is said.", "Some HTTP libraries put it on every request.",
			swap("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"), func(e *Env, h *rawpeer.Head, _ *rawpeer.Response) {
				if v := h.Fields.Values("Content-Length"); v != nil {
					e.Fail("no Content-Length at the backend", "%q", v)
				}
			}),
		opens("absolute-form", []int{179}, "9112", "3.2.2", Must, "of an absolute target and Host, the target's host wins", "GET http://target.example/… with Host: other.example",
			"A server that gets the absolute form ignores Host and takes the host of the target; what it forwards has a Host made of that.", "Checks on one of the two are passed with the other.",
			func(s string) string {
				return strings.Replace(swap("GET /", "GET http://target.example/")(s), "Host: ", "Host: other.", 1)
			}, func(e *Env, h *rawpeer.Head, _ *rawpeer.Response) {
				if v := h.Fields.Values("Host"); len(v) != 1 || v[0] != "target.example" {
					e.Fail("Host: target.example", "%q", v)
				}
			}),
		{
			ID: "h1/upgrade/101-fields", Rows: []int{177}, RFC: "9110", Section: "15.2.2", Level: Must,
			Title: "a 101 has no framing fields, and of the connection's only Connection and Upgrade",
			Text: Text{
				Sends: "a handshake that the backend answers 101 with Content-Length, Transfer-Encoding and Keep-Alive beside what belongs there",
				Sees:  "101 without the three, or 502",
				Rule:  "A 1xx has no content: Content-Length and Transfer-Encoding MUST NOT be sent in it (RFC 9112 section 6.1, RFC 9110 section 8.6); Keep-Alive is the backend connection's.",
				Why:   "A client that believes the length reads frames as content.",
			},
			run: func(e *Env) {
				c, _ := e.handshake(same)
				_, err := e.Next().AcceptUpgrade(rawpeer.F("Content-Length", "0", "Transfer-Encoding", "chunked", "Keep-Alive", "5")...)
				e.Must(err)
				r, err := c.ReadResponse("HEAD")
				e.Must(err)
				if r.Status == 502 {
					return
				}
				for _, n := range []string{"Content-Length", "Transfer-Encoding", "Keep-Alive"} {
					if v := r.Fields.Values(n); r.Status != 101 || v != nil {
						e.Fail("101 without "+n, "%q, %q", r.Line, v)
					}
				}
			},
		},
		{
			ID: "h1/upgrade/expect", Rows: []int{175}, RFC: "9110", Section: "7.8", Level: Must,
			Title: "with Expect: 100-continue a 100 comes before the 101",
			Text: Text{
				Sends: "a handshake with Expect: 100-continue",
				Sees:  "100, then 101; or a refusal",
				Rule:  "If a server gets Upgrade and Expect and means to answer 101 it MUST send a 100 first.",
				Why:   "A client that waits for the 100 takes the 101 for something else.",
			},
			run: func(e *Env) {
				c, _ := e.handshake(swap("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n"))
				e.Behind(accepts)
				var seen []int
				for {
					r, err := c.ReadResponse("HEAD")
					e.Must(err)
					if seen = append(seen, r.Status); r.Status != 100 {
						break
					}
				}
				if last := seen[len(seen)-1]; last == 101 && !slices.Equal(seen, []int{100, 101}) || last/100 == 2 {
					e.Fail("100 and 101, or a refusal", "%v", seen)
				}
			},
		},
		{
			ID: "h1/upgrade/missing-key-made", Rows: []int{166}, Level: Product, Profile: Relaxed,
			Title: "told so, the gateway makes a missing key for the backend",
			Text: Text{
				Sends: "a handshake without Sec-WebSocket-Key",
				Sees:  "a right key at the backend; 101 without an Accept, which would be for no key",
				Rule:  "RFC 6455 asks for a key; this is for clients that cannot be changed.",
				Why:   "Devices in the field send handshakes of old drafts (haproxy#2876).",
			},
			run: func(e *Env) {
				c, _ := e.handshake(swap("Sec-WebSocket-Key: "+rawpeer.Key+"\r\n", ""))
				h, err := e.Next().AcceptUpgrade()
				e.Must(err)
				e.key(h)
				_, err = c.WantStatus("GET", 101)
				e.Must(err)
			},
		},
	}
}

// notUpgraded are requests that are no handshake, or none that may be answered.
func notUpgraded() []Case {
	ordinary := func(id string, row int, rfc, section string, level Level, title, sends string, edit func(string) string) Case {
		return Case{
			ID: "h1/upgrade/" + id, Rows: []int{row}, RFC: rfc, Section: section, Level: level, Title: title,
			Text: Text{
				Sends: sends,
				Sees:  "no 101, where the backend answers handshakes by RFC 6455 and all else as it comes",
				Rule:  "A handshake is a GET of HTTP/1.1 or later with Upgrade: websocket and Connection: Upgrade (RFC 6455 section 4.2.1).",
				Why:   "Where gateway and backend do not agree whether it is a handshake, one of them reads messages as requests.",
			},
			run: func(e *Env) {
				e.Serve()
				c, s := e.handshake(edit)
				method, _, _ := strings.Cut(s, " ")
				r, err := c.ReadResponse(method)
				e.Must(err)
				if r.Status == 101 {
					e.Fail("no 101", "%q", r.Line)
				}
			},
		}
	}
	return []Case{
		{
			ID: "h1/upgrade/upgrade-not-forwarded", Rows: []int{165, 168, 169}, RFC: "9110", Section: "7.6.1", Level: Should,
			Title: "Upgrade of a request that is no handshake does not reach the backend",
			Text: Text{
				Sends: "handshakes with POST, of HTTP/1.0, without Connection: Upgrade, and with Upgrade: foo",
				Sees:  "each refused, or at the backend without Upgrade",
				Rule:  "Intermediaries should remove fields that speak of a connection, Upgrade among them, whether Connection names them or not.",
				Why:   "A backend that switches where the gateway does not leaves requests in a tunnel, and frames in HTTP.",
			},
			run: func(e *Env) {
				e.Serve()
				for _, edit := range []func(string) string{
					swap("GET ", "POST "), swap("HTTP/1.1", "HTTP/1.0"), swap("Connection: Upgrade\r\n", ""), swap("Upgrade: websocket", "Upgrade: foo"),
				} {
					c, _ := e.handshake(edit)
					_, err := c.ReadResponse("GET")
					e.Must(err)
				}
				for _, q := range e.Seen() {
					if q.Fields.Get("Upgrade") != "" {
						e.Fail("no Upgrade at the backend", "%q", q.Raw)
					}
				}
			},
		},
		ordinary("post", 165, "6455", "4.2.1", Must, "a POST is no handshake", "a handshake with POST", swap("GET ", "POST ")),
		ordinary("put", 165, "6455", "4.2.1", Must, "a PUT is no handshake", "a handshake with PUT", swap("GET ", "PUT ")),
		ordinary("head", 165, "6455", "4.2.1", Must, "a HEAD is no handshake", "a handshake with HEAD", swap("GET ", "HEAD ")),
		ordinary("http10", 165, "6455", "4.2.1", Must, "a request of HTTP/1.0 is no handshake", "a handshake of HTTP/1.0", swap("HTTP/1.1", "HTTP/1.0")),
		ordinary("no-connection", 168, "9110", "7.8", Must, "Upgrade without Connection: Upgrade is no handshake", "Upgrade: websocket without Connection", swap("Connection: Upgrade\r\n", "")),
		ordinary("connection-close", 168, "9110", "7.8", Must, "Upgrade with Connection: close is no handshake", "Upgrade: websocket with Connection: close", swap("Connection: Upgrade", "Connection: close")),
		ordinary("foo", 169, "9110", "7.8", May, "Upgrade: foo is no handshake and does not reach the backend", "Upgrade: foo", swap("Upgrade: websocket", "Upgrade: foo")),
		{
			ID: "h1/upgrade/version-12", Rows: []int{170}, RFC: "6455", Section: "4.2.2", Level: Must,
			Title: "version 12 is answered 426 with version 13 and Upgrade, and the connection is no tunnel",
			Text: Text{
				Sends: "a handshake with Sec-WebSocket-Version: 12; a backend that is asked answers 426",
				Sees:  "426 with Sec-WebSocket-Version: 13, Upgrade: websocket and Connection: Upgrade; a right handshake on the same connection, if it lives, opens a tunnel",
				Rule:  "A server that does not know the version answers with those that it knows; a 426 MUST have Upgrade (RFC 9110 section 15.5.22).",
				Why:   "Clients with several versions try the one that is named.",
			},
			run: versionTwelve,
		},
	}
}

func versionTwelve(e *Env) {
	c, _ := e.handshake(swap("Version: 13", "Version: 12"))
	meet := func(b *rawpeer.BackendConn) {
		h, err := b.ReadHead()
		if err == nil && h.Fields.Get("Sec-WebSocket-Version") == "13" {
			_ = b.Answer101(h)
			return
		}
		_ = b.Write([]byte("HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nContent-Length: 0\r\n\r\n"))
	}
	e.Behind(meet)
	e.Behind(meet)
	r, err := c.WantStatus("GET", 426)
	e.Must(err)
	if r.Fields.Get("Sec-WebSocket-Version") != "13" || !strings.EqualFold(r.Fields.Get("Upgrade"), "websocket") || !hasToken(r.Fields.Values("Connection"), "upgrade") {
		e.Fail("Sec-WebSocket-Version: 13, Upgrade: websocket, Connection: Upgrade", "%q", r.Fields)
	}
	if hasToken(r.Fields.Values("Connection"), "close") || c.WriteString(e.upgrade()) != nil {
		return
	}
	if r, err := c.ReadResponse("HEAD"); err == nil && r.Status != 101 {
		e.Fail("101 for a right handshake behind it", "%q", r.Line)
	}
}

var badKeys = []struct{ id, what, lines string }{
	{"no-key", "no key", ""},
	{"key-empty", "an empty key", "Sec-WebSocket-Key: \r\n"},
	{"key-15", "a key of 15 octets", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n"},
	{"key-17", "a key of 17 octets", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=\r\n"},
	{"key-no-base64", "a key that is no base64", "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n"},
	{"two-keys", "two keys", "Sec-WebSocket-Key: " + rawpeer.Key + "\r\nSec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n"},
}

func badKeyCases() []Case {
	const right = "Sec-WebSocket-Key: " + rawpeer.Key + "\r\n"
	var all []Case
	for _, x := range badKeys {
		all = append(all, Case{
			ID: "h1/upgrade/" + x.id, Rows: []int{166}, RFC: "6455", Section: "4.2.1", Level: Must,
			Title: "a handshake with " + x.what + " opens no tunnel where the backend refuses it",
			Text: Text{
				Sends: "a handshake with " + x.what + "; a backend that is asked answers 400",
				Sees:  "no 101",
				Rule:  "The key has to be there once and to decode to 16 octets. Where it does not the server stops and answers 400.",
				Why:   "A gateway that opens a tunnel where the backend has refused lets requests pass unseen behind it.",
			},
			run: func(e *Env) {
				c, _ := e.handshake(swap(right, x.lines))
				e.Behind(func(b *rawpeer.BackendConn) {
					_, _ = b.ReadHead()
					_ = b.Write(answer("400 Bad Request", ""))
				})
				r, err := c.ReadResponse("GET")
				e.Must(err)
				if r.Status/100 < 4 {
					e.Fail("a refusal", "%q", r.Line)
				}
			},
		})
	}
	return append(all, Case{
		ID: "h1/upgrade/bad-key-not-asked", Rows: []int{166}, RFC: "6455", Section: "4.2.1", Level: Product,
		Title: "handshakes without a right key are answered 400 without asking the backend",
		Text: Text{
			Sends: "handshakes with no key, an empty one, one of 15 and of 17 octets, one that is no base64, and two",
			Sees:  "400 for each; nothing at the backend",
			Rule:  "The gateway is the WebSocket server of its client.",
			Why:   "What no server may accept need not cost a backend anything.",
		},
		run: func(e *Env) {
			for _, x := range badKeys {
				c, _ := e.handshake(swap(right, x.lines))
				_, err := c.WantStatus("GET", 400)
				e.On(x.what, err)
			}
			e.Untouched()
		},
	})
}

// upgradeContent: handshakes with content, and what comes behind them.
func upgradeContent() []Case {
	content := func(id, title, fields, framed string) Case {
		return Case{
			ID: "h1/upgrade/" + id, Rows: []int{171}, RFC: "9112", Section: "6", Level: Must, Title: title,
			Text: Text{
				Sends: "a handshake with " + fields + " whose content is a request",
				Sees:  "a refusal; or the content read as content. The request in it reaches neither backend nor tunnel",
				Rule:  "Content is framed as for any request; what is switched begins behind it.",
				Why:   "A request that hides in the content of a handshake passes every rule of the gateway (CVE-2026-2833).",
			},
			run: func(e *Env) {
				e.Serve()
				hidden := "GET " + e.Path("smuggled") + " HTTP/1.1\r\nHost: a\r\n\r\n"
				c, _ := e.handshake(swap("\r\n\r\n", "\r\n"+strings.NewReplacer("{}", hidden, "LEN", fmt.Sprint(len(hidden)), "HEX", fmt.Sprintf("%x", len(hidden))).Replace(framed)))
				r, err := c.ReadResponse("GET")
				e.Must(err)
				if r.Status == 101 {
					c.Patience = e.Short()
					if err := c.WantBytes([]byte("GET ")); err == nil {
						e.Fail("content that stays out of the tunnel", "%q came back through it", "GET ")
					}
				}
				for _, q := range e.Seen() {
					if strings.Contains(q.Line, "smuggled") {
						e.Fail("no request out of the content", "%q at the backend", q.Line)
					}
				}
			},
		}
	}
	return []Case{
		content("content", "content of a handshake is not the tunnel's, and not a request", "Content-Length", "Content-Length: LEN\r\n\r\n{}"),
		content("chunked-content", "chunked content of a handshake is not the tunnel's, and not a request", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked\r\n\r\nHEX\r\n{}\r\n0\r\n\r\n"),
		{
			ID: "h1/upgrade/early-octets-wait", Rows: []int{174}, RFC: "9112", Section: "9.3.2", Level: Must,
			Title: "octets behind a handshake wait for the 101, and are the tunnel's after it",
			Text: Text{
				Sends: "a handshake and a GET in one segment; the backend answers 101 late",
				Sees:  "silence at the backend before its 101; then the octets of the GET, in the tunnel",
				Rule:  "Until the 101 they are the next request, which is not processed before this one is answered; after it they belong to the new protocol.",
				Why:   "A request that is sent on early is smuggled past the gateway.",
			},
			run: func(e *Env) {
				next := "GET " + e.Path("next") + " HTTP/1.1\r\nHost: a\r\n\r\n"
				c, _ := e.handshake(func(s string) string { return s + next })
				b, h := e.NextHead()
				e.fence()
				e.Must(b.WantSilence(e.Short()))
				e.Must(b.Answer101(h))
				_, err := c.WantStatus("GET", 101)
				e.Must(err)
				e.Must(b.WantBytes([]byte(next)))
			},
		},
		{
			ID: "h1/upgrade/early-octets-next-request", Rows: []int{174}, RFC: "9112", Section: "9.3.2", Level: Must,
			Title: "octets behind a handshake that is refused are the next request, or the connection ends",
			Text: Text{
				Sends: "a handshake and a GET in one segment; the backend answers 403",
				Sees:  "403; then the GET is answered as a request, or the connection ends",
				Rule:  "A refused handshake is an ordinary request; what follows is the next one.",
				Why:   "Octets that go to the backend after all are read there as a request that nobody has checked.",
			},
			run: func(e *Env) {
				c, _ := e.handshake(func(s string) string {
					return s + "GET " + e.Path("next") + " HTTP/1.1\r\nHost: a\r\n\r\n"
				})
				b, _ := e.NextHead()
				e.Must(b.Write(answer("403 Forbidden", "no")))
				_, err := c.WantStatus("GET", 403)
				e.Must(err)
				e.WantNothingMore(b)
				e.Serve()
				if r, err := c.ReadResponse("GET"); err == nil && r.Status != 200 {
					e.Fail("200 for the next request, or the end of the connection", "%q", r.Line)
				}
			},
		},
	}
}

// notSwitched: what a backend says in place of a right 101, to an HTTP/1.1 client.
func notSwitched() []Case {
	accept := acceptLine(rawpeer.Key)
	ordinary := func(id string, row int, rfc, section, title, octets string, status int) Case {
		return Case{
			ID: "h1/answer/" + id, Rows: []int{row}, RFC: rfc, Section: section, Level: Must, Title: title,
			Text: Text{
				Sends: fmt.Sprintf("a handshake that the backend answers %q; then an ordinary request on the same connection", octets),
				Sees:  fmt.Sprintf("%d with its content and nothing of an upgrade; the next request is answered as one, or the connection ends", status),
				Rule:  "Only a 101 switches. Any other answer is an ordinary one.",
				Why:   "A gateway that takes it for a switch sends the client's next requests unread to the backend (CVE-2024-23326).",
			},
			run: func(e *Env) {
				c, _ := e.handshake(func(s string) string { return s })
				b, _ := e.NextHead()
				e.Must(b.Write([]byte(octets)))
				_ = b.CloseWrite()
				r, err := c.WantStatus("GET", status)
				e.Must(err)
				if string(r.Body) != "body" || r.Fields.Get("Upgrade") != "" || hasToken(r.Fields.Values("Connection"), "upgrade") {
					e.Fail("an ordinary answer with its content", "%q %q", r.Fields, r.Body)
				}
				e.Serve()
				if c.WriteString("GET "+e.Path("next")+" HTTP/1.1\r\nHost: "+e.Authority()+"\r\n\r\n") != nil {
					return
				}
				if r, err := c.ReadResponse("GET"); err == nil && (r.Status != 200 || string(r.Body) != "ok") {
					e.Fail("an answer to the next request", "%q", r.Line)
				}
			},
		}
	}
	never := func(id string, row int, level Level, title, says string, r reply) Case {
		rfc, section := "6455", "4.1"
		return Case{
			ID: "h1/answer/" + id, Rows: []int{row}, RFC: rfc, Section: section, Level: level, Title: title,
			Text: Text{
				Sends: "a handshake that the backend answers with " + says,
				Sees:  "no 101: 502",
				Rule:  "A 101 counts only with the right Upgrade, Connection and Accept: the gateway is the backend's client.",
				Why:   "A 101 can be made to come from an address that an attacker chose, or from a cache; behind it requests pass unseen.",
			},
			run: func(e *Env) {
				c, _ := e.handshake(func(s string) string { return s })
				b, h := e.NextHead()
				e.Must(b.Write([]byte(r(h.Fields.Get("Sec-WebSocket-Key")) + "\r\n")))
				r, err := c.ReadResponse("HEAD")
				e.Must(err)
				if r.Status/100 != 5 {
					e.Fail("502", "%q", r.Line)
				}
				e.Must(b.WantEnded())
			},
		}
	}
	return []Case{
		ordinary("200", 227, "9110", "7.8", "a 200 with content is an ordinary answer, and the connection goes on", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody", 200),
		ordinary("200-chunked", 227, "9110", "7.8", "a chunked 200 is an ordinary answer, and the connection goes on", "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", 200),
		ordinary("200-dressed-up", 172, "9110", "7.8", "a 200 with all fields of a 101 is an ordinary answer without them", "HTTP/1.1 200 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+accept+"Connection: close\r\nContent-Length: 4\r\n\r\nbody", 200),
		ordinary("404", 172, "9110", "7.8", "a 404 is an ordinary answer, and the connection goes on", "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody", 404),
		never("bare-101", 173, Product, "a 101 without anything opens no tunnel", "a 101 without fields", func(string) string { return line101 }),
		never("101-without-accept", 173, Product, "a 101 without Accept opens no tunnel", "a 101 without Sec-WebSocket-Accept", func(string) string { return line101 + upgrade + connUp }),
		never("101-other-accept", 173, Product, "a 101 with the Accept of another key opens no tunnel", "a 101 with an Accept for another key than the backend got", func(string) string {
			return line101 + upgrade + connUp + acceptLine("BBBBBBBBBBBBBBBBBBBBBA==")
		}),
	}
}

// upgradeEnds: ends of HTTP/1.1 tunnels that part F does not have (rows 178, 180).
func upgradeEnds() []Case {
	why := "A peer that takes a crash for an orderly end believes that it has all of a message."
	overTLS := func(id, title, sends, sees string, run func(e *Env, c *rawpeer.H1, b *rawpeer.BackendConn)) Case {
		return Case{
			ID: "h1/end/" + id, Rows: []int{178}, RFC: "9112", Section: "9.8", Level: Must, Title: title,
			Text: Text{Sends: sends, Sees: sees, Rule: "An end of TLS is close_notify, then FIN; without it the end counts as cut.", Why: why},
			run: func(e *Env) {
				c := e.H1TLS()
				_, b := e.openH1(c)
				run(e, c, b)
			},
		}
	}
	return []Case{
		overTLS("tls-backend-first", "over TLS the backend's FIN is close_notify at the client", "the backend sends octets and FIN", "the octets and close_notify at the client; its answer and end at the backend", func(e *Env, c *rawpeer.H1, b *rawpeer.BackendConn) {
			e.Must(b.Write([]byte("last")))
			e.Must(b.CloseWrite())
			e.Must(c.WantBytes([]byte("last")))
			e.Must(c.WantFIN()) // io.EOF of crypto/tls: a bare FIN is io.ErrUnexpectedEOF
			e.Must(c.WriteString("answer"))
			e.Must(b.WantBytes([]byte("answer")))
			e.Must(c.CloseWrite())
			e.Must(b.WantFIN())
		}),
		overTLS("tls-client-first", "over TLS the client's close_notify is FIN at the backend, and the other direction goes on", "the client sends octets and close_notify, the backend answers", "octets and FIN at the backend, its answer at the client", func(e *Env, c *rawpeer.H1, b *rawpeer.BackendConn) {
			e.Must(c.WriteString("question"))
			e.Must(c.CloseWrite())
			e.Must(b.WantBytes([]byte("question")))
			e.Must(b.WantFIN())
			e.Must(b.Write([]byte("answer")))
			e.Must(c.WantBytes([]byte("answer")))
		}),
		{
			ID: "h1/end/tls-truncated", Rows: []int{180}, RFC: "6455", Section: "10.6", Level: Product,
			Title: "a FIN without close_notify ends the backend's connection by RST",
			Text:  Text{Sends: "FIN without close_notify in a tunnel by TLS", Sees: "a TCP RST at the backend", Rule: "Such an end may be an attacker's (RFC 9112 section 9.8): it is no orderly one.", Why: why},
			run: func(e *Env) {
				c := e.H1TLS()
				t, b := e.openH1(c)
				e.echo(t, b)
				e.Must(c.Conn().(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite())
				e.Must(b.WantRST())
			},
		},
		{
			ID: "h1/end/client-reset", Rows: []int{178}, Level: Product,
			Title: "the client's TCP RST is a TCP RST at the backend",
			Text:  Text{Sends: "a TCP RST from the client", Sees: "a TCP RST at the backend", Rule: "What is no orderly end does not become one on the way.", Why: why},
			run: func(e *Env) {
				t, b := e.Open()
				e.echo(t, b)
				e.Must(t.Reset())
				e.Must(b.WantRST())
			},
		},
		{
			ID: "h1/end/backend-reset", Rows: []int{178}, Level: Product,
			Title: "the backend's TCP RST is a TCP RST at the client",
			Text:  Text{Sends: "a TCP RST from the backend", Sees: "a TCP RST at the client", Rule: "What is no orderly end does not become one on the way.", Why: why},
			run: func(e *Env) {
				t, b := e.Open()
				e.echo(t, b)
				b.Reset()
				e.Must(t.WantReset())
			},
		},
	}
}
