package e2e

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// TestTunnelH2 carries octets both ways and ends from either end (rows 11, 101
// to 104, 229).
func TestTunnelH2(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	for _, clientFirst := range []bool{true, false} {
		id, b := r.open(c)
		up, down := frame(0x81, true, []byte("hello")), frame(0x81, false, []byte("world"))
		r.must(c.Data(id, up, false))
		r.must(b.WantBytes(up))
		r.must(b.Write(down))
		r.must(c.WantData(id, down))
		if clientFirst {
			r.must(c.End(id))
			r.must(b.WantFIN())
			r.must(b.Write([]byte("tail")))
			r.must(c.WantData(id, []byte("tail")))
			r.must(b.CloseWrite())
			r.must(c.WantEnd(id))
		} else {
			r.must(b.CloseWrite())
			r.must(c.WantEnd(id))
			r.must(c.Data(id, []byte("tail"), true))
			r.must(b.WantBytes([]byte("tail")))
			r.must(b.WantFIN())
		}
		r.must(c.WantAlive())
		if s := c.Stream(id); s.Reset {
			t.Errorf("client first %v: got RST_STREAM %v after a clean end", clientFirst, s.Code)
		}
	}
	r.settle("tunnels", func(c gateway.Counters) bool { return c.Tunnels == 0 })
	c.Close()
	r.empty()
}

// TestTunnelH1 is the same over HTTP/1.1, plain and TLS (row 178).
func TestTunnelH1(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, clientFirst := range []bool{true, false} {
			r := start(t, nil)
			c, b := r.openH1(secure)
			r.must(c.WriteString("up"))
			r.must(b.WantBytes([]byte("up")))
			r.must(b.Write([]byte("down")))
			r.must(c.WantBytes([]byte("down")))
			if clientFirst {
				r.must(c.CloseWrite())
				r.must(b.WantFIN())
				r.must(b.Write([]byte("tail")))
				r.must(c.WantBytes([]byte("tail")))
				r.must(b.CloseWrite())
				r.must(c.WantFIN())
			} else {
				r.must(b.CloseWrite())
				r.must(c.WantFIN())
				r.must(c.WriteString("tail"))
				r.must(b.WantBytes([]byte("tail")))
				r.must(c.CloseWrite())
				r.must(b.WantFIN())
			}
			r.empty()
		}
	}
}

// TestResets: anything but an orderly end crosses as a reset (rows 106 to 108, 148, 149, 178).
func TestResets(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	id, b := r.open(c)
	b.Reset()
	r.must(c.WantReset(id, http2.ErrCodeCancel))
	if c.Stream(id).End {
		t.Error("END_STREAM before the reset")
	}

	id, b = r.open(c)
	r.must(c.Reset(id, http2.ErrCodeCancel))
	r.must(b.WantRST())

	_, b = r.open(c)
	_, b2 := r.open(c)
	c.Cut()
	r.must(b.WantRST())
	r.must(b2.WantRST())

	h1, b := r.openH1(false)
	b.Reset()
	r.must(h1.WantRST())

	h1, b = r.openH1(false)
	h1.Cut()
	r.must(b.WantRST())
	h1, b = r.openH1(true)
	h1.Conn().Close() // crypto/tls sends close_notify: an orderly end
	r.must(b.WantFIN())
	b.Close()
	r.empty()
	if !strings.Contains(r.log.String(), "tunnel end") {
		r.settle("a line for an ended tunnel", func(gateway.Counters) bool { return strings.Contains(r.log.String(), "tunnel end") })
	}
}

// TestTailIsNotLost: the backend's last octets arrive before the end (rows 103, 105).
func TestTailIsNotLost(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB, through a window of 64 KiB
	id, b := r.open(c)
	sent := make(chan error, 1)
	go func() {
		err := b.Write(big)
		if err == nil {
			err = b.CloseWrite()
		}
		sent <- err
	}()
	r.must(c.WantData(id, big))
	r.must(c.WantEnd(id))
	r.must(<-sent)

	id, b = r.open(c)
	go func() {
		err := c.Send(id, big)
		if err == nil {
			err = c.End(id)
		}
		sent <- err
	}()
	r.must(b.WantBytes(big))
	r.must(b.WantFIN())
	r.must(<-sent)
}

// TestCloseIsReadable: after both Close frames and both ends there is no
// RST_STREAM that would cut the client's reading (rows 111, 113).
func TestCloseIsReadable(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	id, b := r.open(c)
	bye := frame(0x88, false, []byte{0x0f, 0xa1})
	r.must(b.Write(bye))
	b.Close() // both ways at once, as old servers do
	r.must(c.WantData(id, bye))
	r.must(c.WantEnd(id))
	r.must(c.Data(id, frame(0x88, true, []byte{0x0f, 0xa1}), true))
	r.must(c.WantAlive())
	if s := c.Stream(id); s.Reset {
		t.Errorf("got RST_STREAM %v, want none", s.Code)
	}
	r.settle("tunnels", func(c gateway.Counters) bool { return c.Tunnels == 0 })
}

// TestStreamErrors: rows 55, 56, 109, 110, 120, 121; the connection lives.
func TestStreamErrors(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	for name, f := range map[string]struct {
		do   func(id uint32)
		code http2.ErrCode
	}{
		"trailers (55)":            {func(id uint32) { c.HeadersOn(id, nil, true) }, http2.ErrCodeProtocol},
		"second HEADERS (56)":      {func(id uint32) { c.HeadersOn(id, nil, false) }, http2.ErrCodeProtocol},
		"WINDOW_UPDATE 0 (120)":    {func(id uint32) { c.WindowUpdate(id, 0) }, http2.ErrCodeProtocol},
		"window over 2^31-1 (121)": {func(id uint32) { c.WindowUpdate(id, 1<<31-1) }, http2.ErrCodeFlowControl},
		"DATA after the end (109)": {func(id uint32) { c.Data(id, nil, true); c.Data(id, []byte("stray"), false) }, http2.ErrCodeStreamClosed},
	} {
		id, b := r.open(c)
		f.do(id)
		r.check(name, c.WantReset(id, f.code))
		if f.code == http2.ErrCodeStreamClosed {
			r.check(name, b.WantFINThenRST())
		} else {
			r.check(name, b.WantRST())
		}
		r.check(name, c.Data(id, []byte("late"), false)) // row 110: ignored
		r.check(name, c.WindowUpdate(id, 1))
		r.check(name, c.WantAlive())
	}
	r.settle("tunnels", func(c gateway.Counters) bool { return c.Tunnels == 0 })
}

// TestSettingsMidTunnel: a window that shrinks below zero loses nothing (row 122).
func TestSettingsMidTunnel(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	c.NoCredit = true
	id, b := r.open(c)
	p := bytes.Repeat([]byte("x"), 40000)
	r.must(b.Write(p))
	r.must(c.WantData(id, p))
	r.must(c.Frame(http2.FrameSettings, 0, 0, []byte{0, 4, 0, 0, 0, 100})) // the window is now 100-40000
	r.must(c.WantAcks(2))
	r.must(b.Write([]byte("waiting")))
	r.must(c.WantAlive())
	if n := len(c.Stream(id).Data); n != 0 {
		t.Errorf("octets beyond the window: got %d, want 0", n)
	}
	r.must(c.WindowUpdate(id, 40000))
	r.must(c.WantData(id, []byte("waiting")))
}

// TestStuckNeighbour: a backend that does not read never slows another tunnel,
// and what it absorbs is bounded (row 117, law).
func TestStuckNeighbour(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	stuck, _ := r.open(c)
	id, b := r.open(c)
	c.Patience = 200 * time.Millisecond
	sent := 0
	for c.Send(stuck, make([]byte, 16384)) == nil {
		if sent += 16384; sent > 16<<20 {
			t.Fatal("the stuck tunnel takes without end")
		}
	}
	c.Patience = rawpeer.Patience
	if _, conn := c.Windows(stuck); conn < 1<<20 {
		t.Fatalf("connection window: got %d, want far more than the streams'", conn)
	}
	r.must(c.Data(id, []byte("quick"), false))
	r.must(b.WantBytes([]byte("quick")))
	r.must(b.Write([]byte("answer")))
	r.must(c.WantData(id, []byte("answer")))
}
