package operator

import (
	"io"
	"net"
	"strings"
	"testing"

	"wsgate/internal/gateway"
	"wsgate/internal/load"
	"wsgate/internal/ownnet"
)

// TestPortsExhausted: where outgoing connections have four ports, two sources
// carry eight tunnels to a server; the next clients are answered 503, and the log
// says it once.
func TestPortsExhausted(t *testing.T) { ownnet.Run(t, "40000 40003", portsExhausted) }

func portsExhausted(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.2:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go load.ServeEcho(ln.(*net.TCPListener))
	// Listeners take no port of the four.
	r := run(t, strings.NewReplacer("127.0.0.1:0", "127.0.0.1:9001", "{address: \":0\"}", "{address: \":9002\"}").Replace(
		upstreamOf("servers: 'ws://127.0.0.2:9000'\nsource_addresses: [127.0.0.50, 127.0.0.51]")))
	c := r.h2(0, false, "")
	ids := make([]uint32, 8)
	for i := range ids {
		ids[i] = c.Connect("/")
		if _, err := c.WantStatus(ids[i], 200); err != nil {
			t.Fatalf("tunnel %d: %v", i, err)
		}
	}
	for range 5 {
		h, err := c.WantStatus(c.Connect("/"), 503)
		if err != nil {
			t.Fatal(err)
		}
		if h.Get("retry-after") == "" {
			t.Errorf("got %v, want Retry-After", h)
		}
	}
	for _, id := range ids {
		c.Data(id, []byte{0x89, 0x80, 0, 0, 0, 0}, false)
		if err := c.WantData(id, []byte{0x8a, 0}); err != nil {
			t.Errorf("a tunnel that stood: %v", err)
		}
	}
	r.log.wants(t, "no port is left")
	r.gw.Close() // the log is whole
	if n := strings.Count(r.log.String(), "no port is left"); n != 1 {
		t.Errorf("got %d lines about ports in the log, want 1:\n%s", n, r.log)
	}
}

// TestPortOfBoth: a port that the kernel chooses is free over UDP as well, for
// HTTP/3.
func TestPortOfBoth(t *testing.T) { ownnet.Run(t, "40000 40007", portOfBoth) }

func portOfBoth(t *testing.T) {
	const free = "40003"
	for _, port := range []string{"40000", "40001", "40002", "40004", "40005", "40006", "40007"} {
		pc, err := net.ListenPacket("udp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
	}
	c := gateway.Default()
	c.Listen, c.SelfSigned, c.Backend = []string{"https://127.0.0.1:0"}, true, "ws://127.0.0.2:9000"
	g, err := gateway.Start(c, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, port, _ := net.SplitHostPort(g.Addresses()[0].String()); port != free {
		t.Errorf("got port %s, want %s, which is free over UDP", port, free)
	}
}
