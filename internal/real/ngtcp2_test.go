package real

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// gtlsclient runs ngtcp2's client against a gateway until its requests have ended,
// and returns what it says of them.
func gtlsclient(t *testing.T, addr string, paths []string, args ...string) string {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	args = append(args, "--exit-on-all-streams-close", "--no-quic-dump", "--no-http-dump", host, port)
	for _, p := range paths {
		args = append(args, "https://"+addr+p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "gtlsclient", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("gtlsclient %q: %v\n%s", args, err, tail(out))
	}
	return string(out)
}

func tail(p []byte) []byte { return p[max(0, len(p)-4096):] }

var statusLine = regexp.MustCompile(`\[:status: (\d+)\]`)

// statuses are those of all answers that gtlsclient tells of.
func statuses(out string) string {
	var s []string
	for _, m := range statusLine.FindAllStringSubmatch(out, -1) {
		s = append(s, m[1])
	}
	return strings.Join(s, " ")
}

// TestNgtcp2: ordinary requests of a client whose QUIC and HTTP/3 have nothing in
// common with the gateway's.
func TestNgtcp2(t *testing.T) {
	https, _ := startDemo(t)
	dir := t.TempDir()
	out := gtlsclient(t, https, []string{"/version"}, "--download="+dir)
	if got := statuses(out); got != "200" {
		t.Errorf("GET: got status %q, want 200\n%s", got, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "version")); string(got) != "HTTP/3" || err != nil {
		t.Errorf("GET: got %q %v, want HTTP/3", got, err)
	}
	if got := statuses(gtlsclient(t, https, []string{"/refuse"})); got != "403" {
		t.Errorf("refused: got status %q, want 403", got)
	}
	upload := filepath.Join(dir, "upload")
	if err := os.WriteFile(upload, make([]byte, 300<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := statuses(gtlsclient(t, https, []string{"/version"}, "--http-method=POST", "--data="+upload)); got != "405" {
		t.Errorf("upload that is refused: got status %q, want 405", got)
	}
	out = gtlsclient(t, https, []string{"/version"}, "--nstreams=600")
	if got := strings.Count(out, "[:status: 200]"); got != 600 {
		t.Errorf("600 requests on a connection: got %d answers 200", got)
	}
}

// TestNgtcp2Trouble: loss both ways, and another address in the middle, of a download
// and of an upload; not an octet is lost. Not both at once: where the gateway's
// PATH_CHALLENGE is what gets lost, this client falls silent (decision 60); the relay
// of internal/e2e has loss and moves together.
func TestNgtcp2Trouble(t *testing.T) {
	want := make([]byte, 3<<20)
	rand.Read(want)
	got := make(chan []byte, 1)
	be := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			p, _ := io.ReadAll(r.Body) // what is missing shows below
			got <- p
			return
		}
		w.Write(want)
	}))
	defer be.Close()
	https, _ := start(t, be.URL)
	dir := t.TempDir()
	upload := filepath.Join(dir, "upload")
	if err := os.WriteFile(upload, want, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, trouble := range map[string][]string{
		"loss":            {"--rx-loss=0.02", "--tx-loss=0.02"},
		"another address": {"--change-local-addr=20ms"},
	} {
		trouble = append(trouble, "--download="+dir)
		if s := statuses(gtlsclient(t, https, []string{"/big"}, trouble...)); s != "200" {
			t.Errorf("%s: download: got status %q, want 200", name, s)
		}
		big := filepath.Join(dir, "big")
		if p, err := os.ReadFile(big); !bytes.Equal(p, want) {
			t.Errorf("%s: download: got %d octets %v, want those %d of the server", name, len(p), err, len(want))
		}
		if err := os.Remove(big); err != nil {
			t.Error(err)
		}
		if s := statuses(gtlsclient(t, https, []string{"/up"}, append(trouble, "--http-method=POST", "--data="+upload)...)); s != "200" {
			t.Errorf("%s: upload: got status %q, want 200", name, s)
		}
		if p := <-got; !bytes.Equal(p, want) {
			t.Errorf("%s: upload: got %d octets, want those %d of the client", name, len(p), len(want))
		}
	}
}

// TestNgtcp2EarlyData: a client that resumes its session may send a request in 0-RTT
// packets, which somebody could replay (RFC 8470). They are refused, and the request
// is served once, after the handshake.
func TestNgtcp2EarlyData(t *testing.T) {
	var asked atomic.Int64
	be := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			asked.Add(1)
		}
	}))
	defer be.Close()
	https, _ := start(t, be.URL)
	dir := t.TempDir()
	session := []string{"--session-file=" + filepath.Join(dir, "session"), "--tp-file=" + filepath.Join(dir, "parameters")}
	if got := statuses(gtlsclient(t, https, []string{"/first"}, session...)); got != "200" {
		t.Fatalf("first request: got status %q, want 200", got)
	}
	out := gtlsclient(t, https, []string{"/early"}, session...)
	if !strings.Contains(out, "type=0RTT") {
		t.Fatalf("the client sends no 0-RTT packet:\n%s", out)
	}
	if !strings.Contains(out, "Early data was rejected by server") {
		t.Errorf("0-RTT is not refused:\n%s", out)
	}
	if got, n := statuses(out), asked.Load(); got != "200" || n != 1 {
		t.Errorf("request in 0-RTT: got status %q and %d requests at the server, want 200 and 1", got, n)
	}
}
