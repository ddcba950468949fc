package head

import "wsgate/internal/field"

// The reason codes of answers of Judge.
const (
	codeConnect        = "connect-not-supported"
	codeProtocol       = "unknown-protocol"
	codePathDots       = "path-dots"
	codeConnectContent = "connect-with-content"
	codeWrongScheme    = "wrong-scheme"
	codeUnknownScheme  = "unknown-scheme"
	codeBadTarget      = "bad-target"
)

// Front is what Judge has to know of the connection.
type Front struct {
	TLS      bool
	Trusted  bool // the peer's word on the scheme counts
	PathDots bool // "." and ".." segments pass
}

// Judge returns the status and the reason code of requests that are well-formed
// and yet not served, else 0. end says that the request has no content.
func (q *Request) Judge(f Front, end bool) (status int, code string) {
	switch {
	case q.Method == "CONNECT" && q.have&pProtocol == 0:
		return 501, codeConnect // RFC 9113 section 8.5; no connection is opened anywhere
	case q.have&pProtocol != 0 && !field.Same(q.Protocol, "websocket"):
		return 501, codeProtocol // RFC 9220 section 3 says it for HTTP/3; letter case by RFC 9110 section 7.8
	case q.Path != "*" && field.Path(q.Path, true) != field.PathOK:
		return 400, codeBadTarget
	case q.Path != "*" && field.Path(q.Path, f.PathDots) != field.PathOK:
		return 400, codePathDots
	case q.have&pProtocol != 0 && (end || q.Length > 0):
		return 400, codeConnectContent // a tunnel has no content and needs both directions
	case field.Same(q.Scheme, "https"):
		if !f.TLS && !f.Trusted {
			return 421, codeWrongScheme // RFC 9110 section 7.4
		}
	case !field.Same(q.Scheme, "http"):
		return 400, codeUnknownScheme
	}
	return 0, ""
}

// TransportScheme is what the transport is, whatever was claimed, unless a
// trusted proxy claims it.
func (q *Request) TransportScheme(f Front) string {
	https := f.TLS
	if f.Trusted {
		https = field.Same(q.Scheme, "https")
	}
	if https {
		return "https"
	}
	return "http"
}
