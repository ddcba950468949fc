package h3

// uniKind is what a unidirectional stream of the client is for.
type uniKind uint8

const (
	uniUnread uniKind = iota // its type is not read yet
	uniControl
	uniEncoder
	uniDecoder
	uniIgnored
)

// uni is a unidirectional stream of the client (RFC 9114 section 6.2).
type uni struct {
	c       *conn
	q       quicStream
	kind    uniKind
	partial []byte // of the type, or of a frame's payload, or of an instruction
	fr      frames
}

// maxControlFrame bounds a frame on the control stream.
const maxControlFrame = 16 << 10

// data implements receiver. All is taken: what these streams carry is small, and
// bounded by what is gathered.
func (u *uni) data(p []byte, _ bool) int {
	if !u.c.over {
		if err := u.feed(p); err != nil {
			u.c.fail(err)
		}
	}
	return len(p)
}

func (u *uni) feed(p []byte) error {
	if u.kind == uniUnread {
		u.partial = append(u.partial, p...)
		t, n := varint(u.partial)
		if n == 0 {
			return nil
		}
		p, u.partial = u.partial[n:], nil
		if err := u.begin(t); err != nil {
			return err
		}
	}
	switch u.kind {
	case uniControl:
		return u.control(p)
	case uniEncoder:
		return u.encoder(p)
	case uniDecoder:
		return u.decoder(p)
	}
	return nil
}

// begin learns what the stream is for.
func (u *uni) begin(t uint64) error {
	c := u.c
	once := func(seen *bool, kind uniKind) error {
		if *seen {
			// RFC 9114 section 6.2.1, RFC 9204 section 4.2.
			return connErr(errStreamCreation, "a second stream of a kind that exists once")
		}
		*seen, u.kind = true, kind
		return nil
	}
	switch t {
	case streamControl:
		return once(&c.hasControl, uniControl)
	case streamEncoder:
		return once(&c.hasEncoder, uniEncoder)
	case streamDecoder:
		return once(&c.hasDecoder, uniDecoder)
	case streamPush:
		return connErr(errStreamCreation, "push stream of a client") // RFC 9114 section 6.2.2
	}
	// RFC 9114 section 6.2: unknown types are not errors.
	u.kind = uniIgnored
	u.q.stop(errStreamCreation)
	u.q.release()
	return c.calm(uniStreams)
}

// control reads frames of the control stream.
func (u *uni) control(p []byte) error {
	for len(p) > 0 {
		if !u.fr.begun {
			n, whole := u.fr.head(p)
			p = p[n:]
			if !whole {
				return nil
			}
			if err := u.beginFrame(); err != nil {
				return err
			}
		}
		n := int(min(uint64(len(p)), u.fr.left))
		if u.keeps() {
			u.partial = append(u.partial, p[:n]...)
		}
		p = p[n:]
		if u.fr.left -= uint64(n); u.fr.left > 0 {
			return nil
		}
		u.fr.begun = false
		payload := u.partial
		u.partial = nil
		if err := u.frame(u.fr.typ, payload); err != nil {
			return err
		}
	}
	return nil
}

// keeps reports whether the payload of the present frame matters.
func (u *uni) keeps() bool {
	switch u.fr.typ {
	case frameSettings, frameGoaway, frameMaxPushID, frameCancelPush:
		return true
	}
	return false
}

// beginFrame judges the head of a frame on the control stream.
func (u *uni) beginFrame() error {
	c, t := u.c, u.fr.typ
	switch {
	case !c.settled && t != frameSettings:
		return connErr(errMissingSettings, "the first frame of the control stream is not SETTINGS") // RFC 9114 section 6.2.1
	case c.settled && t == frameSettings:
		return connErr(errFrameUnexpected, "a second SETTINGS") // RFC 9114 section 7.2.4
	case t == frameData || t == frameHeaders || t == framePushPromise || ofHTTP2(t):
		return connErr(errFrameUnexpected, "frame that may not be on the control stream") // RFC 9114 section 7.2
	case u.keeps() && u.fr.left > maxControlFrame:
		return connErr(errExcessiveLoad, "frame on the control stream too large")
	case t == frameSettings:
		c.settled = true
		return nil
	}
	return c.calm(otherFrames)
}

// frame obeys a whole frame.
func (u *uni) frame(t uint64, p []byte) error {
	switch t {
	case frameSettings:
		return u.c.settings(p)
	case frameGoaway, frameMaxPushID, frameCancelPush:
		v, n := varint(p)
		if n == 0 || n != len(p) {
			return connErr(errFrame, "frame is not one integer") // RFC 9114 section 7.1
		}
		return u.c.push(t, v)
	}
	return nil
}

// settings obeys SETTINGS (RFC 9114 section 7.2.4).
func (c *conn) settings(p []byte) error {
	seen := make(map[uint64]bool)
	for len(p) > 0 {
		id, n := varint(p)
		v, k := varint(p[n:])
		if n == 0 || k == 0 {
			return connErr(errFrame, "SETTINGS is cut short")
		}
		p = p[n+k:]
		switch {
		case seen[id]:
			return connErr(errSettings, "setting twice")
		case id >= 0x02 && id <= 0x05: // RFC 9114 section 7.2.4.1
			return connErr(errSettings, "setting of HTTP/2")
		case id == settingConnect && v > 1: // RFC 9220 section 5, RFC 8441 section 3
			return connErr(errSettings, "SETTINGS_ENABLE_CONNECT_PROTOCOL is neither 0 nor 1")
		}
		seen[id] = true
	}
	return nil
}

// push obeys frames about pushes, of which there are none, and the client's
// GOAWAY, which is about them (RFC 9114 sections 5.2, 7.2.3 and 7.2.7).
func (c *conn) push(t, v uint64) error {
	switch t {
	case frameMaxPushID:
		if c.hasMaxPush && v < c.maxPush {
			return connErr(errID, "MAX_PUSH_ID goes down")
		}
		c.hasMaxPush, c.maxPush = true, v
	case frameCancelPush: // nothing was promised
		return connErr(errID, "CANCEL_PUSH of no push")
	case frameGoaway:
		if c.hasGoaway && v > c.peerGoaway {
			return connErr(errID, "GOAWAY goes up")
		}
		c.hasGoaway, c.peerGoaway = true, v
	}
	return nil
}

// encoder reads the client's QPACK encoder stream. Our table has no capacity, so
// nothing may be inserted (RFC 9204 sections 3.2.3 and 4.3).
func (u *uni) encoder(p []byte) error {
	for _, b := range p {
		// Set Dynamic Table Capacity to 0.
		if b != 0x20 {
			return connErr(errEncoderStream, "insertion into a table without capacity")
		}
		if err := u.c.calm(otherFrames); err != nil {
			return err
		}
	}
	return nil
}

// decoder reads the client's QPACK decoder stream. Our encoder refers to no
// table, so there is nothing to acknowledge (RFC 9204 section 4.4).
func (u *uni) decoder(p []byte) error {
	for _, b := range p {
		switch {
		case len(u.partial) == 0 && b&0xc0 == 0x40: // Stream Cancellation
			if b&0x3f == 0x3f {
				u.partial = append(u.partial, b)
			}
			if err := u.c.calm(otherFrames); err != nil {
				return err
			}
		case len(u.partial) > 0: // the rest of its integer (RFC 7541 section 5.1)
			u.partial = append(u.partial, b)
			if b&0x80 == 0 {
				u.partial = u.partial[:0]
			} else if len(u.partial) > 10 {
				return connErr(errDecoderStream, "integer too long")
			}
		default:
			return connErr(errDecoderStream, "acknowledgment of what was never sent")
		}
	}
	return nil
}

// critical reports whether the connection cannot be without the stream (RFC 9114
// section 6.2.1, RFC 9204 section 4.2).
func (u *uni) critical() bool { return u.kind != uniUnread && u.kind != uniIgnored }

// ended implements receiver.
func (u *uni) ended() { u.gone() }

// wasReset implements receiver.
func (u *uni) wasReset(ErrCode) { u.gone() }

func (u *uni) gone() {
	if u.critical() {
		u.c.fail(connErr(errClosedCritical, "critical stream ends"))
		return
	}
	u.q.release()
	if u.kind == uniUnread { // RFC 9114 section 6.2: may end before its type
		if err := u.c.calm(uniStreams); err != nil {
			u.c.fail(err)
		}
	}
}

// stopped implements receiver.
func (u *uni) stopped(ErrCode) {}

// writable implements receiver.
func (u *uni) writable() {}

// own is the sending half of our control stream as its receiver: the client may
// not stop it.
type own struct{ c *conn }

func (o own) data(p []byte, _ bool) int { return len(p) }
func (o own) ended()                    {}
func (o own) wasReset(ErrCode)          {}
func (o own) writable()                 {}

// stopped implements receiver (RFC 9114 section 6.2.1).
func (o own) stopped(ErrCode) {
	o.c.fail(connErr(errClosedCritical, "the control stream is stopped"))
}
