// Package head is the rules of a request's head that HTTP/2 and HTTP/3 have in
// common: pseudo-header fields, connection-specific fields, cookies, trailers, and
// what is answered to heads that are well-formed and yet not served. The sections
// are those of RFC 9113; RFC 9114 sections 4.2 to 4.4 say the same of HTTP/3, RFC
// 9220 section 3 what RFC 8441 says.
package head

import (
	"strings"

	"wsgate/bridge"
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

// Request is a decoded head. It refers to the fields it was made of.
type Request struct {
	Method, Scheme, Authority, Path, Protocol string

	Host   string        // of the field host
	Fields bridge.Fields // the regular ones, Host among them
	Length int64         // Content-Length, -1 if there is none

	have   uint8
	hosts  int
	keys   int // Sec-WebSocket-Key fields
	key    string
	crumbs int // cookie fields
}

// Extended reports whether the request has a :protocol.
func (q *Request) Extended() bool { return q.have&pProtocol != 0 }

// Key is the one Sec-WebSocket-Key, "" if there is none or more than one.
func (q *Request) Key() string {
	if q.keys == 1 {
		return q.key
	}
	return ""
}

// Parse sorts a header section. The string says why it is malformed, ""
// if it is not (RFC 9113 section 8.1.1).
func Parse(fields bridge.Fields) (q Request, malformed string) {
	i := 0
	for ; i < len(fields) && strings.HasPrefix(fields[i].Name, ":"); i++ {
		if why := q.pseudo(fields[i].Name, fields[i].Value); why != "" {
			return q, why
		}
	}
	q.Fields = fields[i:]
	q.Length = -1
	for i := range q.Fields {
		if why := q.regular(q.Fields[i].Name, q.Fields[i].Value); why != "" {
			return q, why
		}
	}
	return q, q.whole()
}

// pseudo takes one pseudo-header field (RFC 9113 section 8.3).
func (q *Request) pseudo(name, value string) string {
	var bit uint8
	var to *string
	switch name {
	case ":method":
		bit, to = pMethod, &q.Method
	case ":scheme":
		bit, to = pScheme, &q.Scheme
	case ":authority":
		bit, to = pAuthority, &q.Authority
	case ":path":
		bit, to = pPath, &q.Path
	case ":protocol":
		bit, to = pProtocol, &q.Protocol
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
func (q *Request) regular(name, value string) string {
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
		if !field.Same(value, "trailers") {
			return "TE is not trailers"
		}
	case "host":
		q.hosts++
		q.Host = value
	case "cookie":
		q.crumbs++
	case "sec-websocket-key":
		q.keys++
		q.key = value
	case "content-length":
		// RFC 9110 section 8.6: equal repeats are one.
		n, ok := field.ContentLength([]string{value})
		if !ok || q.Length >= 0 && q.Length != n {
			return "invalid Content-Length"
		}
		q.Length = n
	}
	return ""
}

// whole judges the pseudo-header fields together.
func (q *Request) whole() string {
	if !field.Token(q.Method) {
		return "no method, or not a token"
	}
	if q.have&pAuthority != 0 && !field.Authority(q.Authority) {
		return "malformed :authority"
	}
	if q.hosts > 1 {
		return "host twice"
	}
	if q.hosts == 1 && !field.Authority(q.Host) {
		return "malformed host"
	}
	if q.Method == "CONNECT" && q.have&pProtocol == 0 {
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
	if q.hosts == 1 && q.have&pAuthority != 0 && !field.SameAuthority(q.Authority, q.Host, q.Scheme) {
		return "host differs from :authority"
	}
	if q.have&pProtocol != 0 {
		switch {
		case q.Method != "CONNECT":
			return ":protocol without CONNECT" // RFC 8441 section 4
		case q.have&pAuthority == 0:
			return "extended CONNECT without :authority"
		case !field.Token(q.Protocol):
			return ":protocol is not a token"
		}
	} else if q.have&pAuthority == 0 && q.hosts == 0 {
		return "neither :authority nor host"
	}
	return ""
}

// target judges :scheme and :path.
func (q *Request) target() string {
	if q.have&pScheme == 0 || q.have&pPath == 0 {
		return "no :scheme or no :path"
	}
	if field.Same(q.Scheme, "ws") || field.Same(q.Scheme, "wss") {
		return ":scheme of a WebSocket URI" // RFC 8441 section 5 wants http or https
	}
	if !schemeSyntax(q.Scheme) {
		return "malformed :scheme"
	}
	if q.Path == "*" && q.Method == "OPTIONS" {
		return ""
	}
	if field.Path(q.Path, true) == field.PathMalformed {
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
func (q *Request) cookie() string {
	n := 0
	for i := range q.Fields {
		if q.Fields[i].Name == "cookie" {
			n += len(q.Fields[i].Value) + 2
		}
	}
	var b strings.Builder
	b.Grow(n)
	for i := range q.Fields {
		if q.Fields[i].Name == "cookie" {
			if b.Len() > 0 {
				b.WriteString("; ")
			}
			b.WriteString(q.Fields[i].Value)
		}
	}
	return b.String()
}
