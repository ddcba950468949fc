package h2

// frameHead is the 9-octet head of a frame (RFC 9113 section 4.1).
type frameHead struct {
	length uint32
	id     uint32
	kind   frameType
	flags  uint8
}

func parseHead(p []byte) frameHead {
	_ = p[8]
	return frameHead{
		length: uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2]),
		kind:   frameType(p[3]),
		flags:  uint8(p[4]),
		id:     (uint32(p[5])<<24 | uint32(p[6])<<16 | uint32(p[7])<<8 | uint32(p[8])) & maxStreamID,
	}
}

// mode is what the next octets of the input are.
type mode uint8

const (
	modeHead   mode = iota
	modePadLen      // the Pad Length octet of a DATA frame
	modeData        // content of a DATA frame
	modeSkip        // padding, or a frame that is ignored
	modeFrame       // a frame that comes in pieces
)

// reader is where reading stands between two calls of feed.
type reader struct {
	mode    mode
	heads   uint8 // octets of part or of the preface
	part    [9]byte
	left    uint32    // octets of the frame still to come, or of its content in modeData
	pad     uint32    // padding after the content
	head    frameHead // in modePadLen, modeData and modeFrame
	data    *stream   // receiver of the content in modeData; nil: dropped
	frame   []byte    // the pieces of modeFrame, from Loop.Buffer
	blocks  []byte    // the fragments of a header block, from Loop.Buffer
	block   uint32    // stream of the header block in progress, 0 if none
	frames  uint8     // CONTINUATION frames of it
	end     bool      // its HEADERS had END_STREAM
	selfDep bool      // its HEADERS depended on itself
}

// partial reports whether something that must come at once is incomplete.
func (r *reader) partial() bool {
	return r.heads > 0 || r.mode == modeFrame || r.block != 0
}

// drop frees what is held.
func (r *reader) drop(sh *shard) {
	if r.frame != nil {
		sh.loop.Free(r.frame)
		r.frame = nil
	}
	if r.blocks != nil {
		sh.mem.add(-cap(r.blocks))
		sh.loop.Free(r.blocks)
		r.blocks = nil
	}
}

// feed reads p as far as the bound on control output allows and returns how
// much that was.
func (c *conn) feed(p []byte) (int, *ConnectionError) {
	all := len(p)
	for len(p) > 0 {
		if c.phase >= phaseClosing {
			return all, nil
		}
		if c.ctlQueued() > outCtlMax {
			return all - len(p), nil
		}
		var n int
		var err error
		switch {
		case c.phase == phasePreface:
			n, err = c.readPreface(p)
		case c.in.mode == modeHead:
			n, err = c.readHead(p)
		case c.in.mode == modeData:
			n, err = c.readData(p)
		case c.in.mode == modeSkip:
			n = int(min(uint32(len(p)), c.in.left))
			c.skipFrame(c.in.left - uint32(n))
		case c.in.mode == modePadLen:
			n = 1
			err = c.readPadLen(p[0])
		default:
			n, err = c.readFrame(p)
		}
		p = p[n:]
		if e, ok := err.(*StreamError); ok {
			err = c.streamFailed(e)
		}
		if e, ok := err.(*ConnectionError); ok {
			return all, e
		}
	}
	return all, nil
}

// readPreface compares the client's preface (RFC 9113 section 3.4).
func (c *conn) readPreface(p []byte) (int, error) {
	r := &c.in
	want := clientPreface[r.heads:]
	n := min(len(want), len(p))
	if string(p[:n]) != want[:n] {
		return n, connErr(errProtocol, "not the client preface")
	}
	r.heads += uint8(n)
	if n == len(want) {
		r.heads = 0
		c.phase = phaseSettings
	}
	return n, nil
}

// readHead reads a frame head and decides what follows it.
func (c *conn) readHead(p []byte) (int, error) {
	r := &c.in
	n := 9
	var h frameHead
	if r.heads == 0 && len(p) >= 9 {
		h = parseHead(p)
	} else {
		n = copy(r.part[r.heads:], p)
		if r.heads += uint8(n); r.heads < 9 {
			return n, nil
		}
		r.heads = 0
		h = parseHead(r.part[:])
	}
	if err := c.checkHead(h); err != nil {
		return n, err
	}
	r.head, r.left = h, h.length
	if r.block == 0 {
		c.partial = 0 // the clock runs for one frame or header block at a time
	}
	if h.kind == frameData {
		return n, c.dataHead(h)
	}
	if h.kind > frameContinuation {
		c.skipFrame(h.length) // RFC 9113 section 5.5
		return n, c.calm(otherFrames)
	}
	if rest := p[n:]; uint32(len(rest)) >= h.length {
		return n + int(h.length), c.handle(h, rest[:h.length])
	}
	r.mode = modeFrame
	return n, nil
}

// readFrame collects a frame that comes in pieces.
func (c *conn) readFrame(p []byte) (int, error) {
	r := &c.in
	n := int(min(uint32(len(p)), r.left))
	if r.frame == nil {
		r.frame = c.sh.loop.Buffer(int(r.head.length))
	}
	r.frame = append(r.frame, p[:n]...)
	if r.left -= uint32(n); r.left > 0 {
		return n, nil
	}
	r.mode = modeHead
	frame := r.frame
	r.frame = nil
	err := c.handle(r.head, frame)
	c.sh.loop.Free(frame)
	return n, err
}

// skipFrame drops the next n octets.
func (c *conn) skipFrame(n uint32) {
	c.in.left = n
	c.in.mode = modeSkip
	if n == 0 {
		c.in.mode = modeHead
	}
}

// dataHead takes a DATA frame into account by its head: the whole length
// counts for flow control (RFC 9113 section 6.1). The content follows.
func (c *conn) dataHead(h frameHead) error {
	r := &c.in
	n := int32(h.length)
	if n > c.recvLeft {
		return connErr(errFlow, "DATA over the connection window")
	}
	c.recvLeft -= n
	if c.recvLeft < connWindow/2 {
		// Returned at receipt: one stuck stream never slows its neighbours.
		c.sendWindowUpdate(0, connWindow-c.recvLeft)
		c.recvLeft = connWindow
	}
	if h.length == 0 && h.flags&flagEndStream == 0 {
		if err := c.calm(emptyData); err != nil {
			return err
		}
	}
	s, err := c.dataStream(h)
	if s == nil || err != nil {
		c.skipFrame(h.length)
		return err
	}
	s.recvLeft -= n
	r.data, r.pad, r.mode = s, 0, modeData
	if h.flags&flagPadded != 0 {
		if h.length == 0 {
			return connErr(errSize, "padded DATA without Pad Length")
		}
		r.mode = modePadLen
	} else if h.length == 0 {
		return c.dataOver()
	}
	return nil
}

// dataStream finds who gets the content. nil without an error: nobody.
func (c *conn) dataStream(h frameHead) (*stream, error) {
	if h.id > c.lastID || h.id&1 == 0 {
		return nil, connErr(errProtocol, "DATA on an idle stream")
	}
	s := c.streams[h.id]
	switch {
	case s == nil:
		// RFC 9113 section 5.1: what was under way when we reset the stream
		// is dropped. Else section 6.1.
		if how := c.closed.how(h.id); how == closedByUs || how == closedUnknown {
			return nil, c.strayData(h)
		}
		return nil, streamErr(h.id, errClosed, "DATA on a closed stream")
	case s.has(isCut):
		return nil, c.strayData(h)
	case s.has(recvEnded):
		return nil, streamErr(h.id, errClosed, "DATA after END_STREAM")
	case int32(h.length) > s.recvLeft:
		return nil, streamErr(h.id, errFlow, "DATA over the stream's window")
	}
	return s, nil
}

// strayData drops DATA that was under way when we reset its stream. What the
// windows of those streams allowed is honest; beyond that there is a bound.
func (c *conn) strayData(h frameHead) error {
	if c.stray > 0 {
		c.stray -= int64(max(h.length, 1))
		return nil
	}
	return c.calm(otherFrames)
}

func (c *conn) readPadLen(n byte) error {
	r := &c.in
	r.left--
	if uint32(n) > r.left {
		return connErr(errProtocol, "padding over the frame") // RFC 9113 section 6.1
	}
	r.pad = uint32(n)
	r.left -= r.pad
	r.data.credit(int(n) + 1) // padding is nobody's to take
	r.mode = modeData
	if r.left == 0 {
		return c.dataOver()
	}
	return nil
}

// readData hands content to its stream as it comes.
func (c *conn) readData(p []byte) (int, error) {
	r := &c.in
	n := int(min(uint32(len(p)), r.left))
	r.left -= uint32(n)
	var err error
	if s := r.data; s != nil && !s.has(isCut) {
		err = s.content(p[:n])
	}
	if r.left > 0 {
		return n, err
	}
	if err != nil {
		r.data = nil // the stream is lost: nobody hears of its end
	}
	if end := c.dataOver(); end != nil {
		err = end
	}
	return n, err
}

// dataOver ends a DATA frame: its padding is skipped, its END_STREAM obeyed.
func (c *conn) dataOver() error {
	r := &c.in
	s := r.data
	r.data = nil
	c.skipFrame(r.pad)
	if s != nil && r.head.flags&flagEndStream != 0 && !s.has(isCut) {
		return s.remoteEnd()
	}
	return nil
}
