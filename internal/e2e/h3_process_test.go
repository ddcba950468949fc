package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// TestTermH3 is rows 133, 156 and 157 over HTTP/3: GOAWAY twice, Close 1001 at the
// next frame boundary, FIN, and CONNECTION_CLOSE H3_NO_ERROR behind the last request;
// a stream behind GOAWAY is rejected, and nothing of it reaches a backend.
func TestTermH3(t *testing.T) {
	p := runs(t, "", "--drain-time", "4s")
	c := p.h3()
	get := c.Get("/slow")
	request := p.next()
	_, err := request.ReadHead()
	p.must(err)
	whole, wholeB := p.tunnel3(c)
	split, splitB := p.tunnel3(c) // its backend stands inside a frame
	p.must(splitB.Write(frame(0x81, false, []byte("hello"))[:4]))
	p.must(c.WantData(split, frame(0x81, false, []byte("hello"))[:4]))
	p.signal(syscall.SIGTERM)
	p.must(c.WantGoAway(1<<62 - 4))
	p.must(c.WantGoAway(uint64(split) + 4)) // by then tunnels may have ended

	before := p.be.Accepted()
	late := c.Connect("/late")
	p.must(c.WantReset(late, 0x10b))
	p.must(c.WantStop(late, 0x10b))

	p.must(wantMasked(splitB, 0x88, closeOf(1001, "")))
	if n := len(c.Stream(split).Data); n != 0 {
		t.Errorf("octets inside the backend's frame: got %d, want 0", n)
	}
	drained(p, c, whole, split, wholeB, splitB)
	if got := p.be.Accepted() - before; got != 0 {
		t.Errorf("connections at the backend after the final GOAWAY: got %d, want 0", got)
	}
	if g := c.GoAways(); len(g) != 2 || g[0] != 1<<62-4 || g[1] != uint64(split)+4 {
		t.Errorf("GOAWAY: got %v, want 2^62-4, then %d", g, split+4)
	}
	p.must(request.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")))
	_, err = c.WantStatus(get, 200)
	p.must(err)
	p.must(c.WantData(get, []byte("done")))
	p.must(c.WantEnd(get))
	p.must(c.WantClosed(0x100))
	p.wantExit(0)
	for _, want := range []string{
		"msg=\"tunnel open\" id=", " http=3 host=example.test path=/chat ", "by=gateway why=drain reset=false", "msg=request client=127.0.0.1:", "path=/slow status=200",
	} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("log: got no %q", want)
		}
	}
}

// TestH3Goroutines: a tunnel over HTTP/3 costs one goroutine, and two while its output
// waits for the client; its backend leg costs none.
func TestH3Goroutines(t *testing.T) {
	const tunnels = 100
	p := runsBefore(t, "", "ws://"+backendAt(t))
	c := p.h3()
	_, err := openMany(c, 1, "/end")
	p.must(err)
	// still waits until there are n goroutines, any number with 0, and stay so many.
	still := func(what string, n int) int {
		last, same := -1, 0
		return p.until(what, 20*time.Second, func(c gateway.Counters) bool {
			if same++; c.Goroutines != last || n > 0 && n != last {
				last, same = c.Goroutines, 0
			}
			return same == 10
		}).Goroutines
	}
	before := still("goroutines that stand still", 0)
	ids, err := openMany(c, tunnels, "/blast")
	p.must(err)
	still("one goroutine for each tunnel", before+tunnels)
	for _, id := range ids {
		c.HoldStream(id, true)
		p.must(c.Data(id, hello, false))
	}
	still("two goroutines for each tunnel", before+2*tunnels)
	_, stacks := p.get("/debug/pprof/goroutine?debug=1")
	for _, leg := range []string{"wsgate/h1.", "wsgate/internal/upstream.(*Upstream).Open", "wsgate/bridge."} {
		if strings.Contains(string(stacks), leg) {
			t.Errorf("goroutines: got one in %s, want none for the backend leg\n%s", leg, stacks)
		}
	}
	c.Close()
	p.until("an end of all", 5*time.Second, func(c gateway.Counters) bool { return c.Tunnels == 0 && c.Goroutines <= before })
}

// TestH3Stuck is rows 117 and 159: a hundred tunnels whose backends never read take no
// more than windows and sockets, and a neighbour on the same connection answers all
// the while.
func TestH3Stuck(t *testing.T) {
	const tunnels = 100
	p := runsBefore(t, "", "ws://"+backendAt(t))
	c := p.h3()
	near, err := openMany(c, 1, "/end")
	p.must(err)
	stuck, err := openMany(c, tunnels, "/stuck")
	p.must(err)
	idle := p.rss()
	echo := func() {
		t.Helper()
		p.must(c.Data(near[0], hello, false))
		p.must(c.WantData(near[0], helloBack))
	}
	piece := rawpeer.H3Frame(0, bytes.Repeat([]byte{0x82, 0x83, 0, 0, 0, 0, 1, 2}, 1<<20/8))
	sent := make(chan int, tunnels)
	for _, id := range stuck {
		go func() { sent <- c.Push(id, piece, time.Now().Add(3*time.Second)) }()
	}
	total, most := 0, 0
	for range stuck {
		n := <-sent
		total, most = total+n, max(most, n)
		echo()
	}
	// A stream's window, and what two sockets of a backend take.
	if bound := 128<<10 + 512<<10; most > bound {
		t.Errorf("octets that one tunnel took: got %d, want at most %d", most, bound)
	}
	rss := p.rss()
	if bound := idle + tunnels*(128<<10) + 32<<20; rss > bound {
		t.Errorf("resident memory: got %d, want at most %d", rss, bound)
	}
	for range 100 {
		echo()
	}
	p.must(c.WantAlive())
	t.Logf("accepted %d octets, %d KiB a tunnel, %d KiB at most; RSS %d MiB, %d MiB with the tunnels idle", total, total/tunnels>>10, most>>10, rss>>20, idle>>20)
	c.Close()
	p.until("an end of all", 5*time.Second, func(c gateway.Counters) bool { return c.Tunnels == 0 && c.H3Connections == 0 })
}

// TestH3Restart: what a gateway has told clients holds after it was killed and started
// again. A client whose connection it knows nothing of hears so at once (stateless
// reset, RFC 9000 section 10.3), and one that has shown its address before need not
// show it again (section 8.1.3).
func TestH3Restart(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key)
	be := backendAt(t)
	run := func(at string) *process {
		p := launch(t, "", "run", "--listen", "https://"+at, "--admin", "127.0.0.1:0", "--backend", "ws://"+be,
			"--cert", cert, "--key", key, "--quic-retry-above", "1")
		p.https = p.line(`msg=listening on=https://\S+ address=(\S+)`)
		p.admin = p.line(`msg=admin address=(\S+)`)
		return p
	}
	p := run("127.77.0.1:0") // where nobody else takes the port in between
	tokens := quic.NewLRUTokenStore(4, 4)
	dial := func(store quic.TokenStore) *rawpeer.H3 {
		t.Helper()
		pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		p.must(err)
		t.Cleanup(func() { pc.Close() })
		// Alone it would hear nothing of the restart for a minute.
		conf := &quic.Config{TokenStore: store, MaxIdleTimeout: time.Minute, HandshakeIdleTimeout: rawpeer.Patience}
		c, err := rawpeer.DialH3From(pc, p.https, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}, conf)
		p.must(err)
		t.Cleanup(c.Close)
		p.must(c.Greet())
		p.must(c.WantAlive())
		return c
	}
	c := dial(tokens)
	p.must(p.cmd.Process.Kill())
	<-p.ended
	again := run(p.https)

	c.Connect("/")
	ctx, cancel := context.WithTimeout(context.Background(), rawpeer.Patience)
	defer cancel()
	select {
	case <-c.Conn().Context().Done():
		var reset *quic.StatelessResetError
		if err := context.Cause(c.Conn().Context()); !errors.As(err, &reset) {
			t.Errorf("a connection of before the restart: got %v, want a stateless reset", err)
		}
	case <-ctx.Done():
		t.Error("a connection of before the restart: got nothing, want a stateless reset")
	}

	deafInitial(t, p.https) // now others have to show their address
	again.until("a handshake under way", 5*time.Second, func(c gateway.Counters) bool {
		before := c.H3["Retry"]
		dial(nil)
		return again.counters().H3["Retry"] > before
	})
	before := again.counters().H3["Retry"]
	dial(tokens)
	if got := again.counters().H3["Retry"]; got != before {
		t.Errorf("Retry for a client with a token of before the restart: got %d, want none", got-before)
	}
}
