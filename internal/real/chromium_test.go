package real

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"net"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
)

// spki is what Chromium wants to hear of a self-signed certificate.
func spki(t *testing.T, addr string) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sum := sha256.Sum256(c.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// browse lets Chromium load the demo's page so many times and play its stories.
func browse(t *testing.T, gateway, url string, loads int, args ...string) map[string]any {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	arg, _ := json.Marshal(map[string]any{
		"url": url, "spki": spki(t, gateway), "chromium": path, "loads": loads, "args": args,
		"netlog": filepath.Join(dir, "net.json"), "profile": filepath.Join(dir, "profile"),
	})
	return run(t, "node", "node/browser.mjs", string(arg))
}

// wantStories compares what the page saw over an HTTP version, "2" or "3": the page
// itself, 20 sockets, 1 MiB, and how sockets end; and by the net log that all of
// them were streams of one connection.
func wantStories(t *testing.T, got map[string]any, version string, loads int) {
	t.Helper()
	pages := make([]any, loads)
	for i := range pages {
		pages[i] = "h" + version
	}
	want(t, got, map[string]any{
		"pages":       pages,
		"shown":       "HTTP/" + version,
		"states":      []any{"open over HTTP/" + version, "open over HTTP/" + version},
		"big":         map[string]any{"same": true, "code": 1000.0},
		"binary":      true,
		"subprotocol": "demo",
		"serverClose": map[string]any{"code": 4001.0, "clean": true, "reason": "as you wish"},
		"refused":     map[string]any{"opened": false, "code": 1006.0},
	})
	if e, _ := got["extensions"].(string); !strings.HasPrefix(e, "permessage-deflate") {
		t.Errorf("extensions: got %q, want permessage-deflate", e)
	}
	twenty, _ := got["twenty"].([]any)
	if len(twenty) != 20 {
		t.Fatalf("sockets: got %d, want 20", len(twenty))
	}
	for i, s := range twenty {
		if !reflect.DeepEqual(s, []any{true, 1000.0, true}) {
			t.Errorf("socket %d: got [echoed code clean] %v, want [true 1000 true]", i, s)
		}
	}
	// 2 of each page, 20, then big, binary, subprotocol, server close, refused.
	log, _ := got["sockets"].(map[string]any)
	wanted := map[string]any{"h2": []any{}, "h3": []any{}, "upgrades": 0.0, "refused": map[string]any{"h2": 0.0, "h3": 0.0}}
	wanted["h"+version] = []any{float64(2*loads + 25)}
	wanted["refused"].(map[string]any)["h"+version] = 1.0
	want(t, log, wanted)
	t.Logf("chromium: WebSocket streams by HTTP version and connection: %v", log)
}

func TestChromium(t *testing.T) {
	https, _ := startDemo(t)
	_, port, _ := net.SplitHostPort(https)
	got := browse(t, https, "https://localhost:"+port+"/", 1, "--disable-quic")
	wantStories(t, got, "2", 1)
}

// overH3 lets Chromium open WebSockets over HTTP/3, which it does not by itself.
const overH3 = "--enable-features=EnableWebsocketsOverHttp3"

func TestChromiumHTTP3(t *testing.T) {
	https, _ := startDemo(t)
	_, port, _ := net.SplitHostPort(https)
	got := browse(t, https, "https://localhost:"+port+"/", 1, overH3,
		"--origin-to-force-quic-on=localhost:"+port, "--host-resolver-rules=MAP localhost 127.0.0.1")
	wantStories(t, got, "3", 1)
}

// TestChromiumUDPBlocked: Alt-Svc announces HTTP/3, but what the browser sends there
// gets no answer. It falls back to HTTP/2, and its sockets work.
func TestChromiumUDPBlocked(t *testing.T) {
	https, _ := startDemo(t)
	_, port, _ := net.SplitHostPort(https)
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var swallowed atomic.Int64
	go func() {
		p := make([]byte, 2048)
		for {
			if _, _, err := silent.ReadFrom(p); err != nil {
				return
			}
			swallowed.Add(1)
		}
	}()
	_, deaf, _ := net.SplitHostPort(silent.LocalAddr().String())
	// The origin's TCP port leads to the gateway, the port that Alt-Svc names to
	// the silent one.
	got := browse(t, https, "https://wsgate.test:4443/", 2, overH3,
		"--host-resolver-rules=MAP wsgate.test:4443 127.0.0.1:"+port+",MAP wsgate.test:"+port+" 127.0.0.1:"+deaf)
	wantStories(t, got, "2", 2)
	log, _ := got["sockets"].(map[string]any)
	if tried, _ := log["quic"].(float64); tried == 0 || swallowed.Load() == 0 {
		t.Errorf("QUIC that the browser tried: got %v connections, %d packets, want some", tried, swallowed.Load())
	}
	t.Logf("chromium: %v QUIC connections tried, %d packets unanswered", log["quic"], swallowed.Load())
}
