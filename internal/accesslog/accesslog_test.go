package accesslog

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wsgate/bridge"
)

var (
	sample    = &bridge.Tunnel{ID: 7, Client: &bridge.Client{Remote: netip.MustParseAddrPort("192.0.2.1:5")}, Major: 2, Authority: "h", Path: "/chat", Handshake: 2 * time.Millisecond}
	sampleEnd = &bridge.End{By: "backend", Why: "closed", BytesUp: 12, CloseDown: 4001, Life: 3 * time.Second}
)

func TestTunnelLines(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, "json", slog.LevelInfo)
	tr := l.Trace()
	h := &bridge.Handshake{Path: "/chat?token=secret", Fields: bridge.Fields{{Name: "cookie", Value: "secret"}, {Name: "authorization", Value: "secret"}, {Name: "sec-websocket-protocol", Value: "secret"}}, Key: "secret"}
	tr.Opened(sample, h)
	tr.Done(sample, sampleEnd)
	tr.Refused(sample, &bridge.Refusal{Status: 502, Code: "bad-accept"})
	l.Close()
	if strings.Contains(out.String(), "secret") {
		t.Errorf("a secret is in the log:\n%s", &out)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("lines: got %d, want 3:\n%s", len(lines), &out)
	}
	for n, want := range []map[string]any{
		{"msg": "tunnel open", "id": 7.0, "handshake_ms": 2.0, "path": "/chat", "http": 2.0},
		{"msg": "tunnel end", "by": "backend", "why": "closed", "bytes_up": 12.0, "close_down": 4001.0, "seconds": 3.0},
		{"msg": "handshake refused", "status": 502.0, "reason": "bad-accept"},
	} {
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[n]), &got); err != nil {
			t.Fatalf("line %q: %v", lines[n], err)
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s of line %d: got %v, want %v", k, n, got[k], v)
			}
		}
	}
}

func TestRequestLine(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, "text", slog.LevelInfo)
	h := l.Requests(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Reason(r, "some-code")
		http.NewResponseController(w).Flush()
		w.Write([]byte("hello"))
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/x?token=secret", nil))
	func() {
		defer func() { recover() }()
		l.Requests(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/y", nil))
	}()
	l.Close()
	for _, want := range []string{"method=GET", "path=/x ", "status=200", "bytes=5", "reason=some-code", "path=/y ", "aborted=true"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "secret") {
		t.Errorf("the query is in the log:\n%s", &out)
	}
}

// TestDrops: a full log counts what it drops and never blocks.
func TestDrops(t *testing.T) {
	var out bytes.Buffer
	l := &Log{handler: slog.NewTextHandler(&out, nil), wake: make(chan struct{}, 1), done: make(chan struct{})}
	for range pending + 3 {
		l.Info("x")
	}
	if l.dropped != 3 || len(l.events) != pending {
		t.Errorf("got %d dropped, %d kept; want 3 and %d", l.dropped, len(l.events), pending)
	}
}
