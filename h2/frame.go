package h2

import (
	"encoding/binary"
)

// settings obeys the client's SETTINGS (RFC 9113 section 6.5).
func (c *conn) settings(h frameHead, p []byte) error {
	if h.flags&flagAck != 0 {
		if !c.settled {
			c.settled = true
			c.applyOwnWindow()
		}
		return nil
	}
	if err := c.calm(settingsFrame); err != nil {
		return err
	}
	for ; len(p) >= 6; p = p[6:] {
		if err := c.setting(uint16(binary.BigEndian.Uint16(p)), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	if c.phase == phaseSettings {
		c.phase = phaseOpen
	}
	// RFC 9113 section 6.5.3: one acknowledgement for each frame, at once and
	// before anything that the new values allow.
	c.frame(frameSettings, flagAck, 0, 0)
	c.share()
	return nil
}

// setting obeys one parameter (RFC 9113 section 6.5.2).
func (c *conn) setting(id uint16, v uint32) error {
	switch id {
	case settingTableSize:
		// Our encoder never fills a table. After a smaller size the next block
		// has to say so all the same (RFC 7541 section 4.2).
		c.tableNote = c.tableNote || v < c.peerTable
		c.peerTable = v
	case settingPush:
		if v > 1 {
			return connErr(errProtocol, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
		}
	case settingWindow:
		if v > maxWindow {
			return connErr(errFlow, "SETTINGS_INITIAL_WINDOW_SIZE over 2^31-1")
		}
		return c.setPeerWindow(int32(v))
	case settingFrameSize:
		if v < maxFrame || v > 1<<24-1 {
			return connErr(errProtocol, "SETTINGS_MAX_FRAME_SIZE out of range")
		}
	case settingConnect:
		// RFC 8441 section 3: the value has to be 0 or 1; it does not affect a server.
		if v > 1 {
			return connErr(errProtocol, "SETTINGS_ENABLE_CONNECT_PROTOCOL is neither 0 nor 1")
		}
	case settingNoPriorities:
		if v > 1 { // RFC 9218 section 2.1
			return connErr(errProtocol, "SETTINGS_NO_RFC7540_PRIORITIES is neither 0 nor 1")
		}
	}
	return nil
}

// setPeerWindow moves the windows of all streams by the difference; they may
// become negative (RFC 9113 section 6.9.2).
func (c *conn) setPeerWindow(v int32) error {
	delta := int64(v) - int64(c.peerWindow)
	c.peerWindow = v
	for _, s := range c.streams {
		w := int64(s.sendWin) + delta
		if w > maxWindow {
			return connErr(errFlow, "SETTINGS_INITIAL_WINDOW_SIZE moves a window over 2^31-1")
		}
		s.sendWin = int32(w)
		if delta > 0 {
			c.opened(s)
		}
	}
	return nil
}

// applyOwnWindow is the moment from which the client holds to our
// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.5.3).
func (c *conn) applyOwnWindow() {
	delta := c.ownWindow - c.window
	c.window = c.ownWindow
	if delta == 0 {
		return
	}
	for _, s := range c.streams {
		s.recvLeft += delta
		s.recvMax += delta
	}
}

// ping answers (RFC 9113 section 6.7).
func (c *conn) ping(h frameHead, p []byte) error {
	if h.flags&flagAck != 0 {
		if c.drainPing && string(p) == drainPayload {
			c.drainFinal()
		}
		return nil
	}
	if err := c.calm(pingFrame); err != nil {
		return err
	}
	c.frame(framePing, flagAck, 0, 8)
	c.out = append(c.out, p...)
	return nil
}

// windowUpdate opens a window of ours (RFC 9113 section 6.9).
func (c *conn) windowUpdate(h frameHead, p []byte) error {
	if c.wuCredit > 0 {
		c.wuCredit--
	} else if err := c.calm(windowFrames); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(p) & maxWindow)
	if h.id == 0 {
		if n == 0 {
			return connErr(errProtocol, "WINDOW_UPDATE of 0 on the connection")
		}
		if int64(c.sendWin)+n > maxWindow {
			return connErr(errFlow, "connection window over 2^31-1")
		}
		c.sendWin += int32(n)
		c.share()
		return nil
	}
	if h.id > c.lastID || h.id&1 == 0 {
		return connErr(errProtocol, "WINDOW_UPDATE on an idle stream")
	}
	s := c.streams[h.id]
	if s == nil || s.has(isCut) {
		return c.calm(otherFrames) // RFC 9113 section 5.1: may come after the end of a stream
	}
	if n == 0 {
		return streamErr(h.id, errProtocol, "WINDOW_UPDATE of 0")
	}
	if int64(s.sendWin)+n > maxWindow {
		return streamErr(h.id, errFlow, "window over 2^31-1")
	}
	s.sendWin += int32(n)
	c.opened(s)
	c.share()
	return nil
}

// rstStream is the client's end of a stream (RFC 9113 section 6.4).
func (c *conn) rstStream(h frameHead, p []byte) error {
	if h.id > c.lastID || h.id&1 == 0 {
		return connErr(errProtocol, "RST_STREAM on an idle stream")
	}
	s := c.streams[h.id]
	if s == nil || s.has(isCut) {
		return c.calm(otherFrames)
	}
	return c.resetByPeer(s, ErrCode(binary.BigEndian.Uint32(p)))
}

// priority is read for its syntax only (RFC 9113 section 5.3.2).
func (c *conn) priority(h frameHead, p []byte) error {
	if err := c.calm(otherFrames); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(p)&maxStreamID == h.id {
		return streamErr(h.id, errProtocol, "stream depends on itself")
	}
	return nil
}

// checkHead judges what a frame head alone tells (RFC 9113 sections 4.2 and 6).
func (c *conn) checkHead(h frameHead) error {
	if h.length > maxFrame {
		return connErr(errSize, "frame over SETTINGS_MAX_FRAME_SIZE")
	}
	if c.phase == phaseSettings && (h.kind != frameSettings || h.flags&flagAck != 0) {
		return connErr(errProtocol, "first frame is not SETTINGS") // RFC 9113 section 3.4
	}
	if c.in.block != 0 && (h.kind != frameContinuation || h.id != c.in.block) {
		return connErr(errProtocol, "header block interrupted") // RFC 9113 section 6.10
	}
	switch h.kind {
	case frameData, frameHeaders:
		if h.id == 0 {
			return connErr(errProtocol, "frame needs a stream")
		}
	case frameContinuation:
		if c.in.block == 0 {
			return connErr(errProtocol, "CONTINUATION without HEADERS")
		}
	case framePriority:
		if h.id == 0 {
			return connErr(errProtocol, "PRIORITY needs a stream")
		}
	case frameRSTStream:
		if h.id == 0 {
			return connErr(errProtocol, "RST_STREAM needs a stream")
		}
		if h.length != 4 {
			return connErr(errSize, "RST_STREAM is not 4 octets")
		}
	case frameSettings:
		return checkSettingsHead(h)
	case framePushPromise:
		return connErr(errProtocol, "PUSH_PROMISE from a client") // RFC 9113 section 8.4
	case framePing:
		if h.id != 0 {
			return connErr(errProtocol, "PING on a stream")
		}
		if h.length != 8 {
			return connErr(errSize, "PING is not 8 octets")
		}
	case frameGoaway:
		if h.id != 0 {
			return connErr(errProtocol, "GOAWAY on a stream")
		}
		if h.length < 8 {
			return connErr(errSize, "GOAWAY under 8 octets")
		}
	case frameWindowUpdate:
		if h.length != 4 {
			return connErr(errSize, "WINDOW_UPDATE is not 4 octets")
		}
	}
	return nil
}

func checkSettingsHead(h frameHead) error {
	switch {
	case h.id != 0:
		return connErr(errProtocol, "SETTINGS on a stream")
	case h.flags&flagAck != 0 && h.length != 0:
		return connErr(errSize, "SETTINGS acknowledgement with content")
	case h.length%6 != 0:
		return connErr(errSize, "SETTINGS length is no multiple of 6")
	}
	return nil
}

// handle obeys a whole frame other than DATA. Types that nobody knows have
// been skipped already (RFC 9113 section 5.5).
func (c *conn) handle(h frameHead, p []byte) error {
	switch h.kind {
	case frameHeaders:
		return c.headers(h, p)
	case frameContinuation:
		return c.continuation(h, p)
	case framePriority:
		if len(p) != 5 { // RFC 9113 section 6.3
			return streamErr(h.id, errSize, "PRIORITY is not 5 octets")
		}
		return c.priority(h, p)
	case frameRSTStream:
		return c.rstStream(h, p)
	case frameSettings:
		return c.settings(h, p)
	case framePing:
		return c.ping(h, p)
	case frameGoaway:
		return c.calm(otherFrames) // the client goes by itself; its streams run to their end
	case frameWindowUpdate:
		return c.windowUpdate(h, p)
	}
	return nil
}
