package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// counted3 waits until a counter of HTTP/3 has reached n.
func (r *rig) counted3(name string, n int64) {
	r.t.Helper()
	r.settle(fmt.Sprintf("%d at the counter h3.%s", n, name), func(c gateway.Counters) bool { return c.H3[name] >= n })
}

// TestH3Floods: each flood of one client ends its own connection with
// H3_EXCESSIVE_LOAD (RFC 9114 section 10.5) and is counted; a tunnel of another
// client lives through all of them.
func TestH3Floods(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.MaxHeader = 4 << 10 })
	near := r.h3()
	id, b := r.tunnel3(near)
	get := rawpeer.F(":method", "GET", ":scheme", "https", ":authority", "example.test")
	section := rawpeer.Section(append(get, rawpeer.Field{Name: ":path", Value: "/"}))
	malformed := rawpeer.F(":method", "GET", ":path", "/")
	// A long value that QPACK has in its static table makes much of little.
	bomb := append([]byte{0, 0}, bytes.Repeat([]byte{0xc0 | 52}, 4<<10)...)
	for _, f := range []struct {
		name, counter string
		flood         func(c *rawpeer.H3) error
	}{
		{"requests given up", "RapidReset", func(c *rawpeer.H3) error {
			for i := 0; i < 2000 && !c.Ended(); i++ {
				if id := c.Open(); id >= 0 {
					c.Raw(id, []byte{0x01, 0x40})
					c.ResetStream(id, 0x10c)
					c.StopSending(id, 0x10c)
				}
			}
			return nil
		}},
		{"malformed requests", "MadeReset", func(c *rawpeer.H3) error {
			for i := 0; i < 1000 && !c.Ended(); i++ {
				if id := c.Open(); id >= 0 {
					c.HeadersOn(id, malformed, false)
				}
			}
			return nil
		}},
		{"empty DATA", "EmptyData", func(c *rawpeer.H3) error {
			id := c.Open()
			if err := c.Frame(id, 0x01, section); err != nil {
				return err
			}
			return c.Raw(id, bytes.Repeat(rawpeer.H3Frame(0, nil), 5000))
		}},
		{"unknown frames", "OtherFrames", func(c *rawpeer.H3) error {
			return c.Raw(c.Open(), bytes.Repeat(rawpeer.H3Frame(0x21, nil), 20000))
		}},
		{"streams of unknown types", "UniStreams", func(c *rawpeer.H3) error {
			for i := 0; i < 1000 && !c.Ended(); i++ {
				ctx, cancel := context.WithTimeout(context.Background(), rawpeer.Patience)
				str, err := c.Conn().OpenUniStreamSync(ctx)
				cancel()
				if err != nil {
					return nil // it has ended, which is what is wanted
				}
				str.Write([]byte{0x21})
				str.Close()
			}
			return nil
		}},
		{"a huge field section", "HeaderLength", func(c *rawpeer.H3) error {
			return c.Raw(c.Open(), append([]byte{0x01}, rawpeer.H3Varint(1<<20)...))
		}},
		{"field sections that never end", "HeaderMemory", func(c *rawpeer.H3) error {
			for range 20 {
				if err := c.Raw(c.Open(), append([]byte{0x01}, append(rawpeer.H3Varint(8<<10), make([]byte, 7<<10)...)...)); err != nil {
					return nil
				}
			}
			return nil
		}},
		{"a QPACK bomb", "HeaderBomb", func(c *rawpeer.H3) error {
			return c.Frame(c.Open(), 0x01, bomb)
		}},
	} {
		c := r.h3()
		if err := f.flood(c); err != nil && !c.Ended() {
			t.Errorf("%s: %v", f.name, err)
		}
		r.check(f.name, c.WantClosed(0x107))
		r.counted3(f.counter, 1)
		r.check(f.name+": another client", near.Data(id, []byte("x"), false))
		r.check(f.name+": another client", b.WantBytes([]byte("x")))
	}
	// Fields over the limit, but not by far, cost the request only.
	c := r.h3()
	_, err := c.WantStatus(c.Get("/", rawpeer.Field{Name: "x", Value: strings.Repeat("y", 5<<10)}), 431)
	r.check("fields over the limit", err)
	r.counted3("HeaderLimit", 1)
	r.check("the connection goes on", c.WantAlive())
	r.check("nothing at the backend", r.be.WantNone())
}

// TestH3SlowHead: a request whose head does not come is given back unprocessed (RFC
// 9114 section 4.1.1).
func TestH3SlowHead(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.HeaderTimeout = 200 * time.Millisecond })
	c := r.h3()
	id := c.Open()
	r.must(c.Raw(id, []byte{0x01, 0x20, 0, 0}))
	r.check("a slow head", c.WantReset(id, 0x10b))
	r.check("a slow head", c.WantStop(id, 0x10b))
	r.counted3("HeaderTimeout", 1)
	r.check("the connection goes on", c.WantAlive())
	r.check("nothing at the backend", r.be.WantNone())
}

// TestH3StreamLimits: --max-streams is what the client is allowed at once;
// --max-tunnels-per-conn leaves some for requests.
func TestH3StreamLimits(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.MaxStreams, c.MaxTunnelsPerConn = 5, 3 })
	c := r.h3()
	var ids []int64
	for range 3 {
		id, _ := r.tunnel3(c)
		ids = append(ids, id)
	}
	f, err := c.WantStatus(c.Connect("/chat"), 503)
	r.check("one tunnel more", err)
	if f.Get("retry-after") == "" {
		t.Error("one tunnel more: got no Retry-After")
	}
	r.counted3("TunnelLimit", 1)
	for range 2 { // with the tunnels all that are allowed
		if c.Open() < 0 {
			t.Fatal("got no stream, want five at once")
		}
	}
	if str, err := c.Conn().OpenStream(); err == nil {
		t.Errorf("got a sixth stream %d, want none", str.StreamID())
	}
	c.ResetStream(ids[0], 0x10c)
	r.must(c.WantReset(ids[0], 0x10c))
	if c.Open() < 0 {
		t.Error("got no stream in the place of one that has ended")
	}
}

// TestH3QuietTunnel is row 161: QUIC would give a silent connection up after five
// seconds, as this client asks for (quic-go takes less for five); the tunnel lives until its own idle time.
func TestH3QuietTunnel(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.Idle = 6 * time.Second })
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	r.must(err)
	t.Cleanup(func() { pc.Close() })
	c, err := rawpeer.DialH3From(pc, r.https, clientTLS, &quic.Config{MaxIdleTimeout: 5 * time.Second})
	r.must(err)
	t.Cleanup(c.Close)
	c.Patience = 20 * time.Second
	r.must(c.Greet())
	id, _ := r.tunnel3(c)
	r.check("idle time of the tunnel", c.WantData(id, frame(0x88, false, closeOf(1001, "idle"))))
}

// TestH3Retry: with many handshakes under way a client that has not shown its address
// is asked to (RFC 9000 section 8.1.2). A flood of Initials from clients who never answer
// takes no more handshakes than that, and one who does answer connects.
func TestH3Retry(t *testing.T) {
	const above, flood = 20, 120
	r := start(t, func(c *gateway.Config) { c.QUICRetryAbove, c.HeaderTimeout = above, time.Minute })
	for range flood {
		deafInitial(t, r.https)
	}
	r.counted3("Retry", flood-above)
	before := r.gw.Counters().H3["Retry"]
	c := r.h3()
	r.check("a client that answers Retry", c.WantAlive())
	r.counted3("Retry", before+1)
}

// deafInitial sends the first flight of a client that never hears an answer.
func deafInitial(t *testing.T, addr string) {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: to.IP})
	if err != nil {
		t.Fatal(err)
	}
	d := &deafSocket{PacketConn: pc, sent: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		config := clientTLS.Clone()
		config.NextProtos = []string{"h3"}
		conf := &quic.Config{HandshakeIdleTimeout: time.Minute} // longer than the test
		if _, err := quic.Dial(ctx, d, to, config, conf); !errors.Is(err, context.Canceled) {
			t.Errorf("a client that hears nothing: got %v, want its end by the test", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		pc.Close()
	})
	<-d.sent
}

// deafSocket is one on which nothing is ever heard.
type deafSocket struct {
	net.PacketConn
	sent chan struct{}
}

func (d *deafSocket) WriteTo(p []byte, to net.Addr) (int, error) {
	n, err := d.PacketConn.WriteTo(p, to)
	select {
	case d.sent <- struct{}{}:
	default:
	}
	return n, err
}

func (d *deafSocket) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		if n, from, err := d.PacketConn.ReadFrom(p); err != nil {
			return n, from, err
		}
	}
}
