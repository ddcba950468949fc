package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// backendEnv makes the test binary a backend process.
const backendEnv = "WSGATE_E2E_BACKEND"

var (
	hello     = frame(0x81, true, []byte("hello"))
	helloBack = frame(0x81, false, []byte("hello"))
	bye       = frame(0x88, true, closeOf(1000, ""))
	byeBack   = frame(0x88, false, closeOf(1000, ""))
)

// backendProcess serves tunnels by the names of their paths until its standard
// input ends.
func backendProcess() {
	be, err := rawpeer.NewBackend("127.0.0.1:0", nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(be.Addr())
	go func() {
		for {
			if c, err := be.Next(); err == nil {
				go serveTunnel(c)
			}
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}

// serveTunnel answers the first message. At the second it ends the tunnel by
// FIN or RST if the path says so. A Close is answered and is the end. /stuck
// reads nothing, /blast says more than anybody takes, /refuse is refused, /mute never
// answered.
func serveTunnel(c *rawpeer.BackendConn) {
	c.Patience = 10 * time.Minute
	defer c.Close()
	h, err := c.ReadHead()
	if err != nil {
		return
	}
	path := strings.Fields(h.Line)[1]
	switch path {
	case "/refuse":
		c.Write([]byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"))
		return
	case "/mute":
		io.Copy(io.Discard, c)
		return
	}
	if c.Answer101(h) != nil {
		return
	}
	if path == "/stuck" {
		select {}
	}
	p := make([]byte, 16)
	for n := 0; ; n++ {
		if _, err := io.ReadFull(c, p[:6]); err != nil {
			return
		}
		first := p[0]
		if _, err := io.ReadFull(c, p[:p[1]&0x7f]); err != nil { // short messages only
			return
		}
		switch {
		case first == 0x88:
			c.Write(byeBack)
			c.CloseWrite()
			io.Copy(io.Discard, c)
			return
		case n > 0 && path == "/blast":
			c.Write(make([]byte, 4<<20))
			return
		case n > 0 && path == "/fin":
			c.CloseWrite()
			io.Copy(io.Discard, c)
			return
		case n > 0 && path == "/rst":
			c.Reset()
			return
		}
		if c.Write(helloBack) != nil {
			return
		}
	}
}

// backendAt starts a backend process and returns its address.
func backendAt(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), backendEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

// idlePath has a short idle timeout. Its tunnels are opened when all others are
// there, so that no machine is too slow for them to stand together.
const idlePath = "/idle"

// ways are the ends of a tunnel on HTTP/2: what each does after its messages.
var ways = []struct {
	name, path string
	end        func(c *rawpeer.H2, id uint32) error
}{
	{"client END_STREAM first", "/end", func(c *rawpeer.H2, id uint32) error {
		return errors.Join(c.End(id), c.WantEnd(id))
	}},
	{"backend FIN first", "/fin", func(c *rawpeer.H2, id uint32) error {
		return errors.Join(c.Data(id, hello, false), c.WantEnd(id), c.End(id))
	}},
	{"Close handshake", "/close", func(c *rawpeer.H2, id uint32) error {
		return errors.Join(c.Data(id, bye, false), c.WantData(id, byeBack), c.WantEnd(id), c.End(id))
	}},
	{"client RST_STREAM", "/end", func(c *rawpeer.H2, id uint32) error { return c.Reset(id, http2.ErrCodeCancel) }},
	{"backend RST", "/rst", func(c *rawpeer.H2, id uint32) error {
		return errors.Join(c.Data(id, hello, false), c.WantReset(id, http2.ErrCodeCancel))
	}},
	{"connection cut", "/end", nil},
	{"idle timeout", idlePath, func(c *rawpeer.H2, id uint32) error {
		return errors.Join(c.WantData(id, frame(0x88, false, closeOf(1001, "idle"))),
			c.Data(id, frame(0x88, true, closeOf(1001, "")), true), c.WantEnd(id))
	}},
}

// crowd opens n tunnels on a connection of its own, carries a message both ways
// in each, says so, waits for go on, and ends them in a way.
func (p *process) crowd(n, way int, ready *sync.WaitGroup, goOn <-chan struct{}) error {
	w := ways[way]
	arrive := func() { ready.Done(); <-goOn }
	c, err := rawpeer.DialH2(p.https, clientTLS)
	if err != nil {
		ready.Done()
		return err
	}
	defer c.Close()
	c.Patience = 30 * time.Second
	if w.path == idlePath {
		arrive()
	}
	ids, err := openMany(c, n, w.path)
	if w.path != idlePath {
		arrive()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	if w.end == nil {
		c.Cut()
		return nil
	}
	for _, id := range ids {
		if err := w.end(c, id); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return c.WantAlive()
}

// muxed is a client with many streams on a connection: rawpeer's of HTTP/2 and of
// HTTP/3.
type muxed[ID any] interface {
	Connect(path string, more ...rawpeer.Field) ID
	WantStatus(id ID, status int) (rawpeer.Fields, error)
	Data(id ID, p []byte, end bool) error
	WantData(id ID, p []byte) error
	WantEnd(id ID) error
}

// openMany opens n tunnels, few at a time, and carries a message both ways.
func openMany[ID any](c muxed[ID], n int, path string) ([]ID, error) {
	var ids []ID
	for len(ids) < n {
		first := len(ids)
		for range min(20, n-first) {
			ids = append(ids, c.Connect(path))
		}
		for _, id := range ids[first:] {
			if _, err := c.WantStatus(id, 200); err != nil {
				return nil, err
			}
			if path == "/stuck" {
				continue
			}
			if err := errors.Join(c.Data(id, hello, false), c.WantData(id, helloBack)); err != nil {
				return nil, err
			}
		}
	}
	return ids, nil
}

// single is a tunnel over HTTP/1.1, ended in one of four ways.
func (p *process) single(secure bool, way int, ready *sync.WaitGroup, goOn <-chan struct{}) error {
	path := []string{"/end", "/fin", "/close", "/end"}[way]
	c, err := p.openSingle(secure, path)
	ready.Done()
	if err != nil {
		return fmt.Errorf("HTTP/1.1, TLS %v: %w", secure, err)
	}
	defer c.Close()
	<-goOn
	switch way {
	case 0:
		err = errors.Join(c.CloseWrite(), c.WantFIN())
	case 1:
		err = errors.Join(c.Write(hello), c.WantFIN(), c.CloseWrite())
	case 2:
		err = errors.Join(c.Write(bye), c.WantBytes(byeBack), c.WantFIN())
	default:
		c.Cut()
	}
	if err != nil {
		return fmt.Errorf("HTTP/1.1, TLS %v, way %d: %w", secure, way, err)
	}
	return nil
}

func (p *process) openSingle(secure bool, path string) (*rawpeer.H1, error) {
	addr, config := p.http, clientTLS
	if secure {
		addr = p.https
	} else {
		config = nil
	}
	c, err := rawpeer.DialH1(addr, config)
	if err != nil {
		return nil, err
	}
	c.Patience = 30 * time.Second
	err = c.WriteString(rawpeer.UpgradeRequest(path))
	if err == nil {
		_, err = c.WantStatus("GET", 101)
	}
	if err == nil {
		err = errors.Join(c.Write(hello), c.WantBytes(helloBack))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// wave opens tunnels in all ways at once and ends them: on HTTP/2 one
// connection with perConn tunnels for each way, on HTTP/1.1 singles of each way,
// plain and TLS. It returns how many there were at once, those of idlePath apart.
func (p *process) wave(conns, perConn, singles int) (peak int64) {
	p.t.Helper()
	var ready, done sync.WaitGroup
	goOn := make(chan struct{})
	errs := make(chan error, conns+8*singles)
	start := func(f func() error) {
		ready.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			if err := f(); err != nil {
				errs <- err
			}
		}()
	}
	for i := range conns {
		start(func() error { return p.crowd(perConn, i%len(ways), &ready, goOn) })
	}
	slots := make(chan struct{}, 16) // of opening singles: each takes a handshake
	for i := range 8 * singles {
		start(func() error {
			slots <- struct{}{}
			var one sync.WaitGroup
			one.Add(1)
			go func() { one.Wait(); <-slots; ready.Done() }()
			return p.single(i%2 == 0, i/2%4, &one, goOn)
		})
	}
	ready.Wait()
	peak = p.counters().Tunnels
	close(goOn)
	done.Wait()
	select {
	case err := <-errs:
		p.t.Fatalf("%v (and %d more)", err, len(errs))
	default:
	}
	return peak
}

// TestTenThousandTunnels opens, uses and ends them in all ways of part F, with
// gateway, backend and client as three processes: what the admin listener counts
// is 5 s later what it was before.
func TestTenThousandTunnels(t *testing.T) {
	p := runsFile(t, "ws://"+backendAt(t), `routes:
  - {name: idle, match: {path: `+idlePath+`}, upstream: backend, timeouts: {idle: 5s}}
  - {name: all, upstream: backend}
`)
	begin := time.Now()
	p.wave(len(ways), 1, 1)
	quiet := func(c gateway.Counters) bool {
		return c.Tunnels == 0 && c.Pending == 0 && c.H1Connections == 0 && c.H2Connections == 0
	}
	var before gateway.Counters
	same := 0
	p.until("figures that stand still", 10*time.Second, func(c gateway.Counters) bool {
		if same++; !quiet(c) || c.Descriptors != before.Descriptors || c.Goroutines != before.Goroutines || c.Entries != before.Entries {
			before, same = c, 0
		}
		return same == 5
	})
	const conns, perConn, singles, waves = 12, 180, 42, 4 // 4 x (12 x 180 + 8 x 42) = 9984
	const atOnce = (conns-1)*perConn + 8*singles          // one connection is that of idlePath
	peak := int64(0)
	for range waves {
		if n := p.wave(conns, perConn, singles); n < atOnce {
			t.Errorf("tunnels at once: got %d, want %d", n, atOnce)
		} else {
			peak = max(peak, n)
		}
	}
	p.wave(2, 8, 0) // and 16 more
	opened := time.Since(begin)
	after := p.until("figures as before", 5*time.Second, func(c gateway.Counters) bool {
		return quiet(c) && c.Descriptors == before.Descriptors && c.Goroutines == before.Goroutines && c.Entries == before.Entries
	})
	if got := after.Opened - before.Opened; got != 10000 {
		t.Errorf("tunnels opened: got %d, want 10000", got)
	}
	t.Logf("%d tunnels in %v, %d at once; before: %d descriptors, %d goroutines, %d loop entries; after: %d, %d, %d",
		after.Opened-before.Opened, opened.Round(time.Millisecond), peak, before.Descriptors, before.Goroutines, before.Entries,
		after.Descriptors, after.Goroutines, after.Entries)
}

// rss is the resident memory of the program in octets.
func (p *process) rss() int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	p.must(err)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			p.must(err)
			return n << 10
		}
	}
	p.t.Fatalf("no VmRSS in %q", b)
	return 0
}

// TestStuckCrowd: a thousand tunnels of one connection whose backends never read
// take no more than windows and sockets, and a neighbour answers all the while
// (row 117).
func TestStuckCrowd(t *testing.T) {
	const tunnels = 1000
	p := runsBefore(t, "", "ws://"+backendAt(t), "--max-streams", "1100", "--max-tunnels-per-conn", "1001")
	c, err := rawpeer.DialH2(p.https, clientTLS)
	p.must(err)
	t.Cleanup(c.Close)
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
	total, most := int64(0), int64(0)
	sent := make(map[uint32]int64)
	piece := bytes.Repeat([]byte{0x82, 0x83, 0, 0, 0, 0, 1, 2}, 2048)
	for still := 0; still < 5; { // until nothing more is taken
		before := total
		for i, id := range stuck {
			for {
				room, all := c.Windows(id)
				n := min(room, all, int64(len(piece)))
				if n <= 0 {
					break
				}
				p.must(c.Send(id, piece[:n]))
				sent[id] += n
				total += n
			}
			if i%50 == 0 {
				echo()
			}
		}
		echo() // all WINDOW_UPDATEs that were due have been read
		if still++; total > before {
			still = 0
		}
	}
	for _, n := range sent {
		most = max(most, n)
	}
	if bound := int64(tunnels * (256<<10 + 256<<10)); total > bound {
		t.Errorf("octets accepted: got %d, want at most %d", total, bound)
	}
	// What the gateway itself holds is a window for each tunnel and 4 MiB of
	// grown windows; the rest lies in sockets.
	counters := p.counters()
	if bound := int64(tunnels*(64<<10+8<<10) + 8<<20); counters.BufferMemory > bound {
		t.Errorf("octets queued: got %d, want at most %d", counters.BufferMemory, bound)
	}
	rss := p.rss()
	if bound := int64(256 << 20); rss > bound {
		t.Errorf("resident memory: got %d, want at most %d", rss, bound)
	}
	for range 100 {
		echo()
	}
	p.must(c.WantAlive())
	t.Logf("accepted %d octets, %d KiB a tunnel, %d KiB at most; queued %d MiB; RSS %d MiB, %d MiB with the tunnels idle",
		total, total/tunnels>>10, most>>10, counters.BufferMemory>>20, rss>>20, idle>>20)
	c.Cut()
	p.until("an end of all", 5*time.Second, func(c gateway.Counters) bool { return c.Tunnels == 0 && c.BufferMemory == 0 })
}
