package h1

import (
	"strings"

	"wsgate/bridge"
	"wsgate/internal/field"
	"wsgate/wskey"
)

// The codes of requests that the front answers itself.
const (
	codeBadRequest     = "bad-request"
	codeBadLineEnd     = "bad-line-end"
	codeBadField       = "bad-field"
	codeFolded         = "folded-field"
	codeTargetTooLong  = "target-too-long"
	codeFieldsTooLarge = "fields-too-large"
	codeHTTPVersion    = "http-version"
	codeBadTarget      = "bad-target"
	codePathDots       = "path-dots"
	codeBadHost        = "bad-host"
	codeBadLength      = "bad-content-length"
	codeBadCoding      = "bad-transfer-encoding"
	codeUnknownCoding  = "unknown-transfer-coding"
	codeBadChunk       = "bad-chunk"
	codeConnect        = "connect-not-supported"
	codeUpgradeMethod  = "upgrade-needs-get"
	codeUpgradeVersion = "upgrade-needs-http-1.1"
	codeUpgradeContent = "upgrade-with-content"
	codeBadKey         = "bad-websocket-key"
	codeMissingVersion = "missing-websocket-version"
	codeHeaderTimeout  = "header-timeout"
	codeBodyTimeout    = "body-timeout"
	codeHandlerFailed  = "handler-failed"
)

// request is a request head, checked. Its strings share the head.
type request struct {
	method    string
	path      string // origin-form, or "*"
	authority string // of the target if it has one, else of Host
	minor     byte   // of the HTTP version, 0 or 1
	all       bridge.Fields
	named     bridge.Fields // Connection lines if they name fields

	kind    framing
	length  int64
	close   bool // the connection ends after the answer
	expect  bool // 100-continue
	upgrade bool // asks for a WebSocket
	key     string
}

// wrong is a request that is answered by the front itself.
type wrong struct {
	status int
	code   string
	close  bool // framing is lost, or nothing behind it may be read as a request
}

// requestRules are the choices among what the RFCs leave open.
type requestRules struct {
	maxFields     int
	dots          bool // "." and ".." segments pass
	websocket     bool // Upgrade: websocket is served
	synthesizeKey bool
}

// headError turns an error of scanner or parseFields into an answer. The
// connection always ends: what follows a broken head is no request.
func headError(err error) *wrong {
	switch err {
	case errLongLine: // RFC 9112 section 3
		return &wrong{414, codeTargetTooLong, true}
	case errLongHead, errManyLines: // RFC 6585 section 5
		return &wrong{431, codeFieldsTooLarge, true}
	case errBareLF, errBareCR: // RFC 9112 section 2.2
		return &wrong{400, codeBadLineEnd, true}
	case errFold: // RFC 9112 section 5.2
		return &wrong{400, codeFolded, true}
	case errName, errColon, errValue: // RFC 9112 section 5.1, RFC 9110 section 5.5
		return &wrong{400, codeBadField, true}
	}
	return &wrong{400, codeBadRequest, true}
}

// parseRequest reads a complete head as the scanner found it. What it returns
// beside a *wrong is as far as it came.
func parseRequest(head string, rules *requestRules) (r request, w *wrong) {
	i := strings.IndexByte(head, '\n')
	line, rest := head[:i-1], head[i+1:]
	target, w := r.startLine(line)
	if w != nil {
		return r, w
	}
	var err error
	if r.all, err = parseFields(rest, fieldRules{max: rules.maxFields}); err != nil {
		return r, headError(err)
	}
	if w := r.contentFraming(); w != nil {
		return r, w
	}
	r.close = r.minor == 0 || r.all.HasToken("Connection", "close") // RFC 9112 section 9.3
	r.named = namingFields(r.all)
	if w := r.setTarget(target, rules); w != nil {
		return r, w
	}
	// RFC 9110 section 10.1.1: ignored in HTTP/1.0.
	r.expect = r.minor > 0 && r.all.HasToken("Expect", "100-continue")
	w = r.setUpgrade(rules)
	return r, w
}

// wrong refuses a request whose framing is sound: with no content to come the
// connection lives on (RFC 9112 section 9.3).
func (r *request) wrong(status int, code string) *wrong {
	return &wrong{status, code, r.close || r.kind != frameNone}
}

// startLine reads method SP request-target SP HTTP-version (RFC 9112 section 3).
func (r *request) startLine(line string) (target string, w *wrong) {
	method, rest, ok := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || target == "" || !field.Token(method) ||
		len(version) != len("HTTP/1.1") || version[:5] != "HTTP/" || version[6] != '.' || !isDigit(version[5]) || !isDigit(version[7]) {
		return "", &wrong{400, codeBadRequest, true}
	}
	r.method = method
	if version[5] != '1' { // RFC 9110 section 15.6.6
		return "", &wrong{505, codeHTTPVersion, true}
	}
	// RFC 9110 section 2.5: a higher minor version is served as the highest known.
	if version[7] != '0' {
		r.minor = 1
	}
	return target, nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// setTarget finds authority and path (RFC 9112 section 3.2).
func (r *request) setTarget(target string, rules *requestRules) *wrong {
	if r.method == "CONNECT" {
		// RFC 9112 section 3.2.3: this is no proxy. What follows a CONNECT
		// may be meant for elsewhere, so nothing more is read.
		return &wrong{501, codeConnect, true}
	}
	// RFC 9112 section 3.2: exactly one valid Host, in HTTP/1.0 at most one.
	hosts := r.all.Count("Host")
	r.authority = r.all.Get("Host")
	if hosts > 1 || hosts == 0 && r.minor > 0 || hosts == 1 && !field.Authority(r.authority) {
		return &wrong{400, codeBadHost, true}
	}
	r.path = target
	switch {
	case target == "*": // section 3.2.4
		if r.method != "OPTIONS" {
			return r.wrong(400, codeBadTarget)
		}
		return nil
	case target[0] != '/': // section 3.2.2: the target's host wins over Host
		authority, path, ok := absoluteForm(target)
		if !ok || !field.Authority(authority) {
			return r.wrong(400, codeBadTarget)
		}
		r.authority = authority
		if path == "" {
			path = "/"
			if r.method == "OPTIONS" { // section 3.2.4
				r.path = "*"
				return nil
			}
		}
		if path[0] == '?' {
			path = "/" + path
		}
		r.path = path
	}
	switch {
	case field.Path(r.path, true) != field.PathOK:
		return r.wrong(400, codeBadTarget)
	case !rules.dots && field.Path(r.path, false) != field.PathOK:
		return r.wrong(400, codePathDots)
	}
	return nil
}

// absoluteForm splits the URI of a request target. The WebSocket schemes stand
// in the targets of some clients beside those of HTTP.
func absoluteForm(target string) (authority, path string, ok bool) {
	scheme, rest, ok := strings.Cut(target, "://")
	if !ok || !field.Same(scheme, "http") && !field.Same(scheme, "https") &&
		!field.Same(scheme, "ws") && !field.Same(scheme, "wss") {
		return "", "", false
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		return rest[:i], rest[i:], true
	}
	return rest, "", true
}

// contentFraming says how long the content is (RFC 9112 section 6.3). Every
// doubt ends the connection.
func (r *request) contentFraming() *wrong {
	lengths := r.all.Values("Content-Length")
	switch coding := transferCoding(r.all); coding {
	case codingNone:
	default:
		// Section 6.1: HTTP/1.0 knows no Transfer-Encoding; and a message
		// with both fields ought to be handled as an error.
		if r.minor == 0 || lengths != nil || coding == codingFaulty {
			return &wrong{400, codeBadCoding, true}
		}
		if coding == codingUnknown {
			return &wrong{501, codeUnknownCoding, true}
		}
		r.kind, r.length = frameChunked, -1
		return nil
	}
	if lengths == nil {
		return nil
	}
	n, ok := field.ContentLength(lengths) // items 5 and 6
	if !ok {
		return &wrong{400, codeBadLength, true}
	}
	if n > 0 {
		r.kind, r.length = frameLength, n
	}
	return nil
}

// setUpgrade decides whether this is an opening handshake, by RFC 9110 section
// 7.8 and RFC 6455 section 4.2.1. Any other upgrade is ignored.
func (r *request) setUpgrade(rules *requestRules) *wrong {
	if !rules.websocket || !r.all.HasToken("Connection", "upgrade") || !r.all.HasToken("Upgrade", "websocket") {
		return nil
	}
	if r.minor == 0 { // RFC 6455 section 4.2.1 item 1
		return r.wrong(400, codeUpgradeVersion)
	}
	if r.method != "GET" {
		return r.wrong(400, codeUpgradeMethod)
	}
	if r.kind != frameNone {
		// RFC 9112 section 6: it would stand between the handshake and the
		// tunnel, and who reads it differently reads a request in it.
		return r.wrong(400, codeUpgradeContent)
	}
	switch r.all.Count("Sec-WebSocket-Key") { // RFC 6455 section 4.2.1 item 5
	case 0:
		if !rules.synthesizeKey {
			return r.wrong(400, codeBadKey)
		}
	case 1:
		if r.key = r.all.Get("Sec-WebSocket-Key"); !wskey.Valid(r.key) {
			return r.wrong(400, codeBadKey)
		}
	default:
		return r.wrong(400, codeBadKey)
	}
	if r.all.Count("Sec-WebSocket-Version") == 0 { // RFC 6455 section 4.2.1 item 6
		return r.wrong(400, codeMissingVersion)
	}
	r.upgrade = true
	return nil
}

// fields returns the end-to-end fields but Host. It reuses the memory of all
// and is called once.
func (r *request) fields() bridge.Fields {
	out := r.all[:0]
	for _, x := range r.all {
		if field.HopByHop(x.Name) || field.Same(x.Name, "Host") || r.named.HasToken("Connection", x.Name) ||
			r.upgrade && endsAtHandshake(x.Name) {
			continue
		}
		out = append(out, x)
	}
	r.all = nil
	return out
}

// endsAtHandshake names what of a handshake is the front's own affair.
func endsAtHandshake(name string) bool {
	switch len(name) {
	case 6:
		return field.Same(name, "Expect")
	case 14:
		return field.Same(name, "Content-Length")
	case 17:
		return field.Same(name, "Sec-WebSocket-Key")
	}
	return false
}
