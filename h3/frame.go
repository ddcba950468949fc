package h3

// The types of frames (RFC 9114 section 7.2) and of unidirectional streams
// (section 6.2, RFC 9204 section 4.2).
const (
	frameData        = 0x00
	frameHeaders     = 0x01
	frameCancelPush  = 0x03
	frameSettings    = 0x04
	framePushPromise = 0x05
	frameGoaway      = 0x07
	frameMaxPushID   = 0x0d

	streamControl = 0x00
	streamPush    = 0x01
	streamEncoder = 0x02
	streamDecoder = 0x03
)

// ofHTTP2 reports whether a frame type is one of HTTP/2's that HTTP/3 forbids
// (RFC 9114 section 7.2.8).
func ofHTTP2(t uint64) bool { return t == 0x02 || t == 0x06 || t == 0x08 || t == 0x09 }

// maxVarint is the largest integer of QUIC (RFC 9000 section 16).
const maxVarint = 1<<62 - 1

// varint reads an integer of QUIC; n is 0 if p is too short for it.
func varint(p []byte) (v uint64, n int) {
	if len(p) == 0 {
		return 0, 0
	}
	n = 1 << (p[0] >> 6)
	if len(p) < n {
		return 0, 0
	}
	v = uint64(p[0] & 0x3f)
	for _, b := range p[1:n] {
		v = v<<8 | uint64(b)
	}
	return v, n
}

// appendVarint writes an integer of QUIC in its shortest form.
func appendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return append(b, 0x40|byte(v>>8), byte(v))
	case v < 1<<30:
		return append(b, 0x80|byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	return append(b, 0xc0|byte(v>>56), byte(v>>48), byte(v>>40), byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// appendFrame writes the head of a frame.
func appendFrame(b []byte, t uint64, size int) []byte {
	return appendVarint(appendVarint(b, t), uint64(size))
}

// frames is where reading a stream of frames stands.
type frames struct {
	typ     uint64
	left    uint64 // of the payload
	begun   bool   // the head is read, the frame not over
	partial [16]byte
	n       uint8 // octets in partial
}

// between reports whether no frame is under way.
func (f *frames) between() bool { return !f.begun && f.n == 0 }

// head takes octets of a frame's head and reports whether it is whole.
func (f *frames) head(p []byte) (n int, whole bool) {
	if f.n == 0 { // most heads come in one piece
		if t, k := varint(p); k > 0 {
			if size, j := varint(p[k:]); j > 0 {
				f.typ, f.left, f.begun = t, size, true
				return k + j, true
			}
		}
	}
	for n < len(p) {
		f.partial[f.n] = p[n]
		f.n++
		n++
		if t, k := varint(f.partial[:f.n]); k > 0 {
			if size, j := varint(f.partial[k:f.n]); j > 0 {
				f.typ, f.left, f.begun, f.n = t, size, true, 0
				return n, true
			}
		}
	}
	return n, false
}
