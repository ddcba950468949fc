// Package real tests the gateway with programs that other people wrote:
// Chromium, ngtcp2's gtlsclient, Node's http2, undici, npm ws, socket.io,
// python3-websockets, curl.
// `make test-real` installs them and runs this package.
package real

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"wsgate/internal/demo"
	"wsgate/internal/gateway"
)

// TestMain says in one line what is missing where nothing was installed.
func TestMain(m *testing.M) {
	if _, err := os.Stat("node/node_modules/.wsgate-lock"); err != nil {
		fmt.Fprintln(os.Stderr, "the foreign programs are not installed; run make test-real, or internal/real/install.sh before go test")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// start runs a gateway before a backend and returns its https and http addresses.
func start(t *testing.T, backend string) (https, http string) {
	t.Helper()
	c := gateway.Default()
	c.Listen = []string{"https://127.0.0.1:0", "http://127.0.0.1:0"}
	c.SelfSigned, c.Backend = true, backend
	log := &bytes.Buffer{}
	g, err := gateway.Start(c, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close()
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", log)
		}
	})
	a := g.Addresses()
	return a[0].String(), a[1].String()
}

// startDemo runs a gateway before the demo's gorilla/websocket backend.
func startDemo(t *testing.T) (https, http string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := demo.New()
	t.Cleanup(b.Close)
	go b.Serve(ln)
	return start(t, "ws://"+ln.Addr().String())
}

// server starts a program that prints its port and returns its address.
func server(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s %q said no port: %v\n%s", name, args, err, &stderr)
	}
	return "127.0.0.1:" + strings.TrimSpace(line)
}

// run runs a program to its end and reads the JSON object it prints.
func run(t *testing.T, name string, args ...string) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, &stderr)
	}
	var v map[string]any
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &v); err != nil {
		t.Fatalf("%s %q printed %q: %v", name, args, out, err)
	}
	return v
}

// want compares members of what a program printed.
func want(t *testing.T, got map[string]any, wanted map[string]any) {
	t.Helper()
	for k, w := range wanted {
		if !reflect.DeepEqual(got[k], w) {
			t.Errorf("%s: got %v, want %v (all: %v)", k, got[k], w, got)
		}
	}
}

func TestNodeHTTP2(t *testing.T) {
	https, _ := startDemo(t)
	want(t, run(t, "node", "node/h2client.mjs", "https://"+https), map[string]any{
		"connectProtocol": true, "get": "HTTP/2", "status": 200.0, "echo": "hello", "close": 1000.0, "code": 0.0, "error": nil,
	})
}

func TestUndici(t *testing.T) {
	https, _ := startDemo(t)
	want(t, run(t, "node", "node/undici.mjs", "wss://"+https+"/echo"), map[string]any{
		"messages": []any{"carried by HTTP/2", "from undici"}, "code": 1000.0, "error": nil,
	})
}

func TestWS(t *testing.T) {
	_, http := startDemo(t)
	backend := server(t, "node", "node/ws.mjs", "server")
	wsHTTPS, wsHTTP := start(t, "ws://"+backend)
	wanted := map[string]any{"messages": 3.0, "big": true, "pong": true, "code": 4001.0, "reason": "as you wish", "error": nil}
	for _, url := range []string{"ws://" + http + "/echo?quiet", "ws://" + wsHTTP + "/", "wss://" + wsHTTPS + "/"} {
		want(t, run(t, "node", "node/ws.mjs", "client", url), wanted)
	}
	// Its server behind HTTP/2.
	want(t, run(t, "node", "node/h2client.mjs", "https://"+wsHTTPS), map[string]any{"status": 200.0, "echo": "hello", "close": 1000.0, "code": 0.0})
}

func TestPython(t *testing.T) {
	backend := server(t, "/usr/bin/python3", "python/peer.py", "server")
	https, http := start(t, "ws://"+backend)
	for _, url := range []string{"ws://" + http + "/", "wss://" + https + "/"} {
		want(t, run(t, "/usr/bin/python3", "python/peer.py", "client", url), map[string]any{
			"subprotocol": "demo", "text": "text", "big": true, "pong": true, "code": 4001.0, "reason": "as you wish",
		})
	}
	want(t, run(t, "node", "node/h2client.mjs", "https://"+https), map[string]any{"status": 200.0, "echo": "hello", "close": 1000.0, "code": 0.0})
}

// TestSocketIO: long polling, then the upgrade, over HTTP/1.1 and over HTTP/2.
func TestSocketIO(t *testing.T) {
	backend := server(t, "node", "node/socketio.mjs", "server")
	https, http := start(t, "http://"+backend)
	for _, url := range []string{"http://" + http, "https://" + https} {
		want(t, run(t, "node", "node/socketio.mjs", "client", url), map[string]any{
			"transports": []any{"polling", "websocket"}, "echo": map[string]any{"n": 42.0}, "error": nil,
		})
	}
	want(t, run(t, "node", "node/socketio.mjs", "poll", "https://"+https), map[string]any{
		"polled": true, "posted": "ok", "joined": true, "status": 200.0, "probed": true, "echo": true,
	})
}

func TestCurl(t *testing.T) {
	https, http := startDemo(t)
	for _, c := range []struct {
		args []string
		body string
	}{
		{[]string{"--http2", "https://" + https + "/version"}, "HTTP/2 200 HTTP/2"},
		{[]string{"--http1.1", "https://" + https + "/version"}, "HTTP/1.1 200 HTTP/1.1"},
		{[]string{"--http2-prior-knowledge", "http://" + http + "/version"}, "HTTP/2 200 HTTP/2"},
		{[]string{"http://" + http + "/version"}, "HTTP/1.1 200 HTTP/1.1"},
		{[]string{"--http2", "https://" + https + "/refuse"}, "no sockets here\nHTTP/2 403"},
	} {
		args := append([]string{"-sk", "--max-time", "20", "-w", "HTTP/%{http_version} %{http_code}"}, c.args...)
		out, err := exec.Command("curl", args...).Output()
		got := string(out)
		if !strings.HasSuffix(c.body, "403") { // body first, then what -w says
			version, status, _ := strings.Cut(c.body, " ")
			code, body, _ := strings.Cut(status, " ")
			c.body = body + version + " " + code
		}
		if err != nil || got != c.body {
			t.Errorf("curl %q: got %q %v, want %q", c.args, got, err, c.body)
		}
	}
	up := exec.Command("curl", "-sk", "--max-time", "20", "--http2", "-X", "POST", "--data-binary", "@-", "-o", "/dev/null", "-w", "%{http_code}", "https://"+https+"/version")
	up.Stdin = io.LimitReader(zeros{}, 32<<10)
	if out, err := up.Output(); string(out) != "405" || err != nil {
		t.Errorf("curl upload that is refused: got %q %v, want 405", out, err)
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
