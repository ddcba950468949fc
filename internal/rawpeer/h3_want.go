package rawpeer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/quic-go/quic-go"
)

// how says how a stream ended, "" if it has not.
func (s *H3Stream) how() string {
	switch {
	case s.Reset:
		return "RESET_STREAM " + s.Code.String()
	case s.End:
		return "FIN"
	}
	return ""
}

// at is the record of a stream; mu is held.
func (c *H3) at(id int64) *H3Stream {
	s := c.streams[id]
	if s == nil {
		s = new(H3Stream)
	}
	return s
}

// WantFirst waits for SETTINGS and returns the type of the first frame on the
// server's control stream.
func (c *H3) WantFirst() (kind uint64, err error) {
	err = c.await("SETTINGS of the server", func() bool { kind = c.first; return c.seen })
	return kind, err
}

// WantAnswer waits for the final head of a stream, or for its end without one.
func (c *H3) WantAnswer(id int64) (H3Stream, error) {
	var s H3Stream
	err := c.await(fmt.Sprintf("an answer on stream %d", id), func() bool {
		s = *c.at(id)
		return s.Final() != nil || s.how() != ""
	})
	return s, err
}

// WantHeads waits for n heads of a stream, or for its end.
func (c *H3) WantHeads(id int64, n int) (H3Stream, error) {
	var s H3Stream
	err := c.await(fmt.Sprintf("%d heads on stream %d", n, id), func() bool {
		s = *c.at(id)
		return len(s.Heads) >= n || s.how() != ""
	})
	return s, err
}

// WantStatus waits for the final head of a stream and compares its status.
func (c *H3) WantStatus(id int64, status int) (Fields, error) {
	want := fmt.Sprintf(":status %d on stream %d", status, id)
	var f Fields
	var got string
	err := c.await(want, func() bool {
		s := c.at(id)
		f, got = s.Final(), s.how()
		return f != nil || got != ""
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
func (c *H3) WantData(id int64, p []byte) error {
	want := fmt.Sprintf("%d octets %s on stream %d", len(p), show(p), id)
	var got []byte
	end := ""
	err := c.await(want, func() bool {
		s := c.at(id)
		n := min(len(s.Data), len(p))
		got = s.Data[:n]
		if n == len(p) || !bytes.Equal(got, p[:n]) {
			s.Data = s.Data[n:]
			return true
		}
		end = s.how()
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
		return mismatch(want, "%d octets %s then %s", len(got), show(got), end)
	}
	return nil
}

// WantEnd waits for FIN and that no octet is left before it.
func (c *H3) WantEnd(id int64) error {
	want := fmt.Sprintf("FIN on stream %d", id)
	got := ""
	err := c.await(want, func() bool {
		s := c.at(id)
		switch {
		case len(s.Data) > 0:
			got = fmt.Sprintf("%d more octets %s", len(s.Data), show(s.Data))
		case s.End:
			return true
		default:
			got = s.how()
		}
		return got != ""
	})
	if err == nil && got != "" {
		return mismatch(want, "%s", got)
	}
	return err
}

// WantReset waits for RESET_STREAM with one of the codes, and no FIN before it.
func (c *H3) WantReset(id int64, codes ...H3Code) error {
	want := fmt.Sprintf("RESET_STREAM %v on stream %d", codes, id)
	var s H3Stream
	err := c.await(want, func() bool { s = *c.at(id); return s.Reset || s.End })
	switch {
	case err != nil && len(s.Heads) > 0:
		return mismatch(want, ":status %s and no reset", s.Heads[len(s.Heads)-1].Get(":status"))
	case err != nil:
		return err
	case !s.Reset:
		return mismatch(want, "FIN")
	case slices.Contains(codes, s.Code):
		return nil
	}
	return mismatch(want, "RESET_STREAM %v", s.Code)
}

// WantStop waits for STOP_SENDING with one of the codes.
func (c *H3) WantStop(id int64, codes ...H3Code) error {
	want := fmt.Sprintf("STOP_SENDING %v on stream %d", codes, id)
	var s H3Stream
	if err := c.await(want, func() bool { s = *c.at(id); return s.Stopped }); err != nil {
		return err
	}
	if !slices.Contains(codes, s.StopFor) {
		return mismatch(want, "STOP_SENDING %v", s.StopFor)
	}
	return nil
}

// WantOver waits until a stream is over, one way or the other.
func (c *H3) WantOver(id int64) (H3Stream, error) {
	var s H3Stream
	err := c.await(fmt.Sprintf("the end of stream %d", id), func() bool {
		s = *c.at(id)
		return s.End || s.Reset
	})
	return s, err
}

// Stream is what was read of a stream so far.
func (c *H3) Stream(id int64) H3Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.at(id)
}

// Read takes octets of a stream: at least one, io.EOF after FIN, ErrStreamReset
// after RESET_STREAM.
func (c *H3) Read(id int64, p []byte) (n int, err error) {
	werr := c.await(fmt.Sprintf("octets on stream %d", id), func() bool {
		s := c.at(id)
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
	if werr != nil {
		return 0, werr
	}
	return n, err
}

// WantClosed waits for the end of the connection by the server with one of the
// codes.
func (c *H3) WantClosed(codes ...H3Code) error {
	want := fmt.Sprintf("CONNECTION_CLOSE %v", codes)
	var got error
	if err := c.await(want, func() bool { got = c.err; return got != nil }); err != nil {
		return err
	}
	var app *quic.ApplicationError
	if !errors.As(got, &app) || !app.Remote {
		return mismatch(want, "%v", got)
	}
	if !slices.Contains(codes, H3Code(app.ErrorCode)) {
		return mismatch(want, "CONNECTION_CLOSE %v %q", H3Code(app.ErrorCode), app.ErrorMessage)
	}
	return nil
}

// WantGoAway waits for a GOAWAY that says no more than id.
func (c *H3) WantGoAway(id uint64) error {
	return c.await(fmt.Sprintf("GOAWAY %d or less", id), func() bool {
		return slices.ContainsFunc(c.goaways, func(g uint64) bool { return g <= id })
	})
}

// WantAlive reports whether the connection still serves: what no gateway passes on
// gets an answer, or a reset of its own stream.
func (c *H3) WantAlive() error {
	f := F(":method", "CONNECT", ":protocol", "no-such-protocol", ":scheme", "https", ":path", "/", ":authority", "example.test")
	id := c.Headers(f, false)
	return c.await("an answer on a new stream", func() bool {
		s := c.at(id)
		return s.Final() != nil || s.Reset
	})
}

// Ended reports whether the connection has ended.
func (c *H3) Ended() bool { return c.Cause() != nil }

// Cause is why the connection ended, nil while it lives.
func (c *H3) Cause() error {
	select {
	case <-c.q.Context().Done():
		return context.Cause(c.q.Context())
	default:
		return nil
	}
}

// CloseCode is the code of the server's CONNECTION_CLOSE; ok is false if there was
// none of HTTP/3's.
func (c *H3) CloseCode() (code H3Code, ok bool) {
	var app *quic.ApplicationError
	if !errors.As(c.Cause(), &app) || !app.Remote {
		return 0, false
	}
	return H3Code(app.ErrorCode), true
}
