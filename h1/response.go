package h1

import (
	"errors"
	"strings"

	"wsgate/bridge"
	"wsgate/internal/field"
	"wsgate/wskey"
)

var (
	errVersion = errors.New("HTTP version is not 1.x")
	errStatus  = errors.New("malformed status code")
	errFraming = errors.New("ambiguous content length")
)

// response is the head of a backend's answer.
type response struct {
	minor  byte // of the HTTP version
	status int
	fields bridge.Fields
}

// parseResponse reads a complete head as the scanner found it.
func parseResponse(head string, maxFields int) (response, error) {
	var r response
	i := strings.IndexByte(head, '\n')
	line, rest := head[:i-1], head[i+1:]
	// RFC 9112 section 4: HTTP-version SP status-code SP [ reason-phrase ].
	// The second SP is missing from servers without a reason; that is taken.
	if len(line) < len("HTTP/1.1 200") || line[:5] != "HTTP/" || line[6] != '.' || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return r, errStart
	}
	if line[5] != '1' || line[7] < '0' || line[7] > '9' {
		return r, errVersion
	}
	r.minor = line[7] - '0'
	for _, c := range []byte(line[9:12]) {
		if c < '0' || c > '9' {
			return r, errStatus
		}
		r.status = r.status*10 + int(c-'0')
	}
	// RFC 9110 section 15: codes outside 100 to 599 are invalid.
	if r.status < 100 || r.status > 599 {
		return r, errStatus
	}
	if len(line) > 13 && !field.Value(field.Trim(line[13:])) {
		return r, errStart
	}
	var err error
	r.fields, err = parseFields(rest, fieldRules{answer: true, max: maxFields})
	return r, err
}

// framing says how long the content of a final answer to GET is, by the list
// of RFC 9112 section 6.3.
func (r *response) framing() (framing, int64, error) {
	if r.status == 204 || r.status == 304 { // item 1
		return frameNone, 0, nil
	}
	lengths := r.fields.Values("Content-Length")
	switch transferCoding(r.fields) {
	case codingChunked:
		// Item 3: both fields are an attempt at response splitting. Section
		// 6.1: HTTP/1.0 knows no Transfer-Encoding, its framing is faulty.
		if lengths != nil || r.minor == 0 {
			return 0, 0, errFraming
		}
		return frameChunked, -1, nil
	case codingUnknown, codingFaulty: // item 4; nothing is guessed
		return 0, 0, errFraming
	}
	if lengths == nil { // item 8
		return frameClose, -1, nil
	}
	n, ok := field.ContentLength(lengths) // items 5 and 6
	if !ok {
		return 0, 0, errFraming
	}
	if n == 0 {
		return frameNone, 0, nil
	}
	return frameLength, n, nil
}

// endToEnd returns f without what an intermediary removes (RFC 9110 section
// 7.6.1): hop-by-hop fields, those named in Connection, and the framing of
// this connection. It reuses f's memory.
func endToEnd(f bridge.Fields) bridge.Fields {
	named := namingFields(f)
	out := f[:0]
	for _, x := range f {
		if !hopField(x.Name) && !named.HasToken("Connection", x.Name) {
			out = append(out, x)
		}
	}
	return out
}

// namingFields returns a copy of the Connection fields of f if they name any
// field that is not gone anyway. Nearly always they do not, and it is nil.
func namingFields(f bridge.Fields) (named bridge.Fields) {
	needed := false
	f.Tokens("Connection", func(t string) bool {
		needed = !field.HopByHop(t) && !field.Same(t, "close")
		return !needed
	})
	for i := 0; needed && i < len(f); i++ {
		if field.Same(f[i].Name, "Connection") {
			named = append(named, f[i])
		}
	}
	return named
}

// hopField reports whether a field of an answer ends at this hop.
func hopField(name string) bool {
	switch len(name) {
	case 7:
		if field.Same(name, "Trailer") { // trailers are not passed on
			return true
		}
	case 14:
		if field.Same(name, "Content-Length") {
			return true
		}
	}
	return field.HopByHop(name)
}

// The codes of a 101 that opens no tunnel.
const (
	codeBadVersion     = "bad-version"
	codeBadUpgrade     = "bad-upgrade"
	codeBadConnection  = "bad-connection"
	codeNoAccept       = "no-accept"
	codeTwoAccepts     = "two-accepts"
	codeBadAccept      = "bad-accept"
	codeBadSubprotocol = "bad-subprotocol"
	codeBadExtension   = "bad-extension"
)

// gate judges a 101 against what was sent: the fields of the request and its
// key (RFC 6455 section 4.1, the client's requirements). It returns "" or the
// code of the first rule that is broken.
func gate(r *response, sent bridge.Fields, key string) string {
	if r.minor == 0 { // RFC 9110 section 15.2: HTTP/1.0 has no 1xx
		return codeBadVersion
	}
	if !upgradesToWebSocket(r.fields) {
		return codeBadUpgrade
	}
	if !r.fields.HasToken("Connection", "upgrade") { // item 3
		return codeBadConnection
	}
	switch r.fields.Count("Sec-WebSocket-Accept") { // item 4
	case 0:
		return codeNoAccept
	case 1:
	default:
		return codeTwoAccepts
	}
	if !wskey.Match(r.fields.Get("Sec-WebSocket-Accept"), key) {
		return codeBadAccept
	}
	if !extensionsOffered(r.fields, sent) {
		return codeBadExtension
	}
	if !subprotocolOffered(r.fields, sent) {
		return codeBadSubprotocol
	}
	return ""
}

// upgradesToWebSocket: RFC 6455 section 4.1 client item 2, the one token
// "websocket" in any letter case.
func upgradesToWebSocket(f bridge.Fields) bool {
	n, ok := 0, false
	f.Tokens("Upgrade", func(t string) bool {
		n++
		ok = field.Same(t, "websocket")
		return true
	})
	return n == 1 && ok
}

// extensionsOffered: RFC 6455 section 4.1 client item 5, no extension that was
// not offered. Parameters are the peers' affair.
func extensionsOffered(got, sent bridge.Fields) bool {
	for _, x := range got {
		if !field.Same(x.Name, "Sec-WebSocket-Extensions") {
			continue
		}
		for name := range extensionNames(x.Value) {
			if !offersExtension(sent, name) {
				return false
			}
		}
	}
	return true
}

func offersExtension(sent bridge.Fields, want string) bool {
	for _, x := range sent {
		if !field.Same(x.Name, "Sec-WebSocket-Extensions") {
			continue
		}
		for name := range extensionNames(x.Value) {
			if name == want {
				return true
			}
		}
	}
	return false
}

// extensionNames yields the name of each element of an extension list
// (RFC 6455 section 9.1). A comma or semicolon in a quoted parameter is no
// separator.
func extensionNames(v string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for v != "" {
			var item string
			item, v = cutElement(v)
			name, _, _ := strings.Cut(item, ";")
			if name = field.Trim(name); name != "" && !yield(name) {
				return
			}
		}
	}
}

// cutElement cuts v at the first comma that is not inside a quoted string
// (RFC 9110 section 5.6.4).
func cutElement(v string) (item, rest string) {
	quoted := false
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return v[:i], v[i+1:]
		}
	}
	return v, ""
}

// subprotocolOffered: RFC 6455 section 4.1 client item 6 and section 4.2.2 item
// 5, at most one subprotocol, and only one that was offered, letter by letter.
func subprotocolOffered(got, sent bridge.Fields) bool {
	switch got.Count("Sec-WebSocket-Protocol") {
	case 0:
		return true
	case 1:
	default:
		return false
	}
	want, ok := got.Get("Sec-WebSocket-Protocol"), false
	sent.Tokens("Sec-WebSocket-Protocol", func(t string) bool {
		ok = t == want
		return !ok
	})
	return ok && want != ""
}
