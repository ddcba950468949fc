package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/gateway"
	"wsgate/internal/load"
	"wsgate/internal/rawpeer"
)

// binaryDir holds the program that the tests run; see program.
var binaryDir string

// program builds the program, once, and returns its path.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "wsgate-e2e-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "wsgate")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/wsgate")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// process is a running gateway.
type process struct {
	*rig
	cmd   *exec.Cmd
	admin string
	out   syncBuffer // standard output
	ended chan struct{}
	err   error // of Wait; read it after ended
}

// launch starts the program under a shell line that ends in exec "$@".
func launch(t *testing.T, shell string, args ...string) *process {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if shell != "" {
		args = append([]string{"-c", shell, "sh", path}, args...)
		path = "/bin/sh"
	}
	p := &process{rig: &rig{t: t, log: &syncBuffer{}}, ended: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Stderr, p.cmd.Stdout = p.log, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("standard error of the program:\n%s", p.log)
		}
		if strings.Contains(p.log.String(), "panic") || strings.Contains(p.log.String(), "goroutine ") {
			t.Error("the program panicked")
		}
	})
	return p
}

// runs starts `wsgate run` with the usual listeners before a raw backend.
func runs(t *testing.T, shell string, more ...string) *process {
	t.Helper()
	be, err := rawpeer.NewBackend("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	p := runsBefore(t, shell, "ws://"+be.Addr(), more...)
	p.be = be
	c, err := be.Next() // the look whether it is up
	p.must(err)
	p.must(c.WantEnded())
	c.Close()
	return p
}

func runsBefore(t *testing.T, shell, backend string, more ...string) *process {
	t.Helper()
	args := []string{"run", "--listen", "https://127.0.0.1:0", "--listen", "http://127.0.0.1:0", "--admin", "127.0.0.1:0", "--backend", backend}
	if !strings.Contains(strings.Join(more, " "), "--cert") {
		args = append(args, "--self-signed")
	}
	p := launch(t, shell, append(args, more...)...)
	p.listens()
	return p
}

// runsFile starts `wsgate run -c` with a file that has what the flags of runsBefore
// say, and more.
func runsFile(t *testing.T, backend, more string) *process {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wsgate.yaml")
	write(t, path, []byte(`listeners: [{address: "127.0.0.1:0", tls: true}, {address: "127.0.0.1:0"}]
certificates: [{self_signed: [localhost]}]
admin: {address: "127.0.0.1:0"}
upstreams: {backend: {servers: ["`+backend+`"]}}
`+more))
	p := launch(t, "", "run", "-c", path)
	p.listens()
	return p
}

// listens waits until the program has said where it listens.
func (p *process) listens() {
	p.t.Helper()
	p.https = p.line(`msg=listening on=\S+ address=(\S+) http="h2 and h1 by ALPN, h3 over UDP"`)
	p.http = p.line(`msg=listening on=\S+ address=(\S+) http="h1 and h2 with prior knowledge"`)
	p.admin = p.line(`msg=admin address=(\S+)`)
}

// line waits for a line on standard error and returns the first group in it.
func (p *process) line(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-tick.C {
		m := re.FindStringSubmatch(p.log.String())
		if m != nil {
			return m[len(m)-1]
		}
		select {
		case <-p.ended:
			if re.MatchString(p.log.String()) {
				continue
			}
			p.t.Fatalf("the program ended, %v, without a line %s", p.err, pattern)
		default:
		}
	}
	p.t.Fatalf("got no line %s", pattern)
	return ""
}

// signal sends a signal.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	p.must(p.cmd.Process.Signal(s))
}

// wantExit waits for the end of the program.
func (p *process) wantExit(code int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(2 * rawpeer.Patience):
		p.t.Fatalf("the program still runs, want exit %d", code)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit: got %d (%v), want %d", got, p.err, code)
	}
}

// get asks the admin listener.
func (p *process) get(path string) (int, []byte) {
	p.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: rawpeer.Patience}
	resp, err := c.Get("http://" + p.admin + path)
	p.must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	p.must(err)
	return resp.StatusCode, b
}

// counters reads those of the program.
func (p *process) counters() (c gateway.Counters) {
	p.t.Helper()
	_, b := p.get("/counters")
	p.must(json.Unmarshal(b, &c))
	return c
}

// until waits until a condition on the counters holds, for d at the most.
func (p *process) until(what string, d time.Duration, ok func(gateway.Counters) bool) gateway.Counters {
	p.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); ; <-tick.C {
		c := p.counters()
		if ok(c) {
			return c
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s after %v: got %+v", what, d, c)
		}
	}
}

// writePair makes a certificate and writes it as PEM files.
func writePair(t *testing.T, cert, key string) *big.Int {
	t.Helper()
	made, err := gateway.SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}))
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return made.Leaf.SerialNumber
}

func write(t *testing.T, path string, p []byte) {
	t.Helper()
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestStartErrors: what stops the program at its start is one clear line; exit 1
// for what it was told, 2 for how.
func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	cert, key, other, junk := dir+"/cert.pem", dir+"/key.pem", dir+"/other.pem", dir+"/junk.pem"
	writePair(t, dir+"/unused.pem", other)
	writePair(t, cert, key)
	write(t, junk, []byte("no PEM"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	backend := []string{"--backend", "ws://127.0.0.1:1"}
	secure := append([]string{"run", "--listen", "https://127.0.0.1:0"}, backend...)
	for name, x := range map[string]struct {
		args []string
		code int
		want string
	}{
		"port in use":      {append([]string{"run", "--listen", "http://" + taken.Addr().String()}, backend...), 1, "in use"},
		"admin in use":     {append([]string{"run", "--listen", "http://127.0.0.1:0", "--admin", taken.Addr().String()}, backend...), 1, "--admin"},
		"key of another":   {append(secure, "--cert", cert, "--key", other), 1, "private key does not match"},
		"key is no PEM":    {append(secure, "--cert", cert, "--key", junk), 1, "key"},
		"key missing":      {append(secure, "--cert", cert, "--key", dir+"/none.pem"), 1, "no such file"},
		"no certificate":   {secure, 1, "--self-signed"},
		"nothing to do":    {append([]string{"run"}, backend...), 1, "--listen"},
		"no backend":       {[]string{"run", "--listen", "http://127.0.0.1:0"}, 1, "--backend"},
		"strange backend":  {[]string{"run", "--listen", "http://127.0.0.1:0", "--backend", "ftp://x"}, 1, "--backend"},
		"strange address":  {append([]string{"run", "--listen", "tcp://127.0.0.1:0"}, backend...), 1, "--listen"},
		"bad proxies":      {append([]string{"run", "--listen", "http://127.0.0.1:0", "--trusted-proxies", "x"}, backend...), 1, "--trusted-proxies"},
		"unknown flag":     {[]string{"run", "--no-such-flag"}, 2, "--no-such-flag"},
		"unknown command":  {[]string{"fly"}, 2, `"fly"`},
		"extra argument":   {[]string{"run", "fly"}, 2, `"fly"`},
		"no duration":      {[]string{"run", "--idle", "soon"}, 2, "--idle"},
		"no choice":        {[]string{"run", "--log", "xml"}, 2, "--log"},
		"head of 1 octet":  {[]string{"run", "--max-header", "1"}, 2, "--max-header"},
		"argument to demo": {[]string{"demo", "fly"}, 2, `"fly"`},
	} {
		p := launch(t, "", x.args...)
		p.wantExit(x.code)
		lines := strings.Split(strings.TrimSuffix(p.log.String(), "\n"), "\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "wsgate: ") || !strings.Contains(last, x.want) {
			t.Errorf("%s: got %q, want a line with %q", name, last, x.want)
		}
		if len(lines) != 1 && name != "admin in use" { // its listeners stood already
			t.Errorf("%s: got %d lines, want 1:\n%s", name, len(lines), p.log)
		}
	}
	p := launch(t, "", "version")
	p.wantExit(0)
	if got := p.out.String(); !strings.HasPrefix(got, "wsgate ") || strings.Count(got, "\n") != 1 {
		t.Errorf("version: got %q, want one line", got)
	}
}

// TestBackendDownAtStart: it is a warning, and the gateway serves once it is up.
func TestBackendDownAtStart(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	p := runsBefore(t, "", "ws://"+addr)
	p.line(`level=WARN msg="backend is down`)
	if code, body := p.get("/ready"); code != 200 || string(body) != "ready\n" {
		t.Errorf("/ready: got %d %q, want 200", code, body)
	}
	c := p.h2()
	_, err = c.WantStatus(c.Connect("/chat"), 502)
	p.must(err)
	p.be, err = rawpeer.NewBackend(addr, nil)
	p.must(err)
	t.Cleanup(p.be.Close)
	id, b := p.open(c)
	p.echo(c, id, b)
	p.signal(syscall.SIGTERM)
	p.must(c.Reset(id, http2.ErrCodeCancel))
	p.wantExit(0)
}

// TestDemo: the first command of the README, on another port.
func TestDemo(t *testing.T) {
	p := launch(t, "", "demo", "--listen", "https://127.0.0.1:0")
	p.https = p.line(`msg=listening on=\S+ address=(\S+)`)
	p.line(`msg=backend url=ws://`)
	c := p.h2()
	id := c.Connect("/echo?quiet")
	_, err := c.WantStatus(id, 200)
	p.must(err)
	p.must(c.Data(id, frame(0x81, true, []byte("hello")), false))
	p.must(c.WantData(id, frame(0x81, false, []byte("hello"))))
	p.must(c.Data(id, frame(0x88, true, closeOf(1000, "")), false))
	p.must(c.WantData(id, frame(0x88, false, closeOf(1000, ""))))
	p.signal(syscall.SIGINT)
	p.wantExit(0)
}

// TestHangUp: SIGHUP takes a changed certificate, keeps the old one if the new
// is broken, and ends nothing.
func TestHangUp(t *testing.T) {
	dir := t.TempDir()
	cert, key := dir+"/cert.pem", dir+"/key.pem"
	first := writePair(t, cert, key)
	p := runs(t, "", "--cert", cert, "--key", key)
	serial := func() *big.Int {
		t.Helper()
		c, err := tls.Dial("tcp", p.https, clientTLS)
		p.must(err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber
	}
	if got := serial(); got.Cmp(first) != 0 {
		t.Errorf("certificate: got %v, want %v", got, first)
	}
	c := p.h2()
	id, b := p.open(c)
	second := writePair(t, cert, key)
	p.signal(syscall.SIGHUP)
	p.line(`msg="certificates reloaded"`)
	if got := serial(); got.Cmp(second) != 0 {
		t.Errorf("certificate after SIGHUP: got %v, want %v", got, second)
	}
	write(t, key, []byte("broken"))
	p.signal(syscall.SIGHUP)
	p.line(`level=ERROR msg="certificates not reloaded, the old ones stay"`)
	if got := serial(); got.Cmp(second) != 0 {
		t.Errorf("certificate after a broken file: got %v, want %v", got, second)
	}
	p.echo(c, id, b) // a connection from before
	p.must(c.WantAlive())
	p.must(c.Reset(id, http2.ErrCodeCancel))
	p.signal(syscall.SIGTERM)
	p.wantExit(0)
}

// TestTerm: SIGTERM ends everything in order (rows 114, 115, 131 to 133).
func TestTerm(t *testing.T) {
	p := runs(t, "", "--drain-time", "4s")
	c := p.h2()
	get := c.Get("/slow")
	request := p.next()
	_, err := request.ReadHead()
	p.must(err)
	whole, wholeB := p.open(c)
	split, splitB := p.open(c) // its backend stands inside a frame
	p.must(splitB.Write(frame(0x81, false, []byte("hello"))[:4]))
	p.must(c.WantData(split, frame(0x81, false, []byte("hello"))[:4]))
	h1, h1B := p.openH1(false)
	h1s, h1sB := p.openH1(true)
	last := split
	p.signal(syscall.SIGTERM)
	p.must(c.WantGoAway(http2.ErrCodeNo))
	p.line(`msg=drain`)

	p.must(wantMasked(splitB, 0x88, closeOf(1001, "")))
	p.must(c.Ping())
	if n := len(c.Stream(split).Data); n != 0 {
		t.Errorf("octets inside the backend's frame: got %d, want 0", n)
	}
	drained(p, c, whole, split, wholeB, splitB)
	if g := c.GoAways(); len(g) != 2 || g[0] != (rawpeer.GoAway{Last: 1<<31 - 1}) || g[1] != (rawpeer.GoAway{Last: last}) {
		t.Errorf("GOAWAY: got %v, want 2^31-1, then %d", g, last)
	}
	before := p.be.Accepted()
	p.must(c.WantReset(c.Connect("/late"), http2.ErrCodeRefusedStream))

	bye := closeOf(1001, "")
	toClient, reply := frame(0x88, false, bye), frame(0x88, true, bye)
	for i, x := range []struct {
		c *rawpeer.H1
		b *rawpeer.BackendConn
	}{{h1, h1B}, {h1s, h1sB}} {
		what := fmt.Sprintf("HTTP/1.1 tunnel %d", i)
		p.check(what, x.c.WantBytes(toClient))
		p.check(what, wantMasked(x.b, 0x88, bye))
		p.check(what, x.c.Write(reply))
		p.check(what, x.c.WantFIN())
		p.check(what, x.b.Write(frame(0x88, false, bye)))
		p.check(what, x.b.WantFIN())
		x.b.Close()
		x.c.Close()
	}
	for _, addr := range []string{p.https, p.http} {
		if nc, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a new connection to %s: got %v, want connection refused", addr, err)
			if err == nil {
				nc.Close()
			}
		}
	}
	if got := p.be.Accepted() - before; got != 0 {
		t.Errorf("connections at the backend after the final GOAWAY: got %d, want 0", got)
	}
	p.must(request.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")))
	_, err = c.WantStatus(get, 200)
	p.must(err)
	p.must(c.WantData(get, []byte("done")))
	p.must(c.WantEnd(get))
	p.must(c.WantClosed())
	c.Close()
	p.wantExit(0)
	if got := strings.Count(p.log.String(), "by=gateway why=drain"); got != 4 {
		t.Errorf("lines of tunnels ended by the drain: got %d, want 4", got)
	}
}

// drained plays the end of a drain in two tunnels, one of which has the rest of
// its backend's frame to come: Close 1001 both ways at the boundary, answers, ends.
func drained[ID any](p *process, c muxed[ID], whole, split ID, wholeB, splitB *rawpeer.BackendConn) {
	p.t.Helper()
	bye := closeOf(1001, "")
	toClient, reply := frame(0x88, false, bye), frame(0x88, true, bye)
	p.must(splitB.Write([]byte("llo")))
	p.must(c.WantData(split, append([]byte("llo"), toClient...)))
	p.must(c.Data(split, reply, true))
	p.must(splitB.Write(frame(0x88, false, bye)))
	p.must(splitB.WantFIN())
	p.must(splitB.CloseWrite())
	p.must(c.WantEnd(split))

	p.must(c.WantData(whole, toClient))
	p.must(wantMasked(wholeB, 0x88, bye))
	p.must(c.Data(whole, reply, true))
	p.must(c.WantEnd(whole))
	p.must(wholeB.Write(frame(0x88, false, bye)))
	p.must(wholeB.WantFIN())
	wholeB.Close()
}

// TestStubbornPeers: peers that never answer do not hold the program past the
// drain time, nor past a second signal.
func TestStubbornPeers(t *testing.T) {
	p := runs(t, "", "--drain-time", "1s")
	c := p.h2()
	_, b := p.open(c)
	p.openH1(false)
	p.signal(syscall.SIGTERM)
	p.wantExit(0)
	p.must(c.WantClosed())
	p.must(b.WantEnded())

	p = runs(t, "", "--drain-time", "10m")
	c = p.h2()
	_, b = p.open(c)
	p.signal(syscall.SIGTERM)
	p.must(c.WantGoAway(http2.ErrCodeNo))
	p.signal(syscall.SIGHUP) // ends nothing now either
	p.must(c.Ping())
	p.signal(syscall.SIGTERM)
	p.wantExit(0)
	p.must(c.WantClosed())
	p.must(b.WantEnded())
}

// TestDescriptors: with none left accepting pauses, says so and does not spin;
// it goes on once there are some.
func TestDescriptors(t *testing.T) {
	p := runs(t, `ulimit -n 64; exec "$@"`)
	var conns []net.Conn
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	for range 100 {
		c, err := net.Dial("tcp", p.http)
		p.must(err)
		conns = append(conns, c)
	}
	p.line(`level=WARN msg="accepting pauses" on=http://`)
	for range 3 {
		c, err := net.Dial("tcp", p.https)
		p.must(err)
		conns = append(conns, c)
	}
	p.line(`level=WARN msg="accepting pauses" on=https://`)
	cpu, lines := p.cpu(), strings.Count(p.log.String(), "\n")
	<-time.After(time.Second) // what is measured: a second without descriptors
	if got := p.cpu() - cpu; got > 300*time.Millisecond {
		t.Errorf("processor time in a second without descriptors: got %v, want at most 300ms", got)
	}
	if got := strings.Count(p.log.String(), "\n") - lines; got > 50 {
		t.Errorf("lines in a second without descriptors: got %d, want at most 50", got)
	}
	for _, c := range conns {
		c.Close()
	}
	c := p.h2()
	id, b := p.open(c)
	p.echo(c, id, b)
	p.openH1(false)
	p.openH1(true)
	p.until("descriptors given back", rawpeer.Patience, func(c gateway.Counters) bool { return c.Descriptors < 40 })
}

func (p *process) cpu() time.Duration {
	p.t.Helper()
	d, err := load.CPU(p.cmd.Process.Pid)
	p.must(err)
	return d
}

// TestDrainWithoutDeadline: with --drain-time 0 tunnels are ended at once, with
// Close 1001 and their peers' own time.
func TestDrainWithoutDeadline(t *testing.T) {
	p := runs(t, "", "--drain-time", "0")
	c := p.h2()
	id, b := p.open(c)
	p.must(p.cmd.Process.Signal(syscall.SIGTERM))
	bye := append([]byte{0x88, 2}, 0x03, 0xe9)
	p.must(c.WantData(id, bye))
	p.must(c.Data(id, frame(0x88, true, []byte{0x03, 0xe9}), false))
	p.must(c.WantEnd(id))
	p.must(c.End(id))
	got := make([]byte, 8)
	if _, err := io.ReadFull(b, got); err != nil || got[0] != 0x88 || got[1] != 0x82 {
		t.Errorf("at the backend: got %q %v, want a masked Close", got, err)
	}
	p.must(b.Write([]byte{0x88, 2, 0x03, 0xe9}))
	p.must(b.CloseWrite())
	p.must(b.WantFIN())
	p.wantExit(0)
}

// TestSoftLimit: the soft limit on descriptors is raised to the hard one.
func TestSoftLimit(t *testing.T) {
	p := runs(t, `ulimit -S -n 256; ulimit -H -n 5000; exec "$@"`)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
	p.must(err)
	for line := range bytes.Lines(b) {
		if f := strings.Fields(string(line)); len(f) > 4 && f[0] == "Max" && f[1] == "open" {
			if f[3] != "5000" || f[4] != "5000" {
				t.Errorf("got %q, want the soft limit raised to 5000", line)
			}
			return
		}
	}
	t.Errorf("no line on open files in %q", b)
}
