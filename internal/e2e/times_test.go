package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// TestFrontTimeouts: a client that says nothing, too little or no more, and one
// that has a tunnel and is therefore not idle (row 129).
func TestFrontTimeouts(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.HeaderTimeout = 3 * time.Second }) // TLS included
	silent, err := rawpeer.DialH2Quiet(r.https, clientTLS)
	r.must(err)
	t.Cleanup(silent.Close)
	slow := r.h2()
	r.must(slow.Raw(raw(http2.FrameHeaders, 4, 1, make([]byte, 200)...)[:9]))
	tick := time.NewTicker(20 * time.Millisecond) // an octet now and then
	defer tick.Stop()
	for i := 0; len(slow.GoAways()) == 0; i++ {
		<-tick.C
		if i == 198 || slow.Raw([]byte{0x82}) != nil {
			break
		}
	}
	r.check("slow head", slow.WantGoAway(http2.ErrCodeEnhanceYourCalm))
	r.check("slow head", slow.WantClosed())
	r.counted("HeaderTimeout", 1)
	r.check("no preface", silent.WantClosed())
	r.counted("PrefaceTimeout", 1)

	r = start(t, func(c *gateway.Config) { c.IdleConn = time.Second })
	honest := r.h2()
	id, b := r.open(honest)
	idle := r.h2()
	r.check("idle", idle.WantGoAway(http2.ErrCodeNo))
	r.check("idle", idle.WantClosed())
	r.counted("IdleTimeout", 1)
	r.must(honest.WantAlive())
	r.echo(honest, id, b)
	r.must(honest.End(id))
	r.must(b.WantFIN())
	r.must(b.CloseWrite())
	r.must(honest.WantEnd(id))
	r.check("idle after its tunnel", honest.WantGoAway(http2.ErrCodeNo))
	r.check("idle after its tunnel", honest.WantClosed())
	r.counted("IdleTimeout", 2)
	r.empty()
}

// TestTunnelTimeouts: each timeout of a tunnel ends it with Close 1001 towards
// both ends, masked towards the backend, and is counted (rows 114 and 115).
func TestTunnelTimeouts(t *testing.T) {
	for code, x := range map[string]struct {
		edit   func(*gateway.Config)
		reason string
	}{
		"idle-timeout":         {func(c *gateway.Config) { c.Idle = 200 * time.Millisecond }, "idle"},
		"client-idle-timeout":  {func(c *gateway.Config) { c.ClientIdle = 200 * time.Millisecond }, "client idle"},
		"backend-idle-timeout": {func(c *gateway.Config) { c.BackendIdle = 200 * time.Millisecond }, "backend idle"},
		"max-life":             {func(c *gateway.Config) { c.MaxLife = 200 * time.Millisecond }, "maximum life"},
	} {
		r := start(t, x.edit)
		c := r.h2()
		id, b := r.open(c)
		r.check(code, c.WantData(id, frame(0x88, false, closeOf(1001, x.reason))))
		r.check(code, wantMasked(b, 0x88, closeOf(1001, x.reason)))
		r.bound(code, 1)
		r.must(c.Data(id, frame(0x88, true, closeOf(1001, "")), true))
		r.check(code, b.WantFIN())
		b.Close()
		r.check(code, c.WantEnd(id))
	}
	// The second half of a tunnel lingers for so long only.
	r := start(t, func(c *gateway.Config) { c.Linger = 200 * time.Millisecond })
	c := r.h2()
	id, b := r.open(c)
	r.must(c.End(id))
	r.must(b.WantFINThenRST())
	r.must(c.WantReset(id, http2.ErrCodeCancel))
	r.bound("linger-timeout", 1)
}

// closeOf is the payload of a Close frame.
func closeOf(code uint16, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, code), reason...)
}

// wantMasked waits for a short masked frame at the backend.
func wantMasked(b *rawpeer.BackendConn, first byte, payload []byte) error {
	got := make([]byte, 6+len(payload))
	if _, err := io.ReadFull(b, got); err != nil {
		return fmt.Errorf("got %v, want a frame of %d octets at the backend", err, len(got))
	}
	for i := range payload {
		got[6+i] ^= got[2+i&3]
	}
	if got[0] != first || got[1] != 0x80|byte(len(payload)) || !bytes.Equal(got[6:], payload) {
		return fmt.Errorf("got frame % x, unmasked, at the backend, want %x with payload %q", got, first, payload)
	}
	return nil
}

// TestNeverReads: a client that asks and never reads stops being read, takes
// bounded memory, and goes: after 10 s over the bound on control output, or
// after the stall time. The second is the end where the client's kernel, its
// small receive buffer full, drops the gateway's acknowledgements with the
// segments that carry them: then fewer requests arrive than the bound needs.
func TestNeverReads(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *gateway.Config) { c.StallTimeout = 15 * time.Second })
	honest := r.h2()
	id, b := r.open(honest)
	nc := deaf(r)
	fr := http2.NewFramer(nc, nil)
	r.must(fr.WriteSettings())
	block := honest.Block(nil)[:0]
	block = append(block, 0x02, 7) // :method CONNECT
	block = append(block, "CONNECT"...)
	block = append(block, 0x01, 1, 'a') // :authority a
	var err error
	answers := uint32(0)
	for ; err == nil && answers < 1<<20; answers++ { // each is answered 501
		if answers%1000 == 0 && r.gw.Counters().BufferMemory > 512<<10 {
			t.Fatalf("after %d requests: more than 512 KiB are queued for a client that does not read", answers)
		}
		nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
		err = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*answers + 1, BlockFragment: block, EndHeaders: true, EndStream: true})
	}
	// Stopped being read the client waits, or, slower than the gateway's 10 s, is cut.
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Fatalf("after %d requests: got %v, want the gateway to stop reading", answers, err)
	}
	if m := r.gw.Counters().BufferMemory; m > 512<<10 {
		t.Errorf("octets queued for a client that does not read: got %d, want at most 512 KiB", m)
	}
	r.echo(honest, id, b)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	ends := func() int64 { return r.gw.Counters().H2["NeverReads"] + r.gw.Counters().H2["OutputStall"] }
	for range 300 { // 15 s are the gateway's
		if <-tick.C; ends() > 0 {
			break
		}
	}
	if n := ends(); n != 1 {
		t.Errorf("ends of a client that does not read: got %d, want 1", n)
	}
	r.settle("an end", func(c gateway.Counters) bool { return c.H2Connections == 1 && c.BufferMemory == 0 })
	r.echo(honest, id, b)
}

// TestNeverReadsData: a client that never reads the DATA of its tunnel.
func TestNeverReadsData(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *gateway.Config) { c.StallTimeout = time.Second })
	nc := deaf(r)
	fr := http2.NewFramer(nc, nil)
	r.must(fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}))
	r.must(fr.WriteWindowUpdate(0, 1<<30))
	enc := r.h2()
	r.must(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: enc.Block(rawpeer.ConnectFields("https", "localhost", "/chat")), EndHeaders: true}))
	b := r.next()
	_, err := b.AcceptUpgrade()
	r.must(err)
	p := make([]byte, 1<<20)
	for err == nil {
		err = b.Write(p) // until the gateway gives the client up
		if m := r.gw.Counters().BufferMemory; m > 512<<10 {
			t.Fatalf("octets queued for a client that does not read: got %d, want at most 512 KiB", m)
		}
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing at the backend: got %v, want a reset", err)
	}
	r.settle("an end", func(c gateway.Counters) bool {
		return c.Tunnels == 0 && c.H2Connections == 1 && c.H2["OutputStall"]+c.H2["StallTimeout"]+int64(c.Bounds["stall-timeout"]) > 0
	})
}

// deaf is a TLS connection that never reads after its handshake and has greeted.
func deaf(r *rig) net.Conn {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.https)
	r.must(err)
	r.t.Cleanup(func() { nc.Close() })
	r.must(nc.(*net.TCPConn).SetReadBuffer(4096))
	config := clientTLS.Clone()
	config.NextProtos = []string{"h2"}
	tc := tls.Client(nc, config)
	r.must(tc.Handshake())
	_, err = io.WriteString(tc, http2.ClientPreface)
	r.must(err)
	return tc
}

// TestDeafPipeline: a client of HTTP/1.1 that asks and never reads is cut after
// the stall time.
func TestDeafPipeline(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.StallTimeout = 500 * time.Millisecond })
	nc, err := net.Dial("tcp", r.http)
	r.must(err)
	t.Cleanup(func() { nc.Close() })
	r.must(nc.(*net.TCPConn).SetReadBuffer(4096))
	wrong := strings.Replace(rawpeer.UpgradeRequest("/chat"), rawpeer.Key, "no-key", 1) // is answered 400
	p := []byte(strings.Repeat(wrong, 100))
	for range 10000 {
		nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err = nc.Write(p); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writing to the gateway: got %v, want a reset", err)
	}
	r.settle("an end", func(c gateway.Counters) bool { return c.H1Connections == 0 && c.H1["Aborted"] == 1 })
}

// TestSlowHandshakes: TLS handshakes are bounded in number and in time; over
// the number accepting waits.
func TestSlowHandshakes(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.MaxHandshakes, c.HeaderTimeout = 1, 2*time.Second })
	begin := time.Now()
	silent, err := net.Dial("tcp", r.https)
	r.must(err)
	t.Cleanup(func() { silent.Close() })
	ended := make(chan error, 1)
	go func() {
		silent.SetReadDeadline(time.Now().Add(rawpeer.Patience))
		_, err := silent.Read(make([]byte, 1))
		ended <- err
	}()
	c := r.h2() // its handshake has to wait for the end of the other
	if d := time.Since(begin); d < 2*time.Second {
		t.Errorf("a second handshake: got an end after %v, want it to wait for the first, 2s", d)
	}
	r.must(c.WantAlive())
	select {
	case err := <-ended:
		if err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a client that says nothing: got %v, want the end of the connection", err)
		}
	case <-time.After(rawpeer.Patience):
		t.Error("a client that says nothing: got no end of the connection")
	}
}
