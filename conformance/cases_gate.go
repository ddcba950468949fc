package conformance

import (
	"slices"
	"strings"

	"wsgate/internal/rawpeer"
)

// gateCases are the answers of part D and E that open a tunnel or must not. They
// are what a client of RFC 6455 section 4.1 checks, and the gateway is one.
func gateCases() []Case {
	return ofRows(map[string]int{
		"accept-missing": 79, "accept-other-key": 80, "accept-letter-case": 81, "accept-twice": 83,
		"upgrade-missing": 84, "upgrade-foo": 84, "upgrade-list": 84, "connection-missing": 86, "connection-close": 86,
		"200": 91, "200-dressed-up": 91, "204": 92, "206": 92, "226": 92,
	}, slices.Concat(chosenWrongly(), acceptCases(), upgradeCases(), falseOpenCases(), malformedAnswers()))
}

// reply is an answer of the backend to a handshake with key.
type reply func(key string) string

const (
	line101  = "HTTP/1.1 101 Switching Protocols\r\n"
	upgrade  = "Upgrade: websocket\r\n"
	connUp   = "Connection: Upgrade\r\n"
	offerAll = "permessage-deflate"
)

func acceptLine(key string) string { return "Sec-WebSocket-Accept: " + rawpeer.AcceptFor(key) + "\r\n" }

// right is a right 101 without its empty line.
func right(key string) string { return line101 + upgrade + connUp + acceptLine(key) }

func rightAnd(more string) reply { return func(key string) string { return right(key) + more } }

// gate is a case of one answer.
type gate struct {
	id, title string
	says      string // what the backend answers
	reply     reply
}

// gates makes cases of answers; opens says what has to come of them.
func gates(base Case, opens bool, all ...gate) []Case {
	base.Text.Sees = "a 5xx, or a reset, and no tunnel; the backend's connection ends"
	if opens {
		base.Text.Sees = "200, and octets pass both ways"
	}
	cases := make([]Case, len(all))
	for i, g := range all {
		c := base
		c.ID = "h2/answer/" + g.id
		c.Title = g.title
		c.Text.Sends = "an extended CONNECT that the backend answers with " + g.says
		c.run = func(e *Env) { e.gate(g.reply, opens) }
		cases[i] = c
	}
	return cases
}

// gate plays a handshake up to the backend's answer and judges what comes of it.
func (e *Env) gate(r reply, opens bool) {
	m := e.Mux()
	s := m.Send(e.connect(m, "sec-websocket-protocol", "chat, superchat", "sec-websocket-extensions", offerAll), false)
	b := e.nextOr(s)
	h, err := b.ReadHead()
	e.Must(err)
	octets := r(h.Fields.Get("Sec-WebSocket-Key"))
	if !strings.Contains(octets, "\r\n\r\n") {
		octets += "\r\n"
	}
	_ = b.Write([]byte(octets)) // it may be refused in the middle
	if opens {
		_, err := s.WantStatus(200)
		e.Must(err)
		e.echo(s, b)
		return
	}
	a, err := s.Answer()
	e.Must(err)
	if a.Open() {
		e.Fail("no tunnel: 502", "%v", a)
	}
	if a = e.whole(s); a.Status/100 != 5 && a.Reset == "" || a.Status != 0 && !a.End {
		e.Fail("502, complete", "%v", a)
	}
	if a.Status != 502 {
		e.Note("not 502, but %v", a)
	}
	e.Must(b.WantEnded())
}

func chosenWrongly() []Case {
	base := Case{
		RFC: "6455", Section: "4.1", Level: Must,
		Text: Text{
			Rule: "A client fails a handshake whose answer names a subprotocol that it did not offer, or an extension that it did not offer. The gateway is the backend's client.",
			Why:  "The client library at the other end takes the choice for its own and speaks what nobody agreed on.",
		},
	}
	one, two, three := base, base, base
	one.Rows, two.Rows, three.Rows = []int{65}, []int{66}, []int{67}
	two.Section = "4.2.2"
	return slices.Concat(
		gates(
			one, false,
			gate{"subprotocol-not-offered", "a subprotocol that was not offered fails the handshake", "a subprotocol that was not offered", rightAnd("Sec-WebSocket-Protocol: other\r\n")},
			gate{"subprotocol-letter-case", "a subprotocol in other letter case than offered fails the handshake", "Chat where chat was offered", rightAnd("Sec-WebSocket-Protocol: Chat\r\n")},
		),
		gates(
			two, false,
			gate{"subprotocol-empty", "an empty subprotocol fails the handshake", "an empty Sec-WebSocket-Protocol", rightAnd("Sec-WebSocket-Protocol: \r\n")},
			gate{"subprotocol-twice", "two subprotocols in two lines fail the handshake", "two Sec-WebSocket-Protocol lines", rightAnd("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n")},
			gate{"subprotocol-list", "a list of subprotocols fails the handshake", "Sec-WebSocket-Protocol: chat, superchat", rightAnd("Sec-WebSocket-Protocol: chat, superchat\r\n")},
		),
		gates(
			three, false,
			gate{"extension-not-offered", "an extension that was not offered fails the handshake", "an extension that was not offered", rightAnd("Sec-WebSocket-Extensions: x-foo\r\n")},
		),
	)
}

// otherCase turns the letter case of all letters round.
func otherCase(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z':
			return c - 32
		case 'A' <= c && c <= 'Z':
			return c + 32
		}
		return c
	}, s)
}

func acceptCases() []Case {
	bad := Case{
		RFC: "6455", Section: "4.1", Level: Must, Rows: []int{79, 80, 81, 83},
		Text: Text{
			Rule: "Sec-WebSocket-Accept has to be there once, and to be the base64 of the SHA-1 of the key and the GUID: base64 knows letter case.",
			Why:  "A 101 without the right Accept came from something that is no WebSocket server, say an address that an attacker chose, or a cache.",
		},
	}
	good := bad
	good.Rows = []int{82}
	good.Text.Rule = "Leading and trailing whitespace of the value is ignored."
	good.Text.Why = "Servers of all kinds write their fields by hand."
	without := func(key string) string { return line101 + upgrade + connUp }
	return slices.Concat(
		gates(
			bad, false,
			gate{"accept-missing", "a 101 without Accept opens no tunnel", "a 101 without Sec-WebSocket-Accept", without},
			gate{"accept-other-key", "a 101 with the Accept of another key opens no tunnel", "a 101 with the Accept of another key", func(string) string { return right(rawpeer.Key) }},
			gate{"accept-letter-case", "a 101 whose Accept is right but for letter case opens no tunnel", "a 101 with the right Accept in other letter case", func(key string) string {
				return line101 + upgrade + connUp + "Sec-WebSocket-Accept: " + otherCase(rawpeer.AcceptFor(key)) + "\r\n"
			}},
			gate{"accept-twice", "a 101 with two Accepts, the second wrong, opens no tunnel", "a 101 with a right and a wrong Accept", func(key string) string { return right(key) + acceptLine(rawpeer.Key) }},
		),
		gates(good, true, gate{"accept-spaces", "an Accept between spaces is right", "a 101 whose Accept stands between spaces and tabs", func(key string) string {
			return line101 + upgrade + connUp + "Sec-WebSocket-Accept:  \t" + rawpeer.AcceptFor(key) + " \t\r\n"
		}}),
	)
}

func upgradeCases() []Case {
	bad := Case{
		RFC: "6455", Section: "4.1", Level: Must, Rows: []int{84, 86},
		Text: Text{
			Rule: "A 101 has to have Upgrade with the value websocket, and Connection with the token Upgrade.",
			Why:  "A 101 without them switched to something else, or to nothing.",
		},
	}
	good := bad
	good.Rows = []int{85}
	good.Text = Text{
		Rule: "Both compare without regard to letter case, and Connection is a list.",
		Why:  "Old servers write WebSocket, and keep-alive in front.",
	}
	with := func(lines string) reply { return func(key string) string { return line101 + lines + acceptLine(key) } }
	return slices.Concat(
		gates(
			bad, false,
			gate{"upgrade-missing", "a 101 without Upgrade opens no tunnel", "a 101 without Upgrade", with(connUp)},
			gate{"upgrade-foo", "a 101 that switches to something else opens no tunnel", "a 101 with Upgrade: foo", with("Upgrade: foo\r\n" + connUp)},
			gate{"upgrade-list", "a 101 that switches to a list opens no tunnel", "a 101 with Upgrade: websocket, foo", with("Upgrade: websocket, foo\r\n" + connUp)},
			gate{"connection-missing", "a 101 without Connection opens no tunnel", "a 101 without Connection", with(upgrade)},
			gate{"connection-close", "a 101 with Connection: close alone opens no tunnel", "a 101 with Connection: close", with(upgrade + "Connection: close\r\n")},
		),
		gates(good, true, gate{
			"upgrade-letter-case", "Upgrade and Connection compare without regard to case, Connection as a list",
			"a 101 with Upgrade: WebSocket and Connection: keep-alive, UpGrade", with("Upgrade: WebSocket\r\nConnection: keep-alive, UpGrade\r\n"),
		}),
	)
}

func falseOpenCases() []Case {
	base := Case{
		RFC: "9110", Section: "9.3.6", Level: Must, Rows: []int{91, 92},
		Text: Text{
			Rule: "Any 2xx to CONNECT means that the tunnel is open. Where the backend did not switch there is none, so that its 2xx has to become an error.",
			Why:  "The false open: a page fires onopen on a login page's HTML and then waits for ever.",
		},
	}
	return gates(
		base, false,
		gate{"200", "a backend's 200 does not open a tunnel", "200 and a page", func(string) string {
			return "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: 4\r\n\r\npage"
		}},
		gate{"200-dressed-up", "a 200 with all fields of a right 101 does not open a tunnel", "200 with Upgrade, Connection and the right Accept", func(key string) string {
			return strings.Replace(right(key), "101", "200", 1) + "Connection: close\r\nContent-Length: 0\r\n"
		}},
		gate{"204", "a backend's 204 does not open a tunnel", "204", func(string) string { return "HTTP/1.1 204 No Content\r\nConnection: close\r\n" }},
		gate{"206", "a backend's 206 does not open a tunnel", "206", func(string) string {
			return "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: 0\r\n"
		}},
		gate{"226", "a backend's 226 does not open a tunnel", "226", func(string) string { return "HTTP/1.1 226 IM Used\r\nConnection: close\r\nContent-Length: 0\r\n" }},
	)
}

// malformedAnswers: heads that no client can trust, and those that it has to bear.
func malformedAnswers() []Case {
	large := Case{
		RFC: "9112", Section: "3", Level: DoS, Rows: []int{100},
		Text: Text{
			Rule: "A recipient bounds what it takes in for a head (RFC 9110 section 5.4).",
			Why:  "A broken backend must not take the gateway's memory, nor its other tunnels.",
		},
	}
	many := large
	many.Level = Product
	space := Case{
		RFC: "9112", Section: "5.1", Level: Must, Rows: []int{100},
		Text: Text{
			Rule: "A proxy removes whitespace between a field name and its colon from a response.",
			Why:  "Old servers send it; the field is there all the same.",
		},
	}
	fold := Case{
		ID: "h2/answer/obs-fold", RFC: "9112", Section: "5.2", Level: Must, Rows: []int{100},
		Title: "a folded line of a 101 is refused or unfolded, never passed on",
		Text: Text{
			Sends: "an extended CONNECT that the backend answers with a right 101 and a folded line",
			Sees:  "a 5xx; or 200 whose x-fold has a space in place of the fold",
			Rule:  "A proxy that receives a folded line in a response discards the message with 502, or replaces the fold by SP.",
			Why:   "A raw fold in HTTP/2 is a malformed answer that ends the stream at the client.",
		},
		run: func(e *Env) {
			m := e.Mux()
			s := m.Send(e.connect(m), false)
			b := e.nextOr(s)
			h, err := b.ReadHead()
			e.Must(err)
			e.Must(b.Write([]byte(right(h.Fields.Get("Sec-WebSocket-Key")) + "X-Fold: a\r\n b\r\n\r\n")))
			a, err := s.Answer()
			e.Must(err)
			if a.Open() && strings.Join(strings.Fields(a.Head.Get("x-fold")), " ") != "a b" || strings.ContainsAny(a.Head.Get("x-fold"), "\r\n") || !a.Open() && a.Status/100 != 5 && a.Reset == "" {
				e.Fail("502, or x-fold: a b", "%v, x-fold %q", a, a.Head.Get("x-fold"))
			}
		},
	}
	endless := large
	endless.ID, endless.Title = "h2/answer/endless-head", "an answer whose head does not end is given up"
	endless.Text.Sends = "an extended CONNECT that the backend answers with a 101 and field lines without end, up to 16 MiB"
	endless.Text.Sees = "a 5xx or a reset, and the end of the backend's connection"
	endless.run = endlessHead
	return slices.Concat(
		[]Case{fold, endless},
		gates(many, false, gate{"500-fields", "a 101 with 500 fields is refused", "a right 101 with 500 fields", rightAnd(strings.Repeat("X: y\r\n", 500))}),
		gates(space, true, gate{"space-before-colon", "a space before a colon of a 101 is removed", `a right 101 with a field "X-Space : y"`, rightAnd("X-Space : y\r\n")}),
	)
}

func endlessHead(e *Env) {
	m := e.Mux()
	s := m.Send(e.connect(m), false)
	b := e.nextOr(s)
	h, err := b.ReadHead()
	e.Must(err)
	e.Must(b.Write([]byte(right(h.Fields.Get("Sec-WebSocket-Key")))))
	line := []byte(strings.Repeat("X-Long: "+strings.Repeat("y", 1000)+"\r\n", 64))
	for sent := 0; sent < 16<<20; sent += len(line) {
		if err = b.Write(line); err != nil {
			break
		}
	}
	if a := e.whole(s); a.Status/100 != 5 && a.Reset == "" {
		e.Fail("a 5xx, or a reset", "%v", a)
	}
	e.Must(b.WantEnded())
}
