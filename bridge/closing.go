package bridge

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// closeWait is how long a peer has to answer a Close frame of the gateway.
const closeWait = 5 * time.Second

// injection is a control frame of the gateway that waits for a frame boundary
// in its direction, or is partly written.
type injection struct {
	buf  []byte
	off  int
	seal bool // a Close frame: nothing follows it
}

func (i *injection) begun() bool { return i.off > 0 }

// control builds a control frame (RFC 6455 section 5.5). Towards the backend it
// carries a fresh random mask (section 5.3).
func control(opcode byte, payload []byte, masked bool) []byte {
	b := append(make([]byte, 0, 6+len(payload)), 0x80|opcode, byte(len(payload)))
	if !masked {
		return append(b, payload...)
	}
	b[1] |= 0x80
	var key [4]byte
	rand.Read(key[:]) // never fails
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i&3])
	}
	return b
}

// put queues a control frame for this direction and writes it if it can go now.
// One waits at a time: a Close takes the place of a Ping that has not begun.
func (f *flow) put(opcode byte, payload []byte) {
	if f.inject != nil && (f.inject.begun() || opcode != opClose) {
		if opcode == opClose {
			f.inject.buf = append(f.inject.buf, control(opcode, payload, f == &f.t.up)...)
			f.inject.seal = true
		}
		return
	}
	f.inject = &injection{buf: control(opcode, payload, f == &f.t.up), seal: opcode == opClose}
	f.tryInject()
}

// tryInject writes the waiting frame if the direction stands at a boundary. It
// reports whether none waits any more.
func (f *flow) tryInject() bool {
	i := f.inject
	if i == nil {
		return true
	}
	if !i.begun() && !f.watch.boundary() {
		return false
	}
	i.off += f.dst.Write(i.buf[i.off:])
	if i.off < len(i.buf) {
		return false
	}
	f.inject = nil
	if i.seal {
		f.sealed = true
		f.src.Resume()
		f.answered()
	}
	if f.ended {
		f.closeDst()
		f.t.settle()
	}
	return true
}

// answered ends a sealed direction once its receiver has answered the Close,
// or has ended by itself.
func (f *flow) answered() {
	o := f.other()
	if f.sealed && !f.closed && (o.watch.closed() || o.ended) {
		f.closeDst()
		f.t.settle()
	}
}

// dataWhileClosing is Data with a frame of ours waiting or sent.
func (f *flow) dataWhileClosing(p []byte) int {
	n := 0
	for n < len(p) && !f.t.done {
		switch {
		case f.sealed:
			// Read for its Close code, credited and dropped.
			f.watch.feed(p[n:])
			f.heard()
			n = len(p)
		case f.inject == nil:
			k := f.pass(p[n:])
			n += k
			if n < len(p) {
				f.other().answered()
				return n
			}
		case f.inject.begun() || f.watch.boundary():
			if !f.tryInject() {
				f.block()
				return n
			}
		default:
			k, _ := f.watch.toBoundary(p[n:])
			w := f.pass(p[n : n+k])
			n += w
			if w < k {
				return n
			}
		}
	}
	if f.inject != nil {
		f.tryInject()
	}
	f.other().answered()
	return n
}

// goodbye ends the tunnel softly: a Close frame with that code towards both
// ends, each at a frame boundary, then the end of each direction.
func (t *tunnel) goodbye(code int, reason, why string) {
	if t.done || t.closing != 0 {
		return
	}
	t.blameGateway(why)
	t.bridge.reached(why)
	t.closing = t.shard.now() + int64(closeWait)
	t.armBy(t.closing)
	payload := append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
	for _, f := range [...]*flow{&t.down, &t.up} {
		switch {
		case t.done || f.closed || f.watch.closed():
			// Ended, or the closing handshake is already under way.
		case f.watch.unknown():
			// Not WebSocket frames: an orderly end is all there is to say.
			f.sealed = true
			f.closeDst()
			f.src.Resume()
		default:
			f.put(opClose, payload)
		}
	}
	t.settle()
}

// closeOver is the end of the time that peers had to answer a Close.
func (t *tunnel) closeOver(now int64) {
	t.closeDone = true
	for _, f := range [...]*flow{&t.down, &t.up} {
		if !f.closed && !f.sealed && !f.watch.closed() {
			t.cut(t.why, ReasonTimeout) // stuck inside a frame
			return
		}
	}
	t.down.sealed, t.up.sealed = true, true
	t.down.closeDst()
	t.up.closeDst()
	t.down.src.Resume()
	t.up.src.Resume()
	if !t.done && t.linger == 0 {
		t.linger = now + int64(closeWait)
		t.armBy(t.linger)
	}
	t.settle()
}
