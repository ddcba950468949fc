package h1

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"wsgate/bridge"
	"wsgate/internal/field"
)

// Heads of answers, written into buffers. Names and values that could break a
// line are left out or mended here, whoever made them.

func appendStatus(dst []byte, status int) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(status)...)
	return append(dst, "\r\n"...)
}

// appendDate: RFC 9110 section 6.6.1.
func appendDate(dst []byte, now time.Time) []byte {
	dst = append(dst, "Date: "...)
	dst = now.UTC().AppendFormat(dst, http.TimeFormat)
	return append(dst, "\r\n"...)
}

// appendField writes one field line. A name that is no token is left out;
// control octets in a value become SP (RFC 9110 section 5.5).
func appendField(dst []byte, name, value string) []byte {
	if !field.Token(name) {
		return dst
	}
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	start := len(dst)
	dst = append(dst, strings.Trim(value, " \t\r\n")...)
	for i := start; i < len(dst); i++ {
		if c := dst[i]; c < ' ' && c != '\t' || c == 0x7f {
			dst[i] = ' '
		}
	}
	return append(dst, "\r\n"...)
}

// ofConnection reports whether a field is written by the connection itself:
// framing and hop-by-hop fields.
func ofConnection(name string) bool {
	return field.HopByHop(name) || field.Same(name, "Content-Length")
}

func appendFields(dst []byte, f bridge.Fields) []byte {
	for _, x := range f {
		if !ofConnection(x.Name) {
			dst = appendField(dst, x.Name, x.Value)
		}
	}
	return dst
}

func appendHeader(dst []byte, h http.Header) []byte {
	for name, values := range h {
		if ofConnection(name) {
			continue
		}
		for _, v := range values {
			dst = appendField(dst, name, v)
		}
	}
	return dst
}

// plan is how the content of one answer is framed (RFC 9112 section 6).
type plan struct {
	kind   framing
	length int64 // Content-Length to be sent, -1 if none
}

// planContent decides the framing. length is that of the content, -1 if
// unknown; bare answers have none, whatever their length (RFC 9112 section 6.3
// item 1).
func planContent(status int, head bool, minor byte, length int64) plan {
	switch {
	case status == 204 || status < 200: // RFC 9110 section 8.6
		return plan{frameNone, -1}
	case head || status == 304:
		return plan{frameNone, length}
	case status == 205: // RFC 9110 section 15.3.6
		return plan{frameNone, 0}
	case length == 0:
		return plan{frameNone, 0}
	case length > 0:
		return plan{frameLength, length}
	case minor == 0: // RFC 9112 section 6.1: no chunked in HTTP/1.0
		return plan{frameClose, -1}
	}
	return plan{frameChunked, -1}
}

// appendFraming writes what planContent decided.
func appendFraming(dst []byte, p plan) []byte {
	if p.length >= 0 {
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, p.length, 10)
		return append(dst, "\r\n"...)
	}
	if p.kind == frameChunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	return dst
}

// appendConnection writes the Connection field (RFC 9112 section 9.6) and, for
// 426, the protocol to change to (RFC 9110 section 15.5.22).
func appendConnection(dst []byte, status int, end bool) []byte {
	switch {
	case status == 426 && end:
		return append(dst, "Upgrade: websocket\r\nConnection: Upgrade, close\r\n"...)
	case status == 426:
		return append(dst, "Upgrade: websocket\r\nConnection: Upgrade\r\n"...)
	case end:
		return append(dst, "Connection: close\r\n"...)
	}
	return dst
}

// ownFields are those of the front's own answers, beside ownLine as content.
const ownFields = "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n"

// ownLine is the content of the front's own answers: the status in words and a
// reason code.
func ownLine(status int, code string) string {
	return strconv.Itoa(status) + " " + strings.ToLower(http.StatusText(status)) + ": " + code + "\n"
}

// appendOwn writes a whole answer of the front's own.
func appendOwn(dst []byte, now time.Time, w *wrong, head bool) []byte {
	line := ownLine(w.status, w.code)
	dst = appendStatus(dst, w.status)
	dst = appendDate(dst, now)
	dst = append(dst, ownFields...)
	dst = appendFraming(dst, plan{frameLength, int64(len(line))})
	dst = appendConnection(dst, w.status, w.close)
	dst = append(dst, "\r\n"...)
	if head { // RFC 9110 section 9.3.2
		return dst
	}
	return append(dst, line...)
}

// appendSwitch writes the 101 that opens a tunnel (RFC 6455 section 4.2.2): no
// Content-Length and no Transfer-Encoding (RFC 9110 section 8.6, RFC 9112
// section 6.1).
func appendSwitch(dst []byte, f bridge.Fields) []byte {
	dst = append(dst, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"...)
	dst = appendFields(dst, f)
	return append(dst, "\r\n"...)
}
