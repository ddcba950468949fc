package h1

import (
	"errors"
	"time"

	"wsgate/bridge"
)

const (
	// finishTime is how long a connection whose exchange is over may take to end.
	finishTime = 2 * time.Second
	// contentTimeout is how long a backend may send nothing of its answer's content.
	contentTimeout = 30 * time.Second
)

var (
	errTruncated = errors.New("content ends before its length")
	errIdle      = errors.New("content stands still")
)

// content is the content of a backend's final answer: the Stream of a Refusal
// and the Far of its connection. It decodes the framing and holds nothing back.
type content struct {
	// Immutable.
	l    bridge.Loop
	sock socket

	body  body
	far   bridge.Far
	timer bridge.Timer
	full  bool // far does not take; its turn to call Resume
	over  bool // the connection is given up
	early bool // the connection ended before Bind
	fault *bridge.ResetError
}

var _ bridge.Stream = (*content)(nil)

// Bind implements bridge.Stream.
func (c *content) Bind(far bridge.Far) {
	c.far = far
	if c.early || c.fault != nil {
		c.l.Post(c.deliverEarly)
		return
	}
	c.timer.Fire = c.expired
	c.l.After(contentTimeout, &c.timer)
	c.sock.Bind(c)
}

func (c *content) deliverEarly() {
	switch {
	case c.over:
	case c.fault != nil:
		c.Broken(c.fault)
	default:
		c.End()
	}
}

// Resume implements bridge.Stream.
func (c *content) Resume() {
	if !c.over {
		c.full = false
		c.sock.Resume()
	}
}

// Reset implements bridge.Stream.
func (c *content) Reset(r bridge.Reason) {
	if !c.over {
		c.close()
		c.sock.Reset(r)
	}
}

func (c *content) close() {
	c.over = true
	c.timer.Stop()
}

// Want implements bridge.Far. Framing comes on top of what is wanted.
func (c *content) Want() int {
	n := 0
	if !c.over {
		n = c.far.Want()
	}
	if c.full = n <= 0; c.full {
		return 0
	}
	return n + 64
}

// Data implements bridge.Far.
func (c *content) Data(p []byte) int {
	n := 0
	for n < len(p) && !c.over {
		k, data, err := c.body.next(p[n:], len(p))
		if err != nil {
			c.fail(bridge.ReasonProtocol, err)
			return len(p)
		}
		n += k
		if len(data) > 0 {
			if took := c.far.Data(data); took < len(data) {
				c.body.back(len(data) - took)
				c.full = true
				return n - (len(data) - took)
			}
		}
		if c.body.ended && !c.over {
			// RFC 9112 section 9.2: octets behind the answer belong to
			// nobody, and the connection is not used again.
			c.finish()
			return len(p)
		}
	}
	if !c.over {
		c.l.After(contentTimeout, &c.timer)
	}
	return n
}

func (c *content) finish() {
	c.close()
	c.sock.Finish(finishTime)
	c.far.End()
}

// End implements bridge.Far: an end in order only where the content lasts to
// the end of the connection (RFC 9112 section 8).
func (c *content) End() {
	switch {
	case c.over:
	case c.far == nil:
		c.early = true
	case c.body.kind == frameClose:
		c.finish()
	default:
		c.fail(bridge.ReasonTruncated, errTruncated)
	}
}

// Broken implements bridge.Far.
func (c *content) Broken(e *bridge.ResetError) {
	switch {
	case c.over:
	case c.far == nil:
		c.fault = e
	default:
		c.close()
		c.far.Broken(e)
	}
}

// Writable implements bridge.Far; nothing is written here.
func (c *content) Writable() {}

func (c *content) expired() {
	if c.full { // not the backend's fault; who takes has its own clock
		c.l.After(contentTimeout, &c.timer)
		return
	}
	c.fail(bridge.ReasonTimeout, errIdle)
}

func (c *content) fail(r bridge.Reason, err error) {
	c.close()
	c.sock.Reset(r)
	c.far.Broken(&bridge.ResetError{Reason: r, Remote: r != bridge.ReasonTimeout, Cause: err})
}
