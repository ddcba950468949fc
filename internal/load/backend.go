package load

import (
	"bytes"
	"encoding/binary"
	"strings"

	"wsgate/internal/rawpeer"
)

// page answers ordinary requests: 1 KiB.
var page = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))

// mirror is one connection of the echo server, without I/O: it answers requests
// with a page, an opening handshake with 101, and sends each message back
// unmasked. Payload passes piece by piece; nothing is kept but a head.
type mirror struct {
	request []byte // an incomplete head of a request
	up      bool   // upgraded
	over    bool   // nothing comes any more: a Close frame was answered, or a head too long

	head [14]byte // of the frame that is being read
	n    uint8    // octets of it
	left uint64   // of its payload
	pos  int      // octets of its payload that have passed
}

const longestHead = 64 << 10

// feed appends to out what the server answers to p.
func (m *mirror) feed(out, p []byte) []byte {
	for len(p) > 0 && !m.over {
		if m.up {
			out, p = m.frame(out, p)
			continue
		}
		m.request = append(m.request, p...)
		end := bytes.Index(m.request, []byte("\r\n\r\n"))
		if end < 0 {
			m.over = len(m.request) > longestHead
			return out
		}
		head, rest := string(m.request[:end]), m.request[end+4:]
		m.request = nil
		key, upgrade := requestOf(head)
		if upgrade {
			m.up = true
			out = append(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+rawpeer.AcceptFor(key)+"\r\n\r\n"...)
		} else {
			out = append(out, page...)
		}
		p = rest
	}
	return out
}

// requestOf reads what matters of a head.
func requestOf(head string) (key string, upgrade bool) {
	for line := range strings.SplitSeq(head, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		switch {
		case strings.EqualFold(name, "Sec-WebSocket-Key"):
			key = strings.TrimSpace(value)
		case strings.EqualFold(name, "Upgrade"):
			upgrade = true
		}
	}
	return key, upgrade
}

// headSize is the length of a masked head, as far as it is known.
func (m *mirror) headSize() uint8 {
	if m.n < 2 {
		return 2
	}
	switch m.head[1] & 0x7f {
	case 126:
		return 8
	case 127:
		return 14
	}
	return 6
}

// frame takes at least one octet of p: of a head, or what there is of a payload.
func (m *mirror) frame(out, p []byte) ([]byte, []byte) {
	if m.n < m.headSize() {
		n := copy(m.head[m.n:m.headSize()], p)
		m.n += uint8(n)
		if p = p[n:]; m.n == m.headSize() {
			out = m.begin(out)
		}
	} else {
		n := min(uint64(len(p)), m.left)
		if m.head[0]&0xf != opPong { // is not answered
			at := len(out)
			out = append(out, p[:n]...)
			mask(out[at:], m.key(), m.pos)
		}
		m.left -= n
		m.pos += int(n)
		p = p[n:]
	}
	if m.n == m.headSize() && m.left == 0 {
		m.over = m.head[0]&0xf == opClose
		m.n, m.pos = 0, 0
	}
	return out, p
}

func (m *mirror) key() [4]byte { return [4]byte(m.head[m.n-4 : m.n]) }

// begin answers a complete head by one without a mask; Ping becomes Pong.
func (m *mirror) begin(out []byte) []byte {
	switch m.n {
	case 8:
		m.left = uint64(binary.BigEndian.Uint16(m.head[2:]))
	case 14:
		m.left = binary.BigEndian.Uint64(m.head[2:])
	default:
		m.left = uint64(m.head[1] & 0x7f)
	}
	first := m.head[0]
	switch first & 0xf {
	case opPong:
		return out
	case opPing:
		first = first&0xf0 | opPong
	}
	return appendHead(out, first, int(m.left))
}
