package h2

import (
	"encoding/binary"
)

// reserve makes room for n more octets of output and sees to the flush.
func (c *conn) reserve(n int) {
	if cap(c.out)-len(c.out) < n {
		c.growOut(n)
	}
	if !c.asked && !c.blocked {
		c.asked = true
		c.sh.loop.TurnEnd(c)
	}
}

func (c *conn) growOut(n int) {
	rest := c.out[c.sent:]
	b := append(c.sh.loop.Buffer(max(len(rest)+n, min(2*len(rest), outDataMax))), rest...)
	if c.tail >= 0 {
		c.tail -= c.sent
	}
	c.freeOut()
	c.out, c.sent = b, 0
	if c.blocked {
		c.sh.mem.add(cap(b))
	}
}

// freeOut gives the output buffer back. What a blocked transport leaves in it
// counts in Memory.
func (c *conn) freeOut() {
	if c.out == nil {
		return
	}
	if c.blocked {
		c.sh.mem.add(-cap(c.out))
	}
	c.sh.loop.Free(c.out)
	c.out, c.sent = nil, 0
}

// ctlQueued is how much of the queued output is not DATA.
func (c *conn) ctlQueued() int { return len(c.out) - c.sent - c.outData }

// frame appends a frame head; the caller appends its n octets.
func (c *conn) frame(kind frameType, flags uint8, id uint32, n int) {
	c.reserve(9 + n)
	c.tail = -1
	c.out = append(c.out, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func (c *conn) rst(id uint32, code ErrCode) {
	c.frame(frameRSTStream, 0, id, 4)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
}

func (c *conn) sendWindowUpdate(id uint32, n int32) {
	c.frame(frameWindowUpdate, 0, id, 4)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(n))
}

func (c *conn) sendGoaway(last uint32, code ErrCode) {
	c.frame(frameGoaway, 0, 0, 8)
	c.out = binary.BigEndian.AppendUint32(c.out, last)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
}

func (c *conn) sendPing(payload string) {
	c.frame(framePing, 0, 0, 8)
	c.out = append(c.out, payload...)
}

// writeData appends p as DATA. It goes on with the last frame of the output if
// that is DATA of the same stream.
func (c *conn) writeData(id uint32, p []byte) {
	c.sendWin -= int32(len(p))
	c.wuCredit = min(c.wuCredit+2+int32(len(p)>>8), wuCreditMax)
	if n := c.tailRoom(id); n > 0 {
		n = min(n, len(p))
		c.reserve(n)
		c.out = append(c.out, p[:n]...)
		c.outData += n
		c.patchTail(n)
		p = p[n:]
	}
	for len(p) > 0 {
		n := min(len(p), maxFrame)
		c.frame(frameData, 0, id, n)
		c.tail = len(c.out) - 9
		c.out = append(c.out, p[:n]...)
		c.outData += 9 + n
		p = p[n:]
	}
	if len(c.out)-c.sent >= flushSize && !c.blocked {
		c.flush()
	}
}

// tailRoom is how much DATA of stream id the last frame can still take.
func (c *conn) tailRoom(id uint32) int {
	if c.tail < c.sent || c.tail < 0 {
		return 0
	}
	h := c.out[c.tail:]
	if binary.BigEndian.Uint32(h[5:]) != id {
		return 0
	}
	return maxFrame - (int(h[0])<<16 | int(h[1])<<8 | int(h[2]))
}

func (c *conn) patchTail(n int) {
	h := c.out[c.tail:]
	n += int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	h[0], h[1], h[2] = byte(n>>16), byte(n>>8), byte(n)
}

// writeEnd sends END_STREAM: on the last DATA frame if it is still here, else
// on an empty one.
func (c *conn) writeEnd(id uint32) {
	if c.tail >= c.sent && c.tail >= 0 && binary.BigEndian.Uint32(c.out[c.tail+5:]) == id {
		c.out[c.tail+4] |= byte(flagEndStream)
		c.tail = -1
		return
	}
	c.frame(frameData, flagEndStream, id, 0)
}

// writeHeaders sends a header block, in as many frames as it needs (RFC 9113
// section 6.10).
func (c *conn) writeHeaders(id uint32, block []byte, end bool) {
	kind, flags := frameHeaders, uint8(0)
	if end {
		flags = flagEndStream
	}
	for {
		n := min(len(block), maxFrame)
		if n == len(block) {
			flags |= flagEndHeaders
		}
		c.frame(kind, flags, id, n)
		c.out = append(c.out, block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return
		}
		kind, flags = frameContinuation, 0
	}
}

// Flush implements bridge.Flusher: the end of a turn.
func (c *conn) Flush() {
	c.asked = false
	c.flush()
}

// unblock says that the transport takes again.
func (c *conn) unblock() {
	if c.blocked {
		c.sh.mem.add(-cap(c.out))
		c.blocked = false
	}
}

// flush hands the transport what there is.
func (c *conn) flush() {
	if c.blocked || len(c.out) == c.sent || c.phase == phaseClosed {
		return
	}
	all := len(c.out) - c.sent
	n := c.t.Write(c.out[c.sent:])
	if n == all {
		c.outData, c.tail, c.outStall = 0, -1, 0
		c.sh.loop.Free(c.out)
		c.out, c.sent = nil, 0
		return
	}
	c.blocked = true
	c.sh.mem.add(cap(c.out))
	c.sent += n
	c.outData = int(int64(c.outData) * int64(all-n) / int64(all))
	if n > 0 || c.outStall == 0 {
		c.outStall = c.sh.now()
		c.wake(c.outStall + int64(c.sh.lim.stall))
	}
}
