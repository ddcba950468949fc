package bridge

// watch follows the WebSocket frames of one direction (RFC 6455 section 5.2)
// without changing, delaying or refusing a byte. It knows where frames end,
// counts messages and reads the code of a Close frame; payloads are not looked
// at. Octets that are no frames turn it off for good: then it is unknown where
// a frame ends, and nothing may be put between the octets any more.
type watch struct {
	left  uint64  // octets of payload to come; while pos > 0 the length read so far
	code  [2]byte // Close code; before it the mask of a Close frame
	pos   uint8   // octets of the frame head read; 0 in payload and between frames
	size  uint8   // length of the frame head, known from its second octet on
	first uint8   // FIN, RSV and opcode
	flags uint8
}

const (
	watchMasked  = 1 << iota // frames of this direction carry a mask: client to server
	watchUnknown             // not WebSocket frames
	watchClosed              // a Close frame has passed
	watchHasCode             // with a code
	watchInClose             // inside the payload of a Close frame, code not complete
	watchCode1               // one octet of the code is read
)

const (
	opClose = 0x8
	opPing  = 0x9
)

// boundary reports whether a control frame could be put in here.
func (w *watch) boundary() bool { return w.pos == 0 && w.left == 0 && w.flags&watchUnknown == 0 }

func (w *watch) unknown() bool { return w.flags&watchUnknown != 0 }

// closed reports whether a Close frame has begun to pass.
func (w *watch) closed() bool { return w.flags&watchClosed != 0 }

// closeCode returns the code of the Close frame that passed: 1005 for one
// without a code, 0 if none passed (RFC 6455 section 7.1.5).
func (w *watch) closeCode() int {
	switch {
	case w.flags&watchHasCode != 0:
		return int(w.code[0])<<8 | int(w.code[1])
	case w.flags&watchClosed != 0:
		return 1005
	}
	return 0
}

// feed sees p pass and returns how many messages ended in it.
func (w *watch) feed(p []byte) (messages int) {
	for len(p) > 0 {
		n, ended := w.step(p)
		p = p[n:]
		if ended && w.first&0x8 == 0 && w.first&0x80 != 0 {
			messages++
		}
	}
	return messages
}

// toBoundary returns how many octets of p pass until a frame ends; len(p) and
// false if none ends in p.
func (w watch) toBoundary(p []byte) (int, bool) {
	n := 0
	for n < len(p) {
		k, ended := w.step(p[n:])
		n += k
		if ended {
			return n, true
		}
	}
	return n, false
}

// step takes at least one octet of p and at most the rest of one frame, and
// reports whether that frame ended.
func (w *watch) step(p []byte) (n int, ended bool) {
	if w.flags&watchUnknown != 0 {
		return len(p), false
	}
	if w.pos == 0 && w.left > 0 {
		return w.payload(p)
	}
	for n < len(p) {
		done := w.head(p[n])
		n++
		if w.flags&watchUnknown != 0 {
			return len(p), false
		}
		if done {
			return n, w.left == 0
		}
	}
	return n, false
}

// payload takes what is left of a payload.
func (w *watch) payload(p []byte) (int, bool) {
	if uint64(len(p)) > w.left {
		p = p[:w.left]
	}
	w.left -= uint64(len(p))
	if w.flags&watchInClose != 0 {
		w.readCode(p)
	}
	return len(p), w.left == 0
}

// readCode takes the first two octets of a Close frame's payload.
func (w *watch) readCode(p []byte) {
	for _, c := range p {
		i := 0
		if w.flags&watchCode1 != 0 {
			i = 1
		}
		if w.flags&watchMasked != 0 {
			c ^= w.code[i] // the mask's octet stands there
		}
		w.code[i] = c
		if i == 1 {
			w.flags = w.flags&^(watchInClose|watchCode1) | watchHasCode
			return
		}
		w.flags |= watchCode1
	}
}

// head takes one octet of a frame head and reports whether the head is complete.
func (w *watch) head(c byte) bool {
	switch w.pos {
	case 0:
		w.first = c
		if op := c & 0xf; op > 2 && op < 8 || op > 10 {
			w.flags |= watchUnknown // reserved opcode
			return false
		}
		w.pos = 1
		return false
	case 1:
		return w.second(c)
	}
	w.pos++
	if masked := w.flags&watchMasked != 0; !masked || w.pos <= w.size-4 {
		if w.pos == 3 && w.size >= 10 && c&0x80 != 0 {
			w.flags |= watchUnknown // RFC 6455 section 5.2: the high bit of a 64-bit length is 0
			return false
		}
		w.left = w.left<<8 | uint64(c)
	} else if i := w.pos - (w.size - 4) - 1; i < 2 && w.first&0xf == opClose && w.flags&watchHasCode == 0 {
		w.code[i] = c
	}
	return w.complete()
}

// second takes the octet of mask bit and length.
func (w *watch) second(c byte) bool {
	masked := w.flags&watchMasked != 0
	if (c&0x80 != 0) != masked {
		w.flags |= watchUnknown // RFC 6455 section 5.1: clients mask, servers do not
		return false
	}
	w.pos, w.size = 2, 2
	if masked {
		w.size += 4
	}
	switch n := c & 0x7f; n {
	case 126:
		w.size += 2
	case 127:
		w.size += 8
	default:
		w.left = uint64(n)
	}
	return w.complete()
}

func (w *watch) complete() bool {
	if w.pos < w.size {
		return false
	}
	w.pos = 0
	if w.first&0xf == opClose && w.flags&watchClosed == 0 {
		w.flags |= watchClosed
		if w.left >= 2 {
			w.flags |= watchInClose
		}
	}
	return true
}
