package rawpeer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/net/http2"
)

// WantStatus waits for the final head of a stream and compares its status.
func (c *H2) WantStatus(id uint32, status int) (Fields, error) {
	want := fmt.Sprintf(":status %d on stream %d", status, id)
	var f Fields
	var got string
	err := c.await(want, func() bool {
		s := c.stream(id)
		if f = s.Final(); f != nil {
			return true
		}
		if s.Reset {
			got = fmt.Sprintf("RST_STREAM %v", s.Code)
		} else if s.End {
			got = "END_STREAM"
		}
		return got != ""
	})
	switch {
	case err != nil:
		return nil, err
	case f == nil:
		return nil, mismatch(want, "%s", got)
	case f.Get(":status") != fmt.Sprint(status):
		return f, mismatch(want, ":status %s", f.Get(":status"))
	}
	return f, nil
}

// WantData waits for exactly p as the next octets of a stream.
func (c *H2) WantData(id uint32, p []byte) error {
	want := fmt.Sprintf("%d octets %s on stream %d", len(p), show(p), id)
	var got []byte
	end := ""
	err := c.await(want, func() bool {
		s := c.stream(id)
		n := min(len(s.Data), len(p))
		got = s.Data[:n]
		if n == len(p) || !bytes.Equal(got, p[:n]) {
			s.Data = s.Data[n:]
			return true
		}
		if s.Reset {
			end = fmt.Sprintf(" then RST_STREAM %v", s.Code)
		} else if s.End {
			end = " then END_STREAM"
		}
		return end != ""
	})
	if err != nil {
		var m *Mismatch
		if errors.As(err, &m) {
			m.Got += fmt.Sprintf(" after %d octets %s", len(got), show(got))
		}
		return err
	}
	if !bytes.Equal(got, p) {
		return mismatch(want, "%d octets %s%s", len(got), show(got), end)
	}
	return nil
}

func show(p []byte) string {
	if len(p) > 48 {
		return fmt.Sprintf("%q…", p[:48])
	}
	return fmt.Sprintf("%q", p)
}

// WantEnd waits for END_STREAM and that no octet is left before it.
func (c *H2) WantEnd(id uint32) error {
	want := fmt.Sprintf("END_STREAM on stream %d", id)
	got := ""
	err := c.await(want, func() bool {
		s := c.stream(id)
		switch {
		case len(s.Data) > 0:
			got = fmt.Sprintf("%d more octets %s", len(s.Data), show(s.Data))
		case s.End:
			return true
		case s.Reset:
			got = fmt.Sprintf("RST_STREAM %v", s.Code)
		}
		return got != ""
	})
	if err == nil && got != "" {
		return mismatch(want, "%s", got)
	}
	return err
}

// WantReset waits for RST_STREAM with one of the codes, and no END_STREAM before it.
func (c *H2) WantReset(id uint32, codes ...http2.ErrCode) error {
	want := fmt.Sprintf("RST_STREAM %v on stream %d", codes, id)
	var s H2Stream
	err := c.await(want, func() bool { s = *c.stream(id); return s.Reset })
	if err != nil {
		if s.End {
			return mismatch(want, "END_STREAM")
		}
		if len(s.Heads) > 0 {
			return mismatch(want, ":status %s and no reset", s.Heads[len(s.Heads)-1].Get(":status"))
		}
		return err
	}
	for _, code := range codes {
		if s.Code == code {
			return nil
		}
	}
	return mismatch(want, "RST_STREAM %v", s.Code)
}

// WantHeads waits until a stream has n header sections, or is over.
func (c *H2) WantHeads(id uint32, n int) (H2Stream, error) {
	var s H2Stream
	err := c.await(fmt.Sprintf("%d header sections on stream %d", n, id), func() bool {
		s = *c.stream(id)
		return len(s.Heads) >= n || s.End || s.Reset
	})
	return s, err
}

// WantOver waits until a stream is over, one way or the other.
func (c *H2) WantOver(id uint32) (H2Stream, error) {
	var s H2Stream
	err := c.await(fmt.Sprintf("the end of stream %d", id), func() bool {
		s = *c.stream(id)
		return s.End || s.Reset
	})
	return s, err
}

// ErrStreamReset is what Read answers after RST_STREAM.
var ErrStreamReset = errors.New("RST_STREAM")

// Read takes octets of a stream: at least one, io.EOF after END_STREAM,
// ErrStreamReset after RST_STREAM.
func (c *H2) Read(id uint32, p []byte) (n int, err error) {
	fault := c.await(fmt.Sprintf("octets on stream %d", id), func() bool {
		s := c.stream(id)
		switch {
		case len(s.Data) > 0:
			n = copy(p, s.Data)
			s.Data = s.Data[n:]
		case s.End:
			err = io.EOF
		case s.Reset:
			err = ErrStreamReset
		default:
			return false
		}
		return true
	})
	if fault != nil {
		return 0, fault
	}
	return n, err
}

// Stream returns a copy of what was read of a stream so far.
func (c *H2) Stream(id uint32) H2Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.stream(id)
}

// WantAnswer waits for the final head of a stream, or that it is over without.
func (c *H2) WantAnswer(id uint32) (H2Stream, error) {
	var s H2Stream
	err := c.await(fmt.Sprintf("an answer on stream %d", id), func() bool {
		s = *c.stream(id)
		return s.Final() != nil || s.End || s.Reset
	})
	return s, err
}

// Final is the final head, nil before it came (RFC 9110 section 15).
func (s *H2Stream) Final() Fields {
	for _, h := range s.Heads {
		if st := h.Get(":status"); len(st) == 3 && st[0] != '1' || st == "101" {
			return h
		}
	}
	return nil
}

// WantGoAway waits for a GOAWAY with one of the codes.
func (c *H2) WantGoAway(codes ...http2.ErrCode) error {
	want := fmt.Sprintf("GOAWAY %v", codes)
	var seen []GoAway
	err := c.await(want, func() bool {
		seen = c.goaways
		for _, g := range seen {
			for _, code := range codes {
				if g.Code == code {
					return true
				}
			}
		}
		return false
	})
	if err != nil && len(seen) > 0 {
		return mismatch(want, "GOAWAY %v", seen)
	}
	return err
}

// GoAways returns the GOAWAY frames so far.
func (c *H2) GoAways() []GoAway {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]GoAway(nil), c.goaways...)
}

// WantClosed waits for the end of the connection.
func (c *H2) WantClosed() error {
	err := c.await("end of the connection", func() bool { return c.err != nil })
	return err
}

// Ping sends PING and waits for its answer: all that the server had to say
// before it has then been read.
func (c *H2) Ping() error {
	c.wmu.Lock()
	var data [8]byte
	copy(data[:], fmt.Sprintf("%08x", time.Now().UnixNano()&0xffffffff))
	err := c.fr.WritePing(false, data)
	c.wmu.Unlock()
	if err != nil {
		return err
	}
	return c.await("PING answered", func() bool { return c.pings[data] })
}

// WantAlive checks that the connection still works: PING is answered and no
// GOAWAY came.
func (c *H2) WantAlive() error {
	if err := c.Ping(); err != nil {
		return err
	}
	if g := c.GoAways(); len(g) > 0 {
		return mismatch("a living connection", "GOAWAY %v", g[0].Code)
	}
	return nil
}

// WantWindow waits until the server's WINDOW_UPDATEs left at least n octets of
// room for sending on a stream; 0 is the connection.
func (c *H2) WantWindow(id uint32, n int64) error {
	return c.await(fmt.Sprintf("a window of %d octets on stream %d", n, id), func() bool {
		if id == 0 {
			return c.window >= n
		}
		return c.stream(id).window >= n
	})
}

// WantRoom waits until at least an octet may be sent on a stream.
func (c *H2) WantRoom(id uint32) error {
	return c.await(fmt.Sprintf("room for stream %d", id), func() bool { return c.window > 0 && c.stream(id).window > 0 })
}

// WantAcks waits until the server acknowledged n SETTINGS frames.
func (c *H2) WantAcks(n int) error {
	return c.await(fmt.Sprintf("%d SETTINGS acknowledgements", n), func() bool { return c.acks >= n })
}

// Ended reports whether the connection has ended.
func (c *H2) Ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil
}
