package h1

import (
	"errors"
	"strings"

	"wsgate/bridge"
	"wsgate/internal/field"
)

// errUnwritable is the last check before octets that a client chose go to a
// backend: no line that they could break is ever written.
var errUnwritable = errors.New("handshake holds octets that cannot be sent")

// appendHandshake writes the opening handshake of RFC 6455 section 4.1 for the
// backend. The fields are end-to-end; those that the handshake makes itself are
// left out of them.
func appendHandshake(dst []byte, path, host, key string, fields bridge.Fields, lower bool) ([]byte, error) {
	if field.Path(path, true) != field.PathOK || !field.Authority(host) {
		return dst, errUnwritable
	}
	dst = append(dst, "GET "...)
	dst = append(dst, path...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, host...)
	// The spelling is the RFC's: old servers compare names with letter case.
	dst = append(dst, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "...)
	dst = append(dst, key...)
	dst = append(dst, "\r\nSec-WebSocket-Version: 13\r\n"...)
	for i := range fields {
		name, value := fields[i].Name, fields[i].Value
		if madeByHandshake(name) {
			continue
		}
		if !field.Token(name) || !field.Value(value) {
			return dst, errUnwritable
		}
		if lower && field.LowerToken(name) {
			dst = appendSpelled(dst, name)
		} else {
			dst = append(dst, name...)
		}
		dst = append(dst, ": "...)
		dst = append(dst, value...)
		dst = append(dst, "\r\n"...)
	}
	return append(dst, "\r\n"...), nil
}

// madeByHandshake reports whether the field is the backend connection's own:
// exactly one Host, one key, one version (RFC 6455 section 4.1), no framing of
// content, and nothing of another hop (RFC 9110 section 7.6.1).
func madeByHandshake(name string) bool {
	switch len(name) {
	case 4:
		return field.Same(name, "Host")
	case 6:
		return field.Same(name, "Expect")
	case 14:
		if field.Same(name, "Content-Length") {
			return true
		}
	case 17:
		if field.Same(name, "Sec-WebSocket-Key") {
			return true
		}
	case 20:
		return field.Same(name, "Sec-WebSocket-Accept")
	case 21:
		return field.Same(name, "Sec-WebSocket-Version")
	}
	return field.HopByHop(name)
}

// appendSpelled writes a field name that came in lower case, as HTTP/2 and
// HTTP/3 send them, the way HTTP/1.1 peers know it: every part with a capital,
// and the WebSocket fields as RFC 6455 spells them.
func appendSpelled(dst []byte, name string) []byte {
	const ws = "sec-websocket-"
	if strings.HasPrefix(name, ws) {
		dst = append(dst, "Sec-WebSocket-"...)
		name = name[len(ws):]
	}
	capital := true
	for i := 0; i < len(name); i++ {
		c := name[i]
		if capital && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		capital = c == '-'
		dst = append(dst, c)
	}
	return dst
}
