package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// raw builds a frame.
func raw(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) []byte {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), byte(kind), byte(flags)}
	return append(binary.BigEndian.AppendUint32(b, id), payload...)
}

// be32 is a payload of one number.
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// counted waits until a counter of the HTTP/2 front stands at n.
func (r *rig) counted(name string, n int64) {
	r.t.Helper()
	if _, ok := r.gw.Counters().H2[name]; !ok {
		r.t.Fatalf("no counter %s", name)
	}
	r.settle(fmt.Sprintf("counter %s of %d", name, n), func(c gateway.Counters) bool { return c.H2[name] == n })
}

// bound waits until a counter of the bridge stands at n.
func (r *rig) bound(code string, n uint64) {
	r.t.Helper()
	if _, ok := r.gw.Counters().Bounds[code]; !ok {
		r.t.Fatalf("no counter %s", code)
	}
	r.settle(fmt.Sprintf("counter %s of %d", code, n), func(c gateway.Counters) bool { return c.Bounds[code] == n })
}

// echo carries a message both ways through a tunnel.
func (r *rig) echo(c *rawpeer.H2, id uint32, b *rawpeer.BackendConn) {
	r.t.Helper()
	r.must(c.Data(id, []byte("ping"), false))
	r.must(b.WantBytes([]byte("ping")))
	r.must(b.Write([]byte("pong")))
	r.must(c.WantData(id, []byte("pong")))
}

// dials is how many connections the backend got, and drops them.
func (r *rig) dials(since int) int { return r.be.Accepted() - since }

// TestStreamLimits: streams and, apart from them, tunnels of one connection
// (rows 123 and 125).
func TestStreamLimits(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.MaxStreams, c.MaxTunnelsPerConn = 4, 2 })
	c := r.h2()
	a, ab := r.open(c)
	b, bb := r.open(c)
	before := r.be.Accepted()
	id := c.Connect("/chat")
	head, err := c.WantStatus(id, 503)
	r.must(err)
	if head.Get("retry-after") == "" {
		t.Errorf("third tunnel: got %q, want retry-after", head)
	}
	r.must(c.WantData(id, []byte("503 service unavailable: connection-tunnel-limit\n")))
	held := map[string]uint32{"GET /a HTTP/1.1": c.Get("/a"), "GET /b HTTP/1.1": c.Get("/b")}
	backends := []*rawpeer.BackendConn{r.next(), r.next()}
	for _, x := range []uint32{c.Get("/over"), c.Connect("/over")} {
		r.must(c.WantReset(x, http2.ErrCodeRefusedStream))
	}
	r.echo(c, a, ab)
	r.echo(c, b, bb)
	if got := r.dials(before); got != 2 {
		t.Errorf("connections for two requests and three refused streams: got %d, want 2", got)
	}
	var lines []string
	for _, be := range backends { // an answer would let the next request have its connection
		h, err := be.ReadHead()
		r.must(err)
		lines = append(lines, h.Line)
	}
	for i, be := range backends {
		r.must(be.Write([]byte("HTTP/1.1 204 No Content\r\n\r\n")))
		_, err = c.WantStatus(held[lines[i]], 204)
		r.must(err)
	}
	r.must(c.End(a)) // the places are given back
	r.must(ab.WantFIN())
	r.must(ab.CloseWrite())
	r.must(c.WantEnd(a))
	a, ab = r.open(c)
	r.echo(c, a, ab)
	r.counted("StreamLimit", 2)
	r.counted("TunnelLimit", 1)
}

// TestRapidReset: the connection that resets its streams before their answer
// ends, its dials are bounded, other clients are served (row 126).
func TestRapidReset(t *testing.T) {
	r := start(t, nil)
	honest := r.h2()
	id, b := r.open(honest)
	before := r.be.Accepted()
	c := r.h2()
	sent := 0
	for ; sent < 10000; sent++ {
		if c.Reset(c.Connect("/chat"), http2.ErrCodeCancel) != nil {
			break // the gateway has closed the connection
		}
	}
	r.must(c.WantGoAway(http2.ErrCodeEnhanceYourCalm))
	r.must(c.WantClosed())
	r.counted("RapidReset", 1)
	r.settle("pending handshakes", func(c gateway.Counters) bool { return c.Pending == 0 && c.Tunnels == 1 })
	if got := r.dials(before); got > 1000 {
		t.Errorf("dials for %d streams: got %d, want at most 1000", sent, got)
	}
	r.echo(honest, id, b)
	t.Logf("%d streams sent, %d dials", sent, r.dials(before))
}

// TestMadeYouReset: resets that a client makes the gateway send are bounded too
// (row 127).
func TestMadeYouReset(t *testing.T) {
	r := start(t, nil)
	honest := r.h2()
	id, b := r.open(honest)
	ways := []struct {
		name string
		make func(c *rawpeer.H2, id uint32) error
	}{
		{"WINDOW_UPDATE of 0", func(c *rawpeer.H2, id uint32) error { return c.WindowUpdate(id, 0) }},
		{"window over 2^31-1", func(c *rawpeer.H2, id uint32) error { return c.WindowUpdate(id, 1<<31-1) }},
		{"DATA after END_STREAM", func(c *rawpeer.H2, id uint32) error {
			return errors.Join(c.Data(id, nil, true), c.Data(id, []byte("x"), false))
		}},
		{"PRIORITY of a wrong length", func(c *rawpeer.H2, id uint32) error { return c.Frame(http2.FramePriority, 0, id, []byte{1}) }},
		{"HEADERS on a tunnel", func(c *rawpeer.H2, id uint32) error { c.HeadersOn(id, nil, false); return nil }},
	}
	for i, w := range ways {
		before := r.be.Accepted()
		c := r.h2()
		for range 3000 {
			if w.make(c, c.Connect("/chat")) != nil {
				break
			}
		}
		r.check(w.name, c.WantGoAway(http2.ErrCodeEnhanceYourCalm))
		r.check(w.name, c.WantClosed())
		r.counted("MadeReset", int64(i+1))
		r.settle("pending handshakes", func(c gateway.Counters) bool { return c.Pending == 0 && c.Tunnels == 1 })
		if got := r.dials(before); got > 1000 {
			t.Errorf("%s: got %d dials, want at most 1000", w.name, got)
		}
	}
	r.echo(honest, id, b)
}

// TestFrameFloods: cheap frames inside a live tunnel have their bounds, and so
// have header blocks (rows 53 and 128).
func TestFrameFloods(t *testing.T) {
	r := start(t, nil)
	honest := r.h2()
	hid, hb := r.open(honest)
	for name, x := range map[string]struct {
		counter string
		first   []byte
		step    func(id uint32) []byte
	}{
		"SETTINGS":               {"SettingsFlood", nil, func(uint32) []byte { return raw(http2.FrameSettings, 0, 0) }},
		"PING":                   {"PingFlood", nil, func(uint32) []byte { return raw(http2.FramePing, 0, 0, make([]byte, 8)...) }},
		"empty DATA":             {"EmptyData", nil, func(id uint32) []byte { return raw(http2.FrameData, 0, id) }},
		"WINDOW_UPDATE of 1":     {"WindowUpdate", nil, func(id uint32) []byte { return raw(http2.FrameWindowUpdate, 0, id, be32(1)...) }},
		"WINDOW_UPDATE of all":   {"WindowUpdate", nil, func(uint32) []byte { return raw(http2.FrameWindowUpdate, 0, 0, be32(1)...) }},
		"PRIORITY":               {"OtherFrames", nil, func(id uint32) []byte { return raw(http2.FramePriority, 0, id, 0, 0, 0, 0, 1) }},
		"unknown frames":         {"OtherFrames", nil, func(id uint32) []byte { return raw(0xbb, 0, id) }},
		"CONTINUATION, empty":    {"Continuation", raw(http2.FrameHeaders, 0, 99, 0x82), func(uint32) []byte { return raw(http2.FrameContinuation, 0, 99) }},
		"CONTINUATION, Huffman":  {"HeaderBomb", raw(http2.FrameHeaders, 0, 99, 0x82), func(uint32) []byte { return raw(http2.FrameContinuation, 0, 99, bytes.Repeat([]byte{0xff}, 16384)...) }},
		"indexed fields, a bomb": {"HeaderBomb", raw(http2.FrameHeaders, 0, 99, bomb()...), func(uint32) []byte { return raw(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 99) }},
	} {
		c := r.h2()
		id, b := r.open(c)
		before := r.gw.Counters().H2[x.counter]
		r.must(c.Raw(x.first))
		chunk := bytes.Repeat(x.step(id), 100)
		for range 1000 {
			if c.Raw(chunk) != nil || len(c.GoAways()) > 0 {
				break
			}
		}
		r.check(name, c.WantGoAway(http2.ErrCodeEnhanceYourCalm))
		r.check(name, c.WantClosed())
		r.check(name, b.WantRST())
		r.counted(x.counter, before+1)
	}
	r.echo(honest, hid, hb)
	r.settle("buffers", func(c gateway.Counters) bool { return c.BufferMemory == 0 && c.Tunnels == 1 })
}

// bomb is a header block of one table entry of 4000 octets and 12000 references to it.
func bomb() []byte {
	b := []byte{0x40, 1, 'x', 0x7f, 0xa1, 0x1e} // a name of one octet, a value of 127+0x21+0x1e<<7 = 4000
	b = append(b, bytes.Repeat([]byte{'a'}, 4000)...)
	return append(b, bytes.Repeat([]byte{0xbe}, 12000)...)
}

// TestBrokenBlocks: what breaks the connection's header compression or frames
// ends it, and only it (rows 52 and 54).
func TestBrokenBlocks(t *testing.T) {
	r := start(t, nil)
	honest := r.h2()
	hid, hb := r.open(honest)
	before := r.be.Accepted()
	for name, x := range map[string]struct {
		send []byte
		code http2.ErrCode
	}{
		"52 PING inside a header block": {append(raw(http2.FrameHeaders, 0, 3, 0x82), raw(http2.FramePing, 0, 0, make([]byte, 8)...)...), http2.ErrCodeProtocol},
		"52 another stream's HEADERS":   {append(raw(http2.FrameHeaders, 0, 3, 0x82), raw(http2.FrameHeaders, 4, 5, 0x82)...), http2.ErrCodeProtocol},
		"54 index 0":                    {raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, 0x80), http2.ErrCodeCompression},
		"54 index over the table":       {raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, 0xff, 0x40), http2.ErrCodeCompression},
		"54 cut string":                 {raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, 0x00, 5, 'x'), http2.ErrCodeCompression},
		"54 table over the limit":       {raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, 0x3f, 0xff, 0xff, 0x7f, 0x82), http2.ErrCodeCompression},
	} {
		c := r.h2()
		_, b := r.open(c)
		before++
		r.must(c.Raw(x.send))
		r.check(name, c.WantGoAway(x.code))
		r.check(name, c.WantClosed())
		r.check(name, b.WantRST())
	}
	if got := r.dials(before); got != 0 {
		t.Errorf("connections for broken requests: got %d, want 0", got)
	}
	r.echo(honest, hid, hb)
}

// TestHeaderLimit: 431 with its reason, in the log too; the next stream works
// (row 51).
func TestHeaderLimit(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	id := c.Connect("/chat", rawpeer.Field{Name: "x-big", Value: strings.Repeat("a", 70000)})
	_, err := c.WantStatus(id, 431)
	r.must(err)
	r.must(c.WantData(id, []byte("431 request header fields too large: fields-too-large\n")))
	id, b := r.open(c, rawpeer.Field{Name: "x-small", Value: "yes"})
	r.echo(c, id, b)
	r.counted("HeaderLimit", 1)
	r.settle("a line for the rejected request", func(gateway.Counters) bool {
		return strings.Contains(r.log.String(), `msg="request rejected"`) && strings.Contains(r.log.String(), "http=2 status=431 reason=fields-too-large")
	})
}

// TestHonestClients reach no bound: a closing tab resets 200 open tunnels at
// once, and one WINDOW_UPDATE for each DATA frame at full speed (row 230).
func TestHonestClients(t *testing.T) {
	r := start(t, nil)
	tab := r.h2()
	var ids []uint32
	var backends []*rawpeer.BackendConn
	for range 200 {
		id, b := r.open(tab)
		ids, backends = append(ids, id), append(backends, b)
	}
	for _, id := range ids {
		r.must(tab.Reset(id, http2.ErrCodeCancel))
	}
	for _, b := range backends {
		r.must(b.WantRST())
	}
	id, b := r.open(tab)
	r.echo(tab, id, b)
	r.must(tab.WantAlive())

	c := r.h2() // answers each DATA with two WINDOW_UPDATE
	id, b = r.open(c)
	part := bytes.Repeat([]byte("0123456789abcdef"), 4)
	sent := make(chan error, 1)
	const parts = 50000
	go func() {
		for range parts {
			if err := b.Write(part); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for range parts / 1000 {
		r.must(c.WantData(id, bytes.Repeat(part, 1000)))
	}
	r.must(<-sent)
	r.must(c.WantAlive())
	r.must(tab.WantAlive())
	for _, name := range []string{"RapidReset", "MadeReset", "WindowUpdate", "OtherFrames"} {
		r.counted(name, 0)
	}
}

// TestFramesBesideTunnels: PING, PRIORITY and frames that nobody knows leave
// tunnels as they are (row 116).
func TestFramesBesideTunnels(t *testing.T) {
	r := start(t, nil)
	c := r.h2()
	a, ab := r.open(c)
	b, bb := r.open(c)
	r.must(c.Data(a, []byte("pi"), false))
	for _, f := range [][]byte{
		raw(http2.FramePriority, 0, a, 0, 0, 0, 0, 1), raw(http2.FramePriority, 0, 77, 0, 0, 0, 0, 1),
		raw(0xbb, 0xff, 0, 1, 2, 3), raw(0xbb, 0xff, a, 1, 2, 3), raw(0x10, 0, 0, append(be32(a), "u=1"...)...),
		raw(http2.FramePing, http2.FlagPingAck, 0, make([]byte, 8)...), raw(http2.FrameGoAway, 0, 0, make([]byte, 8)...),
	} {
		r.must(c.Raw(f))
	}
	r.must(c.Ping())
	r.must(c.Data(a, []byte("ng"), false))
	r.must(ab.WantBytes([]byte("ping")))
	r.echo(c, a, ab)
	r.echo(c, b, bb)
	r.must(c.WantAlive())
}

// TestClosedWindow: a client that opens no window for one tunnel holds up its
// backend, takes no memory and leaves the other tunnel alone (row 118).
func TestClosedWindow(t *testing.T) {
	r := start(t, nil)
	c := r.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	a, ab := r.open(c)
	b, bb := r.open(c)
	r.must(c.WindowUpdate(b, 1<<20))
	r.must(ab.Conn().SetWriteDeadline(time.Now().Add(300 * time.Millisecond)))
	p, sent := bytes.Repeat([]byte("0123456789abcdef"), 4<<10), 0
	for {
		n, err := ab.Conn().Write(p)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		r.must(err)
		if sent > 64<<20 {
			t.Fatal("the backend is not held up")
		}
	}
	for range 100 {
		r.echo(c, b, bb)
	}
	if s := c.Stream(a); s.Total != 0 {
		t.Errorf("octets at window 0: got %d, want 0", s.Total)
	}
	// What was sent lies in the sockets of backend and gateway, not in the gateway.
	if m := r.gw.Counters().BufferMemory; m > 64<<10 {
		t.Errorf("octets queued: got %d, want at most 64 KiB", m)
	}
	r.must(c.WindowUpdate(a, 1<<30))
	want := bytes.Repeat(p, sent/len(p)+1)[:sent]
	r.must(c.WantData(a, want))
	t.Logf("%d octets lay in sockets", sent)
}

// handshakeFrom is a handshake over HTTP/1.1 from a local address, and its status.
func (r *rig) handshakeFrom(local string) (*http.Response, string) {
	r.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: rawpeer.Patience}
	c, err := d.Dial("tcp", r.http)
	r.must(err)
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(rawpeer.Patience))
	_, err = io.WriteString(c, rawpeer.UpgradeRequest("/chat"))
	r.must(err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	r.must(err)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, ""
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, resp.ContentLength))
	r.must(err)
	return resp, string(body)
}

// TestTunnelLimits: over a limit on tunnels there is 503 with Retry-After, and a
// place that is given back serves again.
func TestTunnelLimits(t *testing.T) {
	busy := func(r *rig, c *rawpeer.H2, code string) {
		t.Helper()
		before := r.be.Accepted()
		id := c.Connect("/chat")
		head, err := c.WantStatus(id, 503)
		r.must(err)
		if head.Get("retry-after") == "" {
			t.Errorf("%s: got %q, want retry-after", code, head)
		}
		r.must(c.WantData(id, []byte("503 service unavailable: "+code+"\n")))
		resp, body := r.handshakeFrom("127.0.0.1")
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, code) {
			t.Errorf("%s over HTTP/1.1: got %d %v %q, want 503 with Retry-After and the code", code, resp.StatusCode, resp.Header, body)
		}
		if got := r.dials(before); got != 0 {
			t.Errorf("%s: got %d connections at the backend, want 0", code, got)
		}
		r.bound(code, 2)
		r.settle("reasons in the log", func(gateway.Counters) bool { return strings.Count(r.log.String(), "reason="+code) == 2 })
	}
	t.Run("max-tunnels", func(t *testing.T) {
		r := start(t, func(c *gateway.Config) { c.MaxTunnels = 2 })
		c := r.h2()
		id, b := r.open(c)
		r.openH1(false)
		busy(r, c, "tunnel-limit")
		r.must(c.Reset(id, http2.ErrCodeCancel))
		r.must(b.WantRST())
		r.settle("a place", func(c gateway.Counters) bool { return c.Tunnels == 1 })
		id, b = r.open(c)
		r.echo(c, id, b)
	})
	t.Run("max-tunnels-per-client", func(t *testing.T) {
		r := start(t, func(c *gateway.Config) { c.MaxTunnelsPerClient = 2 })
		c := r.h2()
		id, b := r.open(c)
		r.openH1(false)
		busy(r, c, "client-limit")
		accepted := make(chan error, 1)
		go func() {
			b, err := r.be.Next()
			if err == nil {
				_, err = b.AcceptUpgrade()
			}
			accepted <- err
		}()
		if resp, _ := r.handshakeFrom("127.0.0.2"); resp.StatusCode != 101 {
			t.Errorf("another client: got %d, want 101", resp.StatusCode)
		}
		r.must(<-accepted)
		r.must(c.Reset(id, http2.ErrCodeCancel))
		r.must(b.WantRST())
		r.settle("a place", func(c gateway.Counters) bool { return c.Tunnels == 2 })
		id, b = r.open(c)
		r.echo(c, id, b)
	})
	t.Run("max-pending", func(t *testing.T) {
		r := start(t, func(c *gateway.Config) { c.MaxPending = 1 })
		c := r.h2()
		id := c.Connect("/chat")
		b := r.next()
		busy(r, c, "pending-limit")
		_, err := b.AcceptUpgrade()
		r.must(err)
		_, err = c.WantStatus(id, 200)
		r.must(err)
		id, b = r.open(c)
		r.echo(c, id, b)
	})
}
