package h2

import (
	"strings"

	"wsgate/internal/field"
)

// pseudo fields of a request (RFC 9113 section 8.3.1, RFC 8441 section 4).
const (
	pMethod = 1 << iota
	pScheme
	pAuthority
	pPath
	pProtocol
)

// request is a decoded head. It refers to the shard's scratch and is used up
// before the next header block.
type request struct {
	method, scheme, authority, path, protocol string

	have   uint8
	hosts  int
	host   string
	fields []headerField // the regular ones
	length int64         // Content-Length, -1 if there is none
	keys   int           // Sec-WebSocket-Key fields
	key    string
	crumbs int // cookie fields
}

// parseRequest sorts a header section. The string says why it is malformed, ""
// if it is not (RFC 9113 section 8.1.1).
func parseRequest(fields []headerField) (q request, malformed string) {
	i := 0
	for ; i < len(fields) && strings.HasPrefix(fields[i].Name, ":"); i++ {
		if why := q.pseudo(fields[i].Name, fields[i].Value); why != "" {
			return q, why
		}
	}
	q.fields = fields[i:]
	q.length = -1
	for i := range q.fields {
		if why := q.regular(q.fields[i].Name, q.fields[i].Value); why != "" {
			return q, why
		}
	}
	return q, q.whole()
}

// pseudo takes one pseudo-header field (RFC 9113 section 8.3).
func (q *request) pseudo(name, value string) string {
	var bit uint8
	var to *string
	switch name {
	case ":method":
		bit, to = pMethod, &q.method
	case ":scheme":
		bit, to = pScheme, &q.scheme
	case ":authority":
		bit, to = pAuthority, &q.authority
	case ":path":
		bit, to = pPath, &q.path
	case ":protocol":
		bit, to = pProtocol, &q.protocol
	default:
		return "unknown pseudo-header field"
	}
	if q.have&bit != 0 {
		return "pseudo-header field twice"
	}
	q.have |= bit
	*to = value
	if !field.Value(value) {
		return "pseudo-header field with a forbidden octet"
	}
	return ""
}

// regular takes one field (RFC 9113 sections 8.2.1 and 8.2.2).
func (q *request) regular(name, value string) string {
	if !field.LowerToken(name) {
		if strings.HasPrefix(name, ":") {
			return "pseudo-header field after a regular field" // RFC 9113 section 8.3
		}
		return "field name is not a lower case token"
	}
	if !field.Value(value) {
		return "field value with a forbidden octet"
	}
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return "connection-specific field" // RFC 9113 section 8.2.2
	case "te":
		if !strings.EqualFold(value, "trailers") {
			return "TE is not trailers"
		}
	case "host":
		q.hosts++
		q.host = value
	case "cookie":
		q.crumbs++
	case "sec-websocket-key":
		q.keys++
		q.key = value
	case "content-length":
		// RFC 9110 section 8.6: equal repeats are one.
		n, ok := field.ContentLength([]string{value})
		if !ok || q.length >= 0 && q.length != n {
			return "invalid Content-Length"
		}
		q.length = n
	}
	return ""
}

// whole judges the pseudo-header fields together.
func (q *request) whole() string {
	if !field.Token(q.method) {
		return "no method, or not a token"
	}
	if q.have&pAuthority != 0 && !field.Authority(q.authority) {
		return "malformed :authority"
	}
	if q.hosts > 1 {
		return "host twice"
	}
	if q.hosts == 1 && !field.Authority(q.host) {
		return "malformed host"
	}
	if q.method == "CONNECT" && q.have&pProtocol == 0 {
		// RFC 9113 section 8.5.
		if q.have&(pScheme|pPath) != 0 || q.have&pAuthority == 0 {
			return "CONNECT needs :authority alone"
		}
		return ""
	}
	if why := q.target(); why != "" {
		return why
	}
	// RFC 9113 section 8.3.1.
	if q.hosts == 1 && q.have&pAuthority != 0 && !field.SameAuthority(q.authority, q.host, q.scheme) {
		return "host differs from :authority"
	}
	if q.have&pProtocol != 0 {
		switch {
		case q.method != "CONNECT":
			return ":protocol without CONNECT" // RFC 8441 section 4
		case q.have&pAuthority == 0:
			return "extended CONNECT without :authority"
		case !field.Token(q.protocol):
			return ":protocol is not a token"
		}
	} else if q.have&pAuthority == 0 && q.hosts == 0 {
		return "neither :authority nor host"
	}
	return ""
}

// target judges :scheme and :path.
func (q *request) target() string {
	if q.have&pScheme == 0 || q.have&pPath == 0 {
		return "no :scheme or no :path"
	}
	if strings.EqualFold(q.scheme, "ws") || strings.EqualFold(q.scheme, "wss") {
		return ":scheme of a WebSocket URI" // RFC 8441 section 5 wants http or https
	}
	if !schemeSyntax(q.scheme) {
		return "malformed :scheme"
	}
	if q.path == "*" && q.method == "OPTIONS" {
		return ""
	}
	if field.Path(q.path, true) == field.PathMalformed {
		return "malformed :path"
	}
	return ""
}

// schemeSyntax is RFC 3986 section 3.1.
func schemeSyntax(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		if 'a' <= c && c <= 'z' || i > 0 && ('0' <= s[i] && s[i] <= '9' || strings.IndexByte("+-.", s[i]) >= 0) {
			continue
		}
		return false
	}
	return s != ""
}

// cookie joins the crumbs (RFC 9113 section 8.2.3).
func (q *request) cookie() string {
	n := 0
	for i := range q.fields {
		if q.fields[i].Name == "cookie" {
			n += len(q.fields[i].Value) + 2
		}
	}
	var b strings.Builder
	b.Grow(n)
	for i := range q.fields {
		if q.fields[i].Name == "cookie" {
			if b.Len() > 0 {
				b.WriteString("; ")
			}
			b.WriteString(q.fields[i].Value)
		}
	}
	return b.String()
}

// request answers, refuses or serves a new request.
func (c *conn) request(id uint32, end bool) error {
	q, why := parseRequest(c.sh.head.fields)
	extended := q.have&pProtocol != 0
	if why == "" && extended && !c.websocket {
		why = "extended CONNECT was not announced" // RFC 8441 section 3
	}
	if why == "" && q.method != "CONNECT" && end && q.length > 0 {
		why = "Content-Length without content" // RFC 9113 section 8.1.1
	}
	if why != "" {
		c.sh.count.Malformed.Add(1)
		if f := c.sh.srv.Rejected; f != nil {
			f(c.client, 0, "malformed: "+why)
		}
		return streamErr(id, errProtocol, why)
	}
	if status, code := c.judge(&q, end); status != 0 {
		c.answer(id, status, code, end)
		return nil
	}
	if extended {
		c.offer(id, &q)
	} else {
		c.serve(id, &q, end)
	}
	return nil
}

// The reason codes of our own answers.
const (
	codeConnect        = "connect-not-supported"
	codeProtocol       = "unknown-protocol"
	codePathDots       = "path-dots"
	codeConnectContent = "connect-with-content"
	codeWrongScheme    = "wrong-scheme"
	codeUnknownScheme  = "unknown-scheme"
	codeBadTarget      = "bad-target"
	codeFieldsTooLarge = "fields-too-large"
	codeNoHandler      = "no-handler"
	codeTunnelLimit    = "connection-tunnel-limit"
	codeMemoryLimit    = "memory-limit"
)

// judge returns the status and the reason code of requests that are well-formed
// and yet not served, else 0.
func (c *conn) judge(q *request, end bool) (int, string) {
	switch {
	case q.method == "CONNECT" && q.have&pProtocol == 0:
		return 501, codeConnect // RFC 9113 section 8.5; no connection is opened anywhere
	case q.have&pProtocol != 0 && !strings.EqualFold(q.protocol, "websocket"):
		return 501, codeProtocol // RFC 9220 section 3 says it for HTTP/3; letter case by RFC 9110 section 7.8
	case q.path != "*" && field.Path(q.path, true) != field.PathOK:
		return 400, codeBadTarget
	case q.path != "*" && field.Path(q.path, c.sh.srv.PathDots) != field.PathOK:
		return 400, codePathDots
	case q.have&pProtocol != 0 && (end || q.length > 0):
		return 400, codeConnectContent // a tunnel has no content and needs both directions
	case strings.EqualFold(q.scheme, "https"):
		if c.client.TLS == nil && !c.trusted() {
			return 421, codeWrongScheme // RFC 9110 section 7.4
		}
	case !strings.EqualFold(q.scheme, "http"):
		return 400, codeUnknownScheme
	}
	if c.sh.mem.full() {
		c.sh.count.MemoryLimit.Add(1)
		return 503, codeMemoryLimit
	}
	return 0, ""
}
