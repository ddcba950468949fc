package h2

import (
	"golang.org/x/net/http2/hpack"

	"wsgate/bridge"
	"wsgate/internal/head"
)

const (
	maxContinuations = 32 // of one header block; honest clients fill their frames
	bombFactor       = 16 // a block that decodes to more than this many times MaxHeader ends the connection
)

// headScratch collects a decoded header section. It is the shard's and holds
// one section from the start of its decoding until its request is made.
type headScratch struct {
	fields bridge.Fields
	size   int
	limit  int
	over   bool // fields were left out
}

// onField takes one decoded field. Past the limit fields are only counted, so
// that the connection's HPACK state stays right (RFC 9113 section 10.5.1).
func (sh *shard) onField(f hpack.HeaderField) {
	h := &sh.head
	h.size += int(f.Size())
	if h.size > h.limit {
		h.over = true
		return
	}
	h.fields = append(h.fields, bridge.Field{Name: f.Name, Value: f.Value})
}

// headers begins a header block (RFC 9113 section 6.2).
func (c *conn) headers(h frameHead, p []byte) error {
	if h.flags&flagPadded != 0 {
		if len(p) == 0 {
			return connErr(errSize, "padded HEADERS without Pad Length")
		}
		pad := int(p[0])
		if p = p[1:]; pad > len(p) {
			return connErr(errProtocol, "padding over the frame")
		}
		p = p[:len(p)-pad]
	}
	r := &c.in
	r.selfDep = false
	if h.flags&flagPriority != 0 {
		if len(p) < 5 {
			return connErr(errSize, "HEADERS too short for its priority")
		}
		r.selfDep = parseUint31(p) == h.id
		p = p[5:]
	}
	r.end = h.flags&flagEndStream != 0
	if h.flags&flagEndHeaders != 0 {
		return c.endHeaders(h.id, p)
	}
	r.block, r.frames = h.id, 0
	return c.fragment(p)
}

func parseUint31(p []byte) uint32 {
	return (uint32(p[0])<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3])) & maxStreamID
}

// continuation goes on with a header block (RFC 9113 section 6.10).
func (c *conn) continuation(h frameHead, p []byte) error {
	r := &c.in
	if r.frames++; r.frames > maxContinuations {
		c.sh.count.Continuation.Add(1)
		return connErr(errCalm, "too many CONTINUATION")
	}
	if err := c.fragment(p); err != nil {
		return err
	}
	if h.flags&flagEndHeaders == 0 {
		return nil
	}
	blocks := r.blocks
	r.blocks, r.block = nil, 0
	err := c.endHeaders(h.id, blocks)
	if blocks != nil {
		c.sh.mem.add(-cap(blocks))
		c.sh.loop.Free(blocks)
	}
	return err
}

// fragment keeps a piece of a header block, at most twice MaxHeader of them.
func (c *conn) fragment(p []byte) error {
	r := &c.in
	n := len(r.blocks) + len(p)
	if n > 2*c.sh.lim.header || c.sh.mem.full() {
		c.sh.count.HeaderBomb.Add(1)
		return connErr(errCalm, "header block too large")
	}
	if n > cap(r.blocks) {
		b := append(c.sh.loop.Buffer(n), r.blocks...)
		c.sh.mem.add(cap(b))
		if r.blocks != nil {
			c.sh.mem.add(-cap(r.blocks))
			c.sh.loop.Free(r.blocks)
		}
		r.blocks = b
	}
	r.blocks = append(r.blocks, p...)
	return nil
}

// endHeaders decodes a whole header block, whatever becomes of its stream, and
// gives it to who it is for.
func (c *conn) endHeaders(id uint32, block []byte) error {
	h := &c.sh.head
	h.fields, h.size, h.limit, h.over = h.fields[:0], 0, c.sh.lim.header, false
	_, err := c.dec.Write(block)
	if err == nil {
		err = c.dec.Close()
	}
	if err == hpack.ErrStringLength {
		c.sh.count.HeaderBomb.Add(1)
		return connErr(errCalm, "field far over the limit")
	}
	if err != nil {
		return connErr(errCompression, err.Error()) // RFC 9113 section 4.3
	}
	if h.over {
		if h.size > bombFactor*h.limit {
			c.sh.count.HeaderBomb.Add(1)
			return connErr(errCalm, "header block decodes to far too much")
		}
		if err := c.calm(headerBomb); err != nil {
			return err
		}
	}
	if s := c.streams[id]; s != nil {
		return c.laterHeaders(s)
	}
	return c.newStream(id)
}

// laterHeaders judges HEADERS on a stream that exists: trailers or an error.
func (c *conn) laterHeaders(s *stream) error {
	r := &c.in
	switch {
	case s.has(isCut):
		return c.calm(otherFrames)
	case s.has(recvEnded):
		return streamErr(s.id, errClosed, "HEADERS after END_STREAM") // RFC 9113 section 5.1
	case r.selfDep:
		return streamErr(s.id, errProtocol, "stream depends on itself")
	case s.web == nil:
		// RFC 9113 section 8.5: only DATA and stream management on a tunnel.
		return streamErr(s.id, errProtocol, "HEADERS on a tunnel")
	case !r.end:
		return streamErr(s.id, errProtocol, "trailers without END_STREAM") // RFC 9113 section 8.1
	case c.sh.head.over:
		return streamErr(s.id, errProtocol, "trailers over the limit")
	}
	trailer, err := head.Trailers(c.sh.head.fields)
	if err != "" {
		return streamErr(s.id, errProtocol, err)
	}
	s.web.trailer = trailer
	return s.remoteEnd()
}

// newStream judges HEADERS on an id without a stream (RFC 9113 section 5.1.1).
func (c *conn) newStream(id uint32) error {
	r := &c.in
	if id&1 == 0 {
		return connErr(errProtocol, "HEADERS on an even stream id")
	}
	if id <= c.lastID {
		return c.oldStream(id)
	}
	c.skipped = c.skipped || id != c.lastID+2 && !(c.lastID == 0 && id == 1)
	c.lastID = id
	c.sh.count.Streams.Add(1)
	c.idleSince = c.lastRead
	// Each stream may bring a few frames at its start and across its end.
	c.budget.earn(otherFrames, 4)
	c.wuCredit = min(c.wuCredit+4, wuCreditMax)
	switch {
	case id > c.goaway:
		// RFC 9113 section 6.8: nothing of it was or will be processed.
		c.refuse(id)
		return c.calm(refusedStream)
	case r.selfDep:
		return streamErr(id, errProtocol, "stream depends on itself")
	case int(c.slots) >= c.sh.lim.streams:
		// RFC 9113 section 5.1.2.
		c.sh.count.StreamLimit.Add(1)
		c.refuse(id)
		return c.calm(refusedStream)
	case c.sh.head.over:
		c.sh.count.HeaderLimit.Add(1)
		c.answer(id, 431, codeFieldsTooLarge, r.end)
		return nil
	}
	return c.request(id, r.end)
}

// oldStream judges HEADERS on a stream that is closed.
func (c *conn) oldStream(id uint32) error {
	switch c.closed.how(id) {
	case closedByUs:
		return c.calm(otherFrames) // RFC 9113 section 5.1: was under way
	case closedByPeer:
		return streamErr(id, errClosed, "HEADERS after RST_STREAM")
	case closedUnknown:
		if c.skipped {
			return connErr(errProtocol, "stream ids go down") // RFC 9113 section 5.1.1
		}
		return c.calm(otherFrames)
	}
	// RFC 9113 section 5.1 lets this be an error of the connection; after an
	// orderly end nothing of it can have been under way.
	return connErr(errClosed, "HEADERS on a closed stream")
}

// refuse says that nothing was processed (RFC 9113 section 8.7).
func (c *conn) refuse(id uint32) {
	c.rst(id, errRefused)
	c.remember(id, closedByUs)
}

// closing says how a stream that is no more was closed.
type closing uint8

const (
	closedUnknown closing = iota // too long ago, or never opened
	closedInOrder
	closedByUs
	closedByPeer
)

// closedIDs remembers the last streams that closed, so that frames which were
// under way are told from wrong ones. An entry is id>>1 and how in two bits.
type closedIDs struct {
	next uint8
	ids  [64]uint32
}

func (c *conn) remember(id uint32, how closing) {
	if c.closed == nil {
		c.closed = new(closedIDs)
	}
	k := c.closed
	k.ids[k.next%64] = id>>1<<2 | uint32(how)
	k.next++
}

func (k *closedIDs) how(id uint32) closing {
	if k != nil {
		for _, e := range k.ids {
			if e>>2 == id>>1 && e&3 != 0 {
				return closing(e & 3)
			}
		}
	}
	return closedUnknown
}
