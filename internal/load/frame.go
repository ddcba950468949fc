package load

import (
	"encoding/binary"
	"fmt"
)

// WebSocket opcodes (RFC 6455 section 5.2).
const (
	opContinuation = 0x0
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

// appendHead appends the head of an unmasked frame; first is its first octet.
func appendHead(b []byte, first byte, size int) []byte {
	switch {
	case size < 126:
		return append(b, first, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, first, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(b, first, 127), uint64(size))
}

// appendFrame appends a whole masked frame, as clients send them. With the zero
// key masking costs nobody anything.
func appendFrame(b []byte, op byte, key [4]byte, payload []byte) []byte {
	at := len(b)
	b = appendHead(b, 0x80|op, len(payload))
	b[at+1] |= 0x80
	b = append(b, key[:]...)
	at = len(b)
	b = append(b, payload...)
	mask(b[at:], key, 0)
	return b
}

// mask masks or unmasks p, which begins at octet pos of its payload (RFC 6455
// section 5.3).
func mask(p []byte, key [4]byte, pos int) {
	if key == [4]byte{} {
		return
	}
	for len(p) > 0 && pos&3 != 0 {
		p[0] ^= key[pos&3]
		p, pos = p[1:], pos+1
	}
	k := uint64(binary.LittleEndian.Uint32(key[:]))
	k |= k << 32
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^k)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= key[i&3]
	}
}

// frames reads what a server sends, frame by frame, as it comes in pieces.
type frames struct {
	left    uint64 // of the payload
	head    [10]byte
	n       uint8  // octets of head
	control []byte // payload of a Ping, collected
}

// size is how many octets the head has, as far as that is known.
func (r *frames) size() uint8 {
	if r.n < 2 {
		return 2
	}
	switch r.head[1] & 0x7f {
	case 126:
		return 4
	case 127:
		return 10
	}
	return 2
}

// feed reads p and tells t of each piece and of each end of a frame.
func (r *frames) feed(p []byte, t *tunnel) error {
	for len(p) > 0 {
		if r.n < r.size() {
			r.head[r.n] = p[0]
			r.n++
			p = p[1:]
			if r.n < r.size() {
				continue
			}
			if err := r.begin(); err != nil {
				return err
			}
		} else {
			n := min(uint64(len(p)), r.left)
			r.piece(t, p[:n])
			r.left -= n
			p = p[n:]
		}
		if r.left == 0 {
			op, payload := r.head[0], r.control
			r.n, r.control = 0, r.control[:0]
			t.frame(op, payload)
		}
	}
	return nil
}

// begin judges a complete head.
func (r *frames) begin() error {
	if r.head[0]&0x70 != 0 || r.head[1]&0x80 != 0 {
		return fmt.Errorf("got octets 0x%02x 0x%02x, which begin no frame of a server", r.head[0], r.head[1])
	}
	switch r.size() {
	case 2:
		r.left = uint64(r.head[1])
	case 4:
		r.left = uint64(binary.BigEndian.Uint16(r.head[2:]))
	default:
		r.left = binary.BigEndian.Uint64(r.head[2:])
	}
	if r.head[0]&0x8 != 0 && r.left > 125 {
		return fmt.Errorf("got a control frame of %d octets", r.left) // RFC 6455 section 5.5
	}
	return nil
}

func (r *frames) piece(t *tunnel, p []byte) {
	if r.head[0]&0x8 != 0 {
		r.control = append(r.control, p...)
	} else {
		t.payload(p)
	}
}
