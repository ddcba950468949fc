package h2

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"

	"wsgate/internal/field"
)

// The encoder uses the static table and Huffman codes, never a dynamic table
// (RFC 7541 section 2.3.2 leaves that to the encoder): an idle connection keeps
// no state for it, and every SETTINGS_HEADER_TABLE_SIZE is obeyed by itself.

// beginBlock starts a header block in the shard's scratch.
func (c *conn) beginBlock(status int) []byte {
	b := c.sh.block[:0]
	if c.tableNote {
		// RFC 7541 section 4.2: after a smaller SETTINGS_HEADER_TABLE_SIZE the
		// next block begins with the new size of our table: 0.
		c.tableNote = false
		b = append(b, 0x20)
	}
	switch status {
	case 200:
		return append(b, 0x88)
	case 204:
		return append(b, 0x89)
	case 206:
		return append(b, 0x8a)
	case 304:
		return append(b, 0x8b)
	case 400:
		return append(b, 0x8c)
	case 404:
		return append(b, 0x8d)
	case 500:
		return append(b, 0x8e)
	}
	b = append(b, 0x08, 3)
	return strconv.AppendInt(b, int64(status), 10)
}

// sendBlock sends the block and keeps its memory as scratch.
func (c *conn) sendBlock(id uint32, b []byte, end bool) {
	c.writeHeaders(id, b, end)
	if cap(b) <= 16<<10 {
		c.sh.block = b[:0]
	}
}

// appendField encodes one field; the name in any letter case. Fields that would
// be malformed are left out: what a backend sent is not trusted (RFC 9113
// section 8.2.1).
func appendField(b []byte, name, value string) []byte {
	if !field.Token(name) || !field.Value(value) {
		return b
	}
	var low [32]byte
	key := append(low[:0], name...)
	for i, c := range key {
		if 'A' <= c && c <= 'Z' {
			key[i] = c + 'a' - 'A'
		}
	}
	first := byte(0x00) // literal without indexing (RFC 7541 section 6.2.2)
	if string(key) == "set-cookie" {
		first = 0x10 // never indexed (section 6.2.3)
	}
	if i := staticName(key); i > 0 {
		b = appendInt(b, first, 4, i)
	} else {
		b = append(b, first)
		b = appendInt(b, 0, 7, uint64(len(key)))
		b = append(b, key...)
	}
	return appendString(b, value)
}

func appendString(b []byte, s string) []byte {
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		return hpack.AppendHuffmanString(appendInt(b, 0x80, 7, n), s)
	}
	return append(appendInt(b, 0, 7, uint64(len(s))), s...)
}

// appendInt encodes v with an n-bit prefix (RFC 7541 section 5.1).
func appendInt(b []byte, first byte, n uint, v uint64) []byte {
	k := uint64(1)<<n - 1
	if v < k {
		return append(b, first|byte(v))
	}
	b = append(b, first|byte(k))
	for v -= k; v >= 128; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// staticName is the index of a name in the static table (RFC 7541 appendix A),
// for the names that occur in answers, else 0.
func staticName(name []byte) uint64 {
	switch string(name) {
	case "accept-ranges":
		return 18
	case "access-control-allow-origin":
		return 20
	case "age":
		return 21
	case "allow":
		return 22
	case "cache-control":
		return 24
	case "content-disposition":
		return 25
	case "content-encoding":
		return 26
	case "content-language":
		return 27
	case "content-length":
		return 28
	case "content-location":
		return 29
	case "content-range":
		return 30
	case "content-type":
		return 31
	case "date":
		return 33
	case "etag":
		return 34
	case "expires":
		return 36
	case "last-modified":
		return 44
	case "link":
		return 45
	case "location":
		return 46
	case "proxy-authenticate":
		return 48
	case "refresh":
		return 52
	case "retry-after":
		return 53
	case "server":
		return 54
	case "set-cookie":
		return 55
	case "strict-transport-security":
		return 56
	case "vary":
		return 59
	case "via":
		return 60
	case "www-authenticate":
		return 61
	}
	return 0
}

// dateCache is the encoded Date field of the present second.
type dateCache struct {
	second int64
	field  []byte
}

// appendDate encodes Date (RFC 9110 section 6.6.1).
func (sh *shard) appendDate(b []byte) []byte {
	now := sh.loop.Now()
	if d := &sh.date; d.field == nil || d.second != now.Unix() {
		d.second = now.Unix()
		d.field = appendField(d.field[:0], "date", now.UTC().Format(http.TimeFormat))
	}
	return append(b, sh.date.field...)
}

// answer is an answer of our own: one plain line with the reason code, if the
// client's windows let it go at once. It needs no stream and is the end of this
// one.
func (c *conn) answer(id uint32, status int, code string, clientEnded bool) {
	if f := c.sh.srv.Rejected; f != nil {
		f(c.client, status, code)
	}
	body := fmt.Sprintf("%d %s: %s\n", status, strings.ToLower(http.StatusText(status)), code)
	b := c.sh.appendDate(c.beginBlock(status))
	b = appendField(b, "cache-control", "no-store")
	if status == 503 {
		b = appendField(b, "retry-after", retryAfter)
	}
	empty := !c.wantsContent() || len(body) > min(c.room(), int(c.peerWindow))
	if !empty {
		b = appendField(b, "content-type", "text/plain; charset=utf-8")
		b = appendField(b, "content-length", strconv.Itoa(len(body)))
	}
	c.sendBlock(id, b, empty)
	if !empty {
		c.writeData(id, []byte(body))
		c.writeEnd(id)
	}
	how := closedInOrder
	if !clientEnded {
		// RFC 9113 section 8.1: the rest of the request is not wanted.
		c.rst(id, errNone)
		how = closedByUs
	}
	c.remember(id, how)
}

// wantsContent reports whether the request that lies in the shard's scratch is
// one whose answer has content (RFC 9110 section 9.3.2). What lies behind the
// limit of a header section is unknown; then it has none.
func (c *conn) wantsContent() bool {
	for _, f := range c.sh.head.fields {
		if f.Name == ":method" {
			return f.Value != "HEAD"
		}
	}
	return false
}

// retryAfter is what our own 503 say, in seconds; package bridge says the same.
const retryAfter = "5"
